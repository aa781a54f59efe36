//! What all sections of one file share while it is being read.

use std::cell::RefCell;
use std::collections::HashSet;
use std::env::VarError;
use std::path::{Path, PathBuf};

use super::Source;
use super::errors::Errors;
use super::show::{Group, Listing};

/// Looks a variable up. A parameter, so that tests need not change the process's environment.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// The file, and what reading it has brought to light. The cells are there because a partner's
/// section and its subsections are open at the same time; no borrow outlives a method.
pub(super) struct Context<'a> {
    source: &'a Source,
    env: Env<'a>,
    /// Where each line ends: every key is asked for its line, and to count from the top each time
    /// would take seconds where there are thousands of partners.
    ends: Vec<usize>,
    problems: RefCell<Vec<(usize, String)>>,
    /// The secrets given by value: line and full name of the key.
    by_value: RefCell<Vec<(usize, String)>>,
    files: RefCell<Vec<PathBuf>>,
    known_files: RefCell<HashSet<PathBuf>>,
    groups: RefCell<Vec<Group>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(source: &'a Source, env: Env<'a>) -> Self {
        Self {
            source,
            env,
            ends: source
                .text
                .bytes()
                .enumerate()
                .filter(|(_, byte)| *byte == b'\n')
                .map(|(at, _)| at)
                .collect(),
            problems: RefCell::default(),
            by_value: RefCell::default(),
            files: RefCell::default(),
            known_files: RefCell::default(),
            groups: RefCell::default(),
        }
    }

    /// The line on which the byte at `offset` is, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }

    /// A path of the file's, which is relative to the file's directory.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.source.dir().join(path)
    }

    pub(super) fn env(&self, name: &str) -> Result<String, VarError> {
        (self.env)(name)
    }

    pub(super) fn problem(&self, line: usize, text: String) {
        self.problems.borrow_mut().push((line, text));
    }

    pub(super) fn secret_by_value(&self, line: usize, name: String) {
        self.by_value.borrow_mut().push((line, name));
    }

    /// Remembers a file whose change is a change of the configuration.
    pub(super) fn watch(&self, path: &Path) {
        if self.known_files.borrow_mut().insert(path.to_owned()) {
            self.files.borrow_mut().push(path.to_owned());
        }
    }

    /// Takes the listing of a section that has been read. An empty one takes its place in the
    /// order.
    pub(super) fn list(&self, group: Group) {
        self.groups.borrow_mut().push(group);
    }

    /// The files to watch and the listing, or everything that was wrong.
    pub(super) fn finish(self) -> Result<(Vec<PathBuf>, Listing), Errors> {
        let mut problems = self.problems.into_inner();
        let mode = self.source.mode;
        if mode & 0o007 != 0
            && let Some((line, name)) = self.by_value.into_inner().into_iter().min()
        {
            // One message: the remedy is the same for all of them.
            let expected = "expected a file closed to others around a secret";
            let file = self.source.path().display();
            problems.push((line, format!("{name}: {expected}, found mode {mode:04o}; chmod 640 {file}")));
        }
        if problems.is_empty() {
            return Ok((self.files.into_inner(), Listing(self.groups.into_inner())));
        }
        Err(Errors::semantic(self.source, problems))
    }
}

/// Where the byte at `offset` of `text` is, both counted from 1, the column in characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}
