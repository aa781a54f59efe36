//! One table of the file, read key by key.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::context::Context;
use super::show::Group;
use super::{address, value};

/// A table that is being read. Whoever reads takes keys out; what is left at the end is unknown.
///
/// Every wrong value is reported to the [`Context`] and a default, or nothing, goes in its place,
/// so that reading goes on and finds the next one. The result counts only if nothing was reported.
#[must_use = "unknown keys are found by `finish`"]
pub(super) struct Section<'c, 'i> {
    pub(super) cx: &'c Context<'c>,
    /// What messages begin with: empty, or `partner "NAME": `.
    lead: String,
    /// The name within that: `server`, `login`, or empty for a partner itself.
    name: String,
    /// Where the table begins.
    line: usize,
    table: DeTable<'i>,
    known: Vec<String>,
    /// Where each key stands that was there and has been taken.
    lines: BTreeMap<String, usize>,
    group: Group,
}

impl<'c, 'i> Section<'c, 'i> {
    /// The whole file.
    pub(super) fn root(cx: &'c Context<'c>, table: DeTable<'i>) -> Self {
        Self::new(cx, String::new(), String::new(), 1, table, String::new())
    }

    /// The `index`th `[[partner]]`, counted from 0, by its number until its name is known.
    pub(super) fn partner(cx: &'c Context<'c>, index: usize, line: usize, table: DeTable<'i>) -> Self {
        let lead = format!("partner #{}: ", index + 1);
        Self::new(cx, lead, String::new(), line, table, "[[partner]]".to_owned())
    }

    fn new(
        cx: &'c Context<'c>,
        lead: String,
        name: String,
        line: usize,
        table: DeTable<'i>,
        title: String,
    ) -> Self {
        let group = Group { title, rows: Vec::new() };
        Self { cx, lead, name, line, table, known: Vec::new(), lines: BTreeMap::new(), group }
    }

    /// From here on messages name the partner.
    pub(super) fn named(&mut self, name: &str) {
        self.lead = format!("partner \"{name}\": ");
    }

    /// Takes the table `key` out, and whether it was there; if not, an empty one.
    pub(super) fn section(&mut self, key: &'static str) -> (Self, bool) {
        let (table, there) = match self.take(key) {
            Some(DeValue::Table(table)) => (table, true),
            Some(other) => {
                self.wrong(key, "a table", value::kind(&other));
                (DeTable::new(), false)
            }
            None => (DeTable::new(), false),
        };
        let title = match self.lead.is_empty() {
            true => format!("[{key}]"),
            false => format!("[partner.{key}]"),
        };
        (Self::new(self.cx, self.lead.clone(), key.to_owned(), self.line_of(key), table, title), there)
    }

    /// Takes the value of `key` out.
    pub(super) fn take(&mut self, key: &str) -> Option<DeValue<'i>> {
        self.known.push(key.to_owned());
        let (name, value) = self.table.remove_entry(key)?;
        self.lines.insert(key.to_owned(), self.cx.line(name.span().start));
        Some(value.into_inner())
    }

    /// Takes everything that is left out, in the order of the file, with its line.
    pub(super) fn take_rest(&mut self) -> Vec<(String, usize, DeValue<'i>)> {
        let rest = std::mem::take(&mut self.table);
        let mut rest: Vec<(Spanned<_>, Spanned<_>)> = rest.into_iter().collect();
        rest.sort_by_key(|(key, _)| key.span().start);
        rest.into_iter()
            .map(|(key, value)| {
                let line = self.cx.line(key.span().start);
                (key.into_inner().into_owned(), line, value.into_inner())
            })
            .collect()
    }

    /// Whether `key`, which has been asked for, was there.
    pub(super) fn given(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// Says that `key` was there in another form, at `line`.
    pub(super) fn mark_given(&mut self, key: &str, line: usize) {
        self.lines.insert(key.to_owned(), line);
    }

    /// The line of `key` if it was there, else that of the table's head.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.lines.get(key).copied().unwrap_or(self.line)
    }

    /// The full name of `key`, as messages have it.
    pub(super) fn full_name(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => format!("{}{key}", self.lead),
            name => format!("{}{name}.{key}", self.lead),
        }
    }

    /// Reports that the value of `key` will not do.
    pub(super) fn wrong(&self, key: &str, expected: impl Display, found: impl Display) {
        self.wrong_at(self.line_of(key), key, expected, found);
    }

    /// Reports that something at `line` in `key` will not do.
    pub(super) fn wrong_at(&self, line: usize, key: &str, expected: impl Display, found: impl Display) {
        self.cx.problem(line, format!("{}: expected {expected}, found {found}", self.full_name(key)));
    }

    /// Reports `key` if it was not there.
    pub(super) fn require(&self, key: &str, expected: impl Display) {
        if !self.given(key) {
            self.wrong(key, expected, "nothing");
        }
    }

    /// Lists `key` with its value in force, in place of what has been listed for it before.
    pub(super) fn row(&mut self, key: &str, value: impl Display) {
        self.group.rows.retain(|(known, _)| known != key);
        self.group.rows.push((key.to_owned(), value.to_string()));
    }

    /// Lists a remark.
    pub(super) fn remark(&mut self, text: &str) {
        self.group.rows.push((String::new(), text.to_owned()));
    }

    /// A string that `parse` understands; its error says what it found instead of `expected`.
    pub(super) fn text<T>(
        &mut self,
        key: &str,
        expected: impl Display,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = match self.take(key)? {
            DeValue::String(text) => match parse(&text) {
                Ok(parsed) => return Some(parsed),
                Err(found) => found,
            },
            other => value::shown(&other),
        };
        self.wrong(key, expected, found);
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        let value = self.flag_if_given(key).unwrap_or(default);
        self.row(key, value);
        value
    }

    /// `true` or `false`, or nothing. Not listed.
    pub(super) fn flag_if_given(&mut self, key: &str) -> Option<bool> {
        match self.take(key)? {
            DeValue::Boolean(value) => return Some(value),
            other => self.wrong(key, "true or false", value::shown(&other)),
        }
        None
    }

    /// An integer within `range`.
    pub(super) fn count(&mut self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let value = match self.take(key) {
            Some(value) => value::count(&value).filter(|count| range.contains(count)).unwrap_or_else(|| {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, expected, value::shown(&value));
                default
            }),
            None => default,
        };
        self.row(key, value);
        value
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let show = humantime::format_duration;
        let expected =
            format!("a duration from {} to {} such as \"30s\"", show(*range.start()), show(*range.end()));
        let value = self.text(key, expected, |text| value::duration(text, &range)).unwrap_or(default);
        self.row(key, show(value));
        value
    }

    /// A size of at most `max` bytes.
    pub(super) fn size(&mut self, key: &str, max: usize, default: usize) -> usize {
        let expected = format!("a size from 0B to {} such as \"64KiB\"", value::size_shown(max));
        let value = self.text(key, expected, |text| value::size(text, max)).unwrap_or(default);
        self.row(key, value::size_shown(value));
        value
    }

    /// One of a few words, the first of which is the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, default: &str, words: &[(&str, T)]) -> Option<T> {
        let list: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = match list.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => list.concat(),
        };
        let find = |wanted: &str| words.iter().find(|(word, _)| *word == wanted).copied();
        let (word, value) = self
            .text(key, expected, |text| find(text).ok_or_else(|| value::quoted(text)))
            .or_else(|| find(default))?;
        self.row(key, word);
        Some(value)
    }

    /// `ca_file`, which has a certificate in it; watched, because it may be rotated.
    pub(super) fn ca_file(&mut self) -> Option<PathBuf> {
        const MAX: u64 = 1024 * 1024;
        const EXPECTED: &str = "a readable PEM file with a certificate";
        let cx = self.cx;
        let path = self.text("ca_file", EXPECTED, |text| {
            let path = cx.path(address::is_path(text)?.to_str().unwrap_or_default());
            cx.watch(&path);
            let problem = |what: &str| format!("{}: {what}", value::path_quoted(&path));
            let meta = std::fs::metadata(&path).map_err(|error| problem(&error.to_string()))?;
            if !meta.is_file() || meta.len() > MAX {
                return Err(problem("not a regular file of at most 1 MiB"));
            }
            let pem = std::fs::read(&path).map_err(|error| problem(&error.to_string()))?;
            let mark = b"-----BEGIN CERTIFICATE-----";
            match pem.windows(mark.len()).any(|window| window == mark) {
                true => Ok(path),
                false => Err(problem("no certificate in it")),
            }
        })?;
        self.row("ca_file", path.display());
        Some(path)
    }

    /// Reports every key that nobody has asked for, and hands in the listing.
    pub(super) fn finish(mut self) {
        for (key, line, _) in self.take_rest() {
            let name = match self.name.as_str() {
                "" => self.lead.clone(),
                name => format!("{}{name}: ", self.lead),
            };
            let hint = match value::nearest(&key, &self.known) {
                Some(known) => format!("; did you mean \"{known}\"?"),
                None => String::new(),
            };
            self.cx.problem(line, format!("{name}unknown key {}{hint}", value::quoted(&key)));
        }
        self.cx.list(self.group);
    }
}
