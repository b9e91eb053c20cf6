//! The commands that print an answer and end: what they print, and their exit codes.
//!
//! What may not live here: how the answer is found.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{self, Args};
use crate::doctor;
use crate::observe::status::client::ask;
use crate::observe::status::table::{self, Paint};

/// `podwired status`: 0 OK, 1 something is wrong, 2 the daemon does not answer.
pub(crate) fn status(arguments: &args::Status) -> ExitCode {
    let status = match ask() {
        Ok(status) => status,
        Err(why) => {
            complain(why);
            return ExitCode::from(2);
        }
    };
    let text = if arguments.json { json(&status) } else { table::render(&status, paint()) };
    print(&text, if status.is_ok() { 0 } else { 1 })
}

/// `podwired doctor`: 0 no findings, 1 findings, 2 it cannot examine the node.
pub(crate) fn doctor(arguments: &args::Doctor) -> ExitCode {
    match doctor::examine(arguments) {
        Ok(findings) => {
            let text = if arguments.json { json(&findings) } else { doctor::render(&findings, paint()) };
            print(&text, if findings.is_empty() { 0 } else { 1 })
        }
        Err(why) => {
            complain(why);
            ExitCode::from(2)
        }
    }
}

/// `podwired completions`.
pub(crate) fn completions(arguments: &args::Completions) -> ExitCode {
    let Ok(shell) = arguments.shell.parse::<Shell>() else { return ExitCode::from(2) };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "podwired", &mut script);
    print(&String::from_utf8_lossy(&script), 0)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"), |text| text + "\n")
}

/// Colours on a terminal, unless NO_COLOR is set (no-color.org).
fn paint() -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Paint(io::stdout().is_terminal() && !unwanted)
}

fn complain(why: impl Display) {
    // Without a standard error there is nowhere else to report to.
    let _ = writeln!(io::stderr(), "podwired: {why}");
}

/// Prints, and returns the code. A reader that closes the output early has seen enough.
fn print(text: &str, code: u8) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("write the output: {error}"));
            ExitCode::from(2)
        }
        _ => ExitCode::from(code),
    }
}
