//! The `bearerd` program: see the library's documentation for how it works.

use std::process::ExitCode;

fn main() -> ExitCode {
    bearerd::cli::main()
}
