//! Why a store could not do its work.

use std::path::PathBuf;

/// Why a store could not do its work. No variant holds anything of a record's content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused. Waiting may help (a full disk) or not (a read-only mount).
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was being done, such as `write` or `sync`.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process holds the directory's lock.
    #[error("{}: in use by another bearerd; give each its own store.path", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file or directory could be read, changed or replaced by somebody else. The operator must
    /// mend it.
    #[error("{}: {problem}; {remedy}", path.display())]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Another process has put a token pair in place of the one that this record descends from, or has
    /// learnt more of it. Nothing was changed.
    #[error("another replica has changed the record in the meantime")]
    Overtaken,
    /// There are records, and none of them can be used. The operator must decide; nothing was
    /// touched.
    #[error("{}: {problem}; {remedy}", path.display())]
    Unusable {
        /// The newest of the files, or the newest that is not just damaged.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The database cannot be reached, or takes no writes, or cannot do its work now. Waiting may
    /// help.
    #[error("{database}: {problem}")]
    Unreachable {
        /// `host:port/name`.
        database: String,
        /// What is the matter.
        problem: String,
    },
    /// The database refuses, and goes on refusing until the operator has mended something.
    #[error("{database}: {problem}; {remedy}")]
    Database {
        /// `host:port/name`.
        database: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
}
