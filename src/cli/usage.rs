//! What is said of arguments that cannot be understood.
//!
//! The parser's own messages repeat what was typed, and a token typed by mistake would end up in a
//! log. So of what was typed only the names of options are repeated.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output::Failure;

/// Says what is wrong with the arguments, and how they should be.
pub(super) fn explain(error: &Error) -> Failure {
    let failure = Failure::usage(message(error));
    // Its first line is enough; the rest is `--help`'s.
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => {
            let usage = usage.to_string();
            failure.and(usage.lines().next().unwrap_or_default().replacen("Usage:", "usage:", 1))
        }
        _ => failure,
    }
    .and("try --help")
}

fn message(error: &Error) -> String {
    let argument = option(error);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let tip = suggestion(error, ContextKind::SuggestedArg);
            format!(
                "{}{tip}",
                argument.map_or_else(|| "an argument too many".into(), |a| format!("unknown option {a}"))
            )
        }
        ErrorKind::InvalidSubcommand => {
            format!("unknown command{}", suggestion(error, ContextKind::SuggestedSubcommand))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "expected a command".to_owned()
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::WrongNumberOfValues => {
            let argument = argument.unwrap_or_else(|| "an argument".to_owned());
            let known = all(error, ContextKind::ValidValue).join(", ");
            match std::error::Error::source(error) {
                Some(source) => format!("{argument}: {source}"),
                None if known.is_empty() => format!("{argument}: expected a value"),
                None => format!("{argument}: expected one of {known}"),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            format!("missing: {}", all(error, ContextKind::InvalidArg).join(", "))
        }
        ErrorKind::ArgumentConflict => {
            let argument = argument.unwrap_or_else(|| "an argument".to_owned());
            let prior = all(error, ContextKind::PriorArg).join(", ");
            match prior == argument {
                true => format!("{argument} is given more than once"),
                false => format!("{argument} does not go together with {prior}"),
            }
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        kind => kind.as_str().unwrap_or("cannot be understood").to_owned(),
    }
}

/// The option that is wrong, without its value; `None` if it is not an option.
fn option(error: &Error) -> Option<String> {
    let argument = all(error, ContextKind::InvalidArg).into_iter().next()?;
    let name = argument.split('=').next().unwrap_or_default();
    // Longer than any option, so rather something secret that begins with a hyphen.
    (name.starts_with("--") && name.len() <= 40).then(|| name.to_owned())
}

fn suggestion(error: &Error, kind: ContextKind) -> String {
    match all(error, kind).first() {
        Some(near) => format!("; did you mean {near}?"),
        None => String::new(),
    }
}

fn all(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(many)) => many.clone(),
        _ => Vec::new(),
    }
}
