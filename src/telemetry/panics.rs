//! What is said of a panic: where, and never what. The payload is built from values, and one of
//! them could be a secret.

use std::io::Write as _;
use std::panic::{PanicHookInfo, set_hook};

/// Replaces the standard report of a panic, which prints the payload.
pub(super) fn report_to_log() {
    set_hook(Box::new(report));
}

/// Logs where it happened. On standard error if there is no log.
pub(super) fn report(info: &PanicHookInfo<'_>) {
    let (file, line) = info.location().map_or(("unknown", 0), |location| (location.file(), location.line()));
    tracing::error!(file, line, "panicked; this is a defect in bearerd");
    if !tracing::dispatcher::has_been_set() {
        // Not `eprintln!`, which would panic in turn if standard error is closed.
        let _ =
            writeln!(std::io::stderr(), "bearerd: panicked at {file}:{line}; this is a defect in bearerd");
    }
}
