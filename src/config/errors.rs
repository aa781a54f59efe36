//! What is wrong with a configuration, for the operator.

use std::fmt;
use std::path::Path;

use super::Source;
use super::context::line_and_column;

/// Everything that is wrong with a configuration, in the order of its lines.
///
/// Each message is one line that begins with the file and, where there is one, the line:
/// `config.toml:14: partner "acme": encryption_key: expected 64 hex digits, found 62 digits`.
/// No message quotes a secret. `Display` prints one message per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<String>);

impl Errors {
    /// The messages, at least one.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The file as a whole cannot be used.
    pub(super) fn bare(file: &Path, what: &dyn fmt::Display) -> Self {
        Self(vec![format!("{}: {what}", file.display())])
    }

    /// The text is not TOML. The library's `Display` would print the line, which may hold a secret;
    /// its message is made of fixed texts.
    pub(super) fn syntax(source: &Source, error: &toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = line_and_column(&source.text, at);
        Self(vec![format!("{}:{line}:{column}: {}", source.path().display(), error.message())])
    }

    /// The problems found, each with its line.
    pub(super) fn semantic(source: &Source, mut problems: Vec<(usize, String)>) -> Self {
        problems.sort_by_key(|(line, _)| *line);
        let file = source.path().display();
        Self(problems.into_iter().map(|(line, text)| format!("{file}:{line}: {text}")).collect())
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Errors {}
