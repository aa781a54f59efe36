//! The store's directory, held open.
//!
//! Every name is resolved relative to the open directory and without following links, so that
//! nothing which happens to the path later can redirect a write. No call here is made twice for the
//! same purpose: a sync that failed has lost what it was to sync, and to repeat it would only hide
//! that.

#[cfg(test)]
use std::sync::Mutex;

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::store::StoreError;

/// A directory that is this user's alone.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Actions that fail, so that tests can see what remains.
    #[cfg(test)]
    pub(super) failing: Mutex<Vec<&'static str>>,
    /// How often it was listed.
    #[cfg(test)]
    pub(super) listings: Mutex<u32>,
}

impl Dir {
    /// Opens the directory at `path`; makes it first if it is not there, and missing parents too,
    /// all with mode 0700.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        if let Some(dir) = Self::open(path)? {
            return Ok(dir);
        }
        let path = without_trailing_slash(path);
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|p| !p.as_os_str().is_empty() && p.symlink_metadata().is_err())
            .collect();
        for made in missing.iter().rev() {
            make(made).map_err(|source| error("create", made, source))?;
        }
        Self::open(&path)?.ok_or_else(|| error("open", &path, Errno::NOENT))
    }

    /// Opens the directory at `path`, or `None` if there is nothing.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let path = without_trailing_slash(path);
        // First by name, since neither a link nor another user's directory can be opened.
        match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            found => check(&path, &found.map_err(|e| error("open", &path, e))?, FileType::Directory)?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| error("open", &path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| error("open", &path, e))?;
        check(&path, &stat, FileType::Directory)?;
        Ok(Some(Self {
            fd,
            path,
            #[cfg(test)]
            failing: Mutex::default(),
            #[cfg(test)]
            listings: Mutex::default(),
        }))
    }

    /// Where this is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file `name` in it is; the directory itself if `name` is empty.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    /// `source` with what was being done, and to what.
    pub(super) fn error(&self, action: &'static str, name: &str, source: impl Into<io::Error>) -> StoreError {
        error(action, &self.path_of(name), source)
    }

    /// Takes the lock of the file `name`, for as long as the descriptor lives.
    pub(super) fn lock(&self, name: &str) -> Result<OwnedFd, StoreError> {
        if self.stat(name)?.is_some() {
            self.check(name)?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.attempt("open", name, || rustix::fs::openat(&self.fd, name, flags, PRIVATE))?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(fd),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path: self.path_of(name) }),
            Err(errno) => Err(self.error("lock", name, errno)),
        }
    }

    /// Goes through all that a save does with a file of no consequence.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        self.write_new(PROBE_TMP, &[0; 4096])?;
        self.rename(PROBE_TMP, PROBE)?;
        self.remove(PROBE)?;
        self.sync()
    }

    /// The names of all that is in it; what is not UTF-8 is none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        self.attempt("list", "", || {
            #[cfg(test)]
            {
                *self.listings.lock().unwrap() += 1;
            }
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.fd)? {
                names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
            }
            Ok::<_, Errno>(names)
        })
    }

    /// Refuses the file `name` if it is not a plain file that is this user's alone.
    pub(super) fn check(&self, name: &str) -> Result<(), StoreError> {
        let stat = self.stat(name)?.ok_or_else(|| self.error("open", name, Errno::NOENT))?;
        check(&self.path_of(name), &stat, FileType::RegularFile)
    }

    /// The content of the file `name`, or `None` if that is longer than `limit`.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.attempt("read", name, || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?);
            // All of it reserved at once, so that growing leaves no copy behind.
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(limit).min(limit);
            let mut content = Zeroizing::new(Vec::with_capacity(length + 1));
            file.take(limit as u64 + 1).read_to_end(&mut content)?;
            Ok::<_, io::Error>((content.len() <= limit).then_some(content))
        })
    }

    /// Makes the file `name`, which must not exist yet, and has its content on disk on return.
    pub(super) fn write_new(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = self.attempt("create", name, || {
            let file = File::from(rustix::fs::openat(&self.fd, name, flags, PRIVATE)?);
            // Whatever the umask or the directory's default access list have made of it.
            rustix::fs::fchmod(&file, PRIVATE)?;
            Ok::<_, Errno>(file)
        })?;
        self.attempt("write", name, || file.write_all(content))?;
        self.attempt("sync", name, || rustix::fs::fsync(&file))
    }

    /// Renames a file. Durable only after [`Dir::sync`].
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.attempt("rename", from, || rustix::fs::renameat(&self.fd, from, &self.fd, to))
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.attempt("remove", name, || rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()))
    }

    /// Has the names on disk: what was made, renamed and removed.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.attempt("sync the directory", "", || rustix::fs::fsync(&self.fd))
    }

    fn stat(&self, name: &str) -> Result<Option<Stat>, StoreError> {
        match rustix::fs::statat(self.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("open", name, errno)),
        }
    }

    fn attempt<T, E: Into<io::Error>>(
        &self,
        action: &'static str,
        name: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, StoreError> {
        #[cfg(test)]
        if self.failing.lock().unwrap().contains(&action) {
            return Err(self.error(action, name, Errno::IO));
        }
        work().map_err(|source| self.error(action, name, source))
    }
}

/// Makes one directory and has its name on disk.
fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok(rustix::fs::fsync(File::open(parent)?)?)
}

/// With a slash at the end, a link would be followed without being noticed.
fn without_trailing_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Refuses what is not of this type, or not this user's alone.
fn check(path: &Path, stat: &Stat, wanted: FileType) -> Result<(), StoreError> {
    let is_dir = wanted == FileType::Directory;
    let refuse =
        |problem: String, remedy: String| Err(StoreError::Unsafe { path: path.to_owned(), problem, remedy });
    let (found, euid) = (FileType::from_raw_mode(stat.st_mode), rustix::process::geteuid().as_raw());
    let mode = stat.st_mode & 0o7777;
    if found == FileType::Symlink {
        let remedy = if is_dir { "set store.path to the directory itself" } else { "remove the link" };
        return refuse("is a symbolic link".into(), remedy.into());
    }
    if found != wanted {
        let (kind, remedy) =
            if is_dir { ("directory", "set store.path to one") } else { ("regular file", "move it away") };
        return refuse(format!("is not a {kind}"), remedy.into());
    }
    if stat.st_uid != euid {
        let problem = format!("belongs to user {}, and bearerd runs as user {euid}", stat.st_uid);
        return refuse(problem, format!("check it, then chown {euid} {}", path.display()));
    }
    if mode & 0o077 != 0 {
        let right = if is_dir { "700" } else { "600" };
        let problem = format!("others have access to it (mode {mode:04o})");
        return refuse(problem, format!("check it, then chmod {right} {}", path.display()));
    }
    Ok(())
}

fn error(action: &'static str, path: &Path, source: impl Into<io::Error>) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source: source.into() }
}

/// Of the probe, before and after it is renamed. A crash may leave either.
pub(super) const PROBE_TMP: &str = "probe.tmp";
pub(super) const PROBE: &str = "probe";
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
