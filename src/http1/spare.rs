//! Header maps that have been used.
//!
//! A map costs three allocations to make and to give back, and every exchange needs two. One that
//! has been emptied costs none.

use std::cell::RefCell;

use http::HeaderMap;

/// How many a runtime keeps. In a burst more are made.
const KEPT: usize = 64;
/// How much room one that is kept may have, in fields.
const MOST: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map, for about `fields` fields.
pub fn header_map(fields: usize) -> HeaderMap {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| HeaderMap::with_capacity(fields.max(8)))
}

/// Keeps `map` for the next message.
pub fn give_back(mut map: HeaderMap) {
    if (1..=MOST).contains(&map.capacity()) {
        map.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(map);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HOST;

    use super::*;

    #[test]
    fn a_map_is_empty_when_it_is_used_again() {
        let mut map = header_map(3);
        map.insert(HOST, HeaderValue::from_static("a"));
        map.append(HOST, HeaderValue::from_static("b"));
        give_back(map);
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
        let map = header_map(3);
        assert!(map.is_empty() && map.capacity() > 0 && map.get(HOST).is_none());
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
    }

    #[test]
    fn neither_many_maps_are_kept_nor_large_ones() {
        give_back(HeaderMap::new());
        give_back(HeaderMap::with_capacity(10 * MOST));
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
        for _ in 0..2 * KEPT {
            give_back(HeaderMap::with_capacity(1));
        }
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
    }
}
