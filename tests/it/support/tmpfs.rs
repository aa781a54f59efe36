//! A small file system in memory, that can be filled or made read-only.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs, unmounted when it is dropped.
pub(crate) struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// With room for `size`, such as `64k`.
    #[track_caller]
    pub(crate) fn new(size: &str) -> Self {
        let dir = TempDir::new().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "bearerd-test"], dir.path());
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.filling()).unwrap();
        let full = (0..1 << 20).find_map(|_| file.write(&[b'x'; 512]).err()).unwrap();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Gives back what `fill` took.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filling()).unwrap();
    }

    /// Nothing may be open for writing.
    #[track_caller]
    pub(crate) fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], self.path());
    }

    #[track_caller]
    pub(crate) fn make_writable(&self) {
        mount(&["-o", "remount,rw"], self.path());
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // At once for everybody else, and for what still has it open, when that ends.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}

#[track_caller]
fn mount(args: &[&str], at: &Path) {
    let output = Command::new("mount").args(args).arg(at).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test mounts a tmpfs, so run it as root: {said}");
}
