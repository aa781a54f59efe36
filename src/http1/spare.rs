//! What has been used and waits to be used again.

/// A stack of what is dear to make. What nobody has needed for a while is freed.
#[derive(Debug)]
pub struct Spare<T> {
    all: Vec<T>,
    /// How many have not been needed since the last sweep: those at the bottom.
    unused: usize,
    /// How many are kept.
    most: usize,
}

impl<T> Spare<T> {
    /// Keeps up to `most`.
    pub const fn new(most: usize) -> Self {
        Self { all: Vec::new(), unused: 0, most }
    }

    /// One of them, if there is one.
    pub fn take(&mut self) -> Option<T> {
        let one = self.all.pop();
        self.unused = self.unused.min(self.all.len());
        one
    }

    /// Keeps `one` for the next who needs one.
    pub fn keep(&mut self, one: T) {
        if self.all.len() < self.most {
            self.all.push(one);
        }
    }

    /// Frees those that nobody has needed since the last time; to be called now and then.
    pub fn sweep(&mut self) {
        self.all.drain(..self.unused);
        self.unused = self.all.len();
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_not_needed_between_two_sweeps_are_freed() {
        let mut spare = Spare::new(10);
        (0..8).for_each(|one| spare.keep(one));
        // Just kept, so not yet known to be too many.
        spare.sweep();
        assert_eq!(spare.len(), 8);
        let needed: Vec<i32> = (0..3).filter_map(|_| spare.take()).collect();
        assert_eq!(needed, [7, 6, 5]);
        needed.into_iter().for_each(|one| spare.keep(one));
        spare.sweep();
        assert_eq!(spare.len(), 3);
        // The oldest go first.
        assert_eq!(spare.take(), Some(5));
        spare.sweep();
        spare.sweep();
        assert_eq!((spare.len(), spare.take()), (0, None));
    }

    #[test]
    fn no_more_are_kept_than_is_said() {
        let mut spare = Spare::new(2);
        (0..5).for_each(|one| spare.keep(one));
        assert_eq!((spare.len(), spare.take()), (2, Some(1)));
    }
}
