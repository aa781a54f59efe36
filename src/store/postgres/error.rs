//! What the database's refusals, and its silence, come to.
//!
//! Messages name the database and never the user. What the server says is passed on only where it
//! speaks of its own affairs: what it says of a login names the user, and what it says of data may
//! quote it.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::database::Database;
use super::tls::HandshakeError;
use crate::store::StoreError;
use crate::trust::{self, TlsFailure};

/// Why something that was asked of a server was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It cannot, now. Waiting may help.
    Away(String),
    /// It will not, until an operator has mended something.
    Refused { problem: String, remedy: String },
}

/// A failure of the whole database.
pub(super) fn at(database: &Database, failure: Failure) -> StoreError {
    let database = database.to_string();
    match failure {
        Failure::Away(problem) => StoreError::Unreachable { database, problem },
        Failure::Refused { problem, remedy } => StoreError::Database { database, problem, remedy },
    }
}

impl Failure {
    /// What is known from `error`.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::said(said);
        }
        let Some(cause) = error.source() else {
            // The session has ended, or never was one.
            return Self::Away(error.to_string());
        };
        if let Some(HandshakeError(error)) = cause.downcast_ref() {
            return Self::of_tls(error);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Self::Away(system(error));
        }
        match cause.to_string().as_str() {
            "server does not support TLS" => refused(
                "the server does not offer TLS",
                "set ssl = on in its postgresql.conf, with a certificate for this host's name",
            ),
            "password missing" => {
                refused("the server asks for a password, and there is none", "put one into store.url")
            }
            // Of the protocol: somebody else than PostgreSQL answers there.
            _ => refused(
                &format!("not understood: {error}"),
                "check that store.url leads to a PostgreSQL server, and not to something in between",
            ),
        }
    }

    /// What is known from several hosts of one database. If one of them may come back, so may the
    /// database.
    pub(super) fn of_all(mut failures: Vec<(&str, Self)>) -> Self {
        if failures.len() == 1 {
            return failures.remove(0).1;
        }
        let hosts = failures.iter().map(|(host, failure)| format!("{host}: {}", failure.problem()));
        let problem = hosts.collect::<Vec<_>>().join(", ");
        let remedies = failures.into_iter().map(|(_, failure)| match failure {
            Self::Refused { remedy, .. } => Some(remedy),
            Self::Away(_) => None,
        });
        match remedies.collect::<Option<Vec<_>>>().and_then(|remedies| remedies.into_iter().next()) {
            Some(remedy) => Self::Refused { problem, remedy },
            None => Self::Away(problem),
        }
    }

    fn problem(&self) -> &str {
        match self {
            Self::Away(problem) | Self::Refused { problem, .. } => problem,
        }
    }

    fn of_tls(error: &io::Error) -> Self {
        // Without an error of TLS it is the connection below that broke.
        let Some(library) = trust::library(error) else {
            return Self::Away(format!("in the TLS handshake: {}", system(error)));
        };
        let (problem, remedy) = match TlsFailure::of(error) {
            failure @ TlsFailure::CertificateExpired => {
                (failure.as_str().to_owned(), "renew it, or mend this machine's clock")
            }
            failure @ TlsFailure::WrongHost => (
                failure.as_str().to_owned(),
                "let store.url name the host as the certificate does, or give the server one for this name",
            ),
            failure @ TlsFailure::UnknownIssuer => (
                failure.as_str().to_owned(),
                "let store.ca_file name the file with the certificate of the authority that issued it",
            ),
            failure @ TlsFailure::Other => (
                format!("{} ({library})", failure.as_str()),
                "see what the server's log says; TLS 1.2 or newer is needed",
            ),
        };
        refused(&format!("no TLS: {problem}"), remedy)
    }

    fn said(said: &DbError) -> Self {
        let code = said.code();
        let message = said.message();
        match code.code() {
            // A message of this class names the user.
            "28P01" => refused("wrong user or password (28P01)", "correct store.url"),
            code if code.starts_with("28") => refused(
                &format!("the server does not let this user in from here ({code})"),
                "see its log: pg_hba.conf needs an entry for this user, database and address, and the role LOGIN",
            ),
            "3D000" => refused(
                "no such database (3D000)",
                "create it, or correct store.url; then run `bearerd store migrate`",
            ),
            code @ ("42P01" | "42703" | "3F000") => refused(
                &format!("{message} ({code})"),
                "run `bearerd store migrate`, and see that the tables are in this user's search_path",
            ),
            "42501" => refused(
                &format!("{message} (42501)"),
                "grant the right: bearerd needs SELECT, INSERT, UPDATE ON bearerd_credential and SELECT ON \
                 bearerd_migration, and `bearerd store migrate` CREATE on the schema",
            ),
            "25006" => Self::Away("takes no writes (25006)".to_owned()),
            // Where it is the role's own limit, the message names the role.
            "53300" => Self::Away("too many connections (53300)".to_owned()),
            code if waiting_helps(said.code()) => Self::Away(format!("{message} ({code})")),
            // What it says of data may quote it.
            code if code.starts_with("22") || code.starts_with("23") => {
                refused(&format!("the data are refused ({code})"), "see the server's log")
            }
            code => refused(&format!("{message} ({code})"), "see the server's log"),
        }
    }
}

/// Whether the server is only busy, starting, ending or full (PostgreSQL's appendix A).
fn waiting_helps(state: &SqlState) -> bool {
    // Of class 57 all but a database that was dropped; a statement that took too long is there.
    let class = state.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "58") || class == "57" && *state != SqlState::DATABASE_DROPPED
        // A lock that was not to be had, a server that takes no sessions, a transaction left idle.
        || matches!(state.code(), "55P03" | "55000" | "25P03" | "25P04")
}

fn refused(problem: &str, remedy: &str) -> Failure {
    Failure::Refused { problem: problem.to_owned(), remedy: remedy.to_owned() }
}

/// What the system said, without what the library puts around it.
fn system(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server has closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_hosts_one_that_may_come_back_is_enough() {
        let away = || Failure::Away("refused".to_owned());
        let wrong = || refused("wrong", "correct it");
        assert_eq!(Failure::of_all(vec![("a", away())]), away());
        assert_eq!(Failure::of_all(vec![("a", wrong())]), wrong());
        let both = Failure::of_all(vec![("a", wrong()), ("b", away())]);
        assert_eq!(both, Failure::Away("a: wrong, b: refused".to_owned()));
        let none = Failure::of_all(vec![("a", wrong()), ("b", wrong())]);
        assert_eq!(none, refused("a: wrong, b: wrong", "correct it"));
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_an_operator_must_mend() {
        for code in ["08006", "40001", "53300", "53100", "57P01", "57P02", "57P03", "57014", "55P03", "58030"]
        {
            assert!(waiting_helps(&SqlState::from_code(code)), "{code}");
        }
        for code in ["57P04", "42P01", "42501", "28P01", "3D000", "XX000", "0A000", ""] {
            assert!(!waiting_helps(&SqlState::from_code(code)), "{code}");
        }
    }
}
