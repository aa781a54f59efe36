//! What the process asks of the kernel at start.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Keeps the process's memory, which holds tokens and keys, out of core dumps and away from other
/// processes of the same user.
///
/// Both are needed: a kernel that pipes core dumps to a program ignores the limit, and one without
/// `PR_SET_DUMPABLE` in the way lets a debugger attach. `/proc/self` stays readable to the process.
pub fn harden() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Raises the soft limit on open descriptors to the hard one, and returns it; `u64::MAX` if there
/// is none.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_and_can_still_describe_itself() {
        harden().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert!(crate::metrics::Metrics::new("1").encode().contains("process_open_fds"));
    }

    #[test]
    fn the_soft_limit_on_descriptors_becomes_the_hard_one() {
        let limit = raise_descriptor_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
    }
}
