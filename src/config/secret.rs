//! Secrets: by value, from a file or from the environment.

use std::env::VarError;
use std::path::PathBuf;

use secrecy::SecretString;
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::section::Section;
use super::value::{kind, path_quoted, quoted, shape};
use crate::partner::envelope::EnvelopeKey;
use crate::secret_file;
use crate::store::StoreKey;
use crate::token::RefreshToken;

/// A secret that has been found, and where.
struct Found {
    text: Zeroizing<String>,
    /// The key under which it was, such as `refresh_token_file`.
    key: String,
    /// For messages: empty, or where the text came from.
    place: String,
    /// The file that it was in, if it was in one.
    file: Option<PathBuf>,
}

impl Section<'_, '_> {
    /// The secret `key`, given as `key`, `key_file` or `key_env`. `parse` says what it found
    /// instead of `expected` without quoting it: best by [`shape`].
    pub(super) fn secret<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.secret_and_file(key, expected, parse).map(|(secret, _)| secret)
    }

    /// The same, and the file that it was in, if it was in one: for who reads that again.
    pub(super) fn secret_and_file<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<(T, Option<PathBuf>)> {
        let found = self.find_secret(key)?;
        parse(&found.text)
            .map_err(|wrong| self.wrong(&found.key, format!("{expected}{}", found.place), wrong))
            .ok()
            .map(|secret| (secret, found.file))
    }

    /// Reports the secret `key` if it was not there in any form.
    pub(super) fn require_secret(&self, key: &str, expected: &str) {
        if !self.given(key) {
            self.wrong(key, expected, format!("none of {key}, {key}_file and {key}_env"));
        }
    }

    fn find_secret(&mut self, key: &str) -> Option<Found> {
        let names = [key.to_owned(), format!("{key}_file"), format!("{key}_env")];
        let [value, file, env] = names.each_ref().map(|name| self.take(name).map(hidden));
        let lines = names.iter().filter(|name| self.given(name)).map(|name| self.line_of(name));
        let lines: Vec<usize> = lines.collect();
        let last = lines.iter().max().copied()?;
        if value.is_some() {
            self.cx.secret_by_value(self.line_of(key), self.full_name(key));
        }
        self.mark_given(key, last);
        if lines.len() > 1 {
            let expected = format!("only one of {key}, {key}_file and {key}_env");
            self.wrong_at(last, key, expected, format!("{} of them", lines.len()));
            return None;
        }
        let [name, name_file, name_env] = names;
        if let Some(value) = value {
            let text = value.map_err(|kind| self.wrong(&name, "a string", kind)).ok()?;
            self.row(key, "\"...\"  (in this file)");
            Some(Found { text, key: name, place: String::new(), file: None })
        } else if let Some(file) = file {
            let file = file.map_err(|kind| self.wrong(&name_file, "a path", kind)).ok()?;
            self.secret_file(key, name_file, &file)
        } else {
            let env = env?.map_err(|kind| self.wrong(&name_env, "a variable's name", kind)).ok()?;
            self.secret_env(key, name_env, &env)
        }
    }

    fn secret_file(&mut self, key: &str, name: String, file: &str) -> Option<Found> {
        let path = self.cx.path(file);
        self.cx.watch(&path);
        let shown = path_quoted(&path);
        if file.is_empty() || file.contains(char::is_control) {
            self.wrong(&name, "a path", quoted(file));
            return None;
        }
        let text = secret_file::read(&path)
            .map_err(|problem| self.wrong(&name, "a readable text file", format!("{shown}: {problem}")))
            .ok()?;
        self.row(key, format!("\"...\"  (from the file {shown})"));
        Some(Found { text, key: name, place: format!(" in {shown}"), file: Some(path) })
    }

    fn secret_env(&mut self, key: &str, name: String, variable: &str) -> Option<Found> {
        let expected = "the name of an environment variable that is set";
        let shown = quoted(variable);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if variable.is_empty() || !variable.chars().all(plain) {
            self.wrong(&name, expected, shown);
            return None;
        }
        match self.cx.env(variable) {
            Ok(text) => {
                self.row(key, format!("\"...\"  (from the variable {shown})"));
                let place = format!(" in {shown}");
                Some(Found { text: Zeroizing::new(text), key: name, place, file: None })
            }
            Err(VarError::NotPresent) => {
                self.wrong(&name, expected, format!("{shown}, which is not"));
                None
            }
            Err(VarError::NotUnicode(_)) => {
                self.wrong(&name, "a variable that holds UTF-8 text", format!("other bytes in {shown}"));
                None
            }
        }
    }
}

/// The text of a value, in memory that is wiped, or its type.
fn hidden(value: DeValue<'_>) -> Result<Zeroizing<String>, &'static str> {
    match value {
        DeValue::String(text) => Ok(Zeroizing::new(text.into_owned())),
        other => Err(kind(&other)),
    }
}

pub(super) const HEX_KEY: &str = "64 hex digits";
pub(super) const TOKEN: &str = "a token of letters, digits and -._~+/ with = only at the end";
pub(super) const PASSWORD: &str = "a text without control characters";

pub(super) fn envelope_key(text: &str) -> Result<EnvelopeKey, String> {
    check_hex(text)?;
    EnvelopeKey::from_hex(text).ok_or_else(|| shape(text))
}

pub(super) fn store_key(text: &str) -> Result<StoreKey, String> {
    check_hex(text)?;
    StoreKey::from_hex(text).ok_or_else(|| shape(text))
}

pub(super) fn refresh_token(text: &str) -> Result<RefreshToken, String> {
    RefreshToken::parse(text).map_err(|_| token_shape(text))
}

/// A token that is compared with the one in a header, so it has to be one that a header can carry.
pub(super) fn admin_token(text: &str) -> Result<SecretString, String> {
    RefreshToken::parse(text).map(|token| token.expose().into()).map_err(|_| token_shape(text))
}

pub(super) fn password(text: &str) -> Result<SecretString, String> {
    if text.is_empty() || text.contains(['\n', '\r']) {
        return Err(shape(text));
    }
    if text.contains(char::is_control) {
        return Err("a control character".to_owned());
    }
    Ok(text.into())
}

/// The decoder would also take `0x` in front.
fn check_hex(text: &str) -> Result<(), String> {
    if text.is_empty() || !text.is_ascii() || text.contains(char::is_whitespace) {
        return Err(shape(text));
    }
    match text.bytes().filter(|byte| !byte.is_ascii_hexdigit()).count() {
        0 if text.len() == 64 => Ok(()),
        0 => Err(text.len().to_string()),
        odd => Err(format!("{}, {odd} of them not hex digits", shape(text))),
    }
}

fn token_shape(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/');
    let shape = shape(text);
    let odd = text.trim_end_matches('=').chars().filter(|c| !allowed(c)).count();
    if odd == 0 || !shape.ends_with("characters") {
        return shape;
    }
    format!("{shape}, {odd} of them not allowed")
}
