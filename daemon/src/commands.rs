//! The commands that print an answer and end: what they print, and their exit codes. All that others have named in it is
//! escaped here, before it is put into tables and sentences: the whole document at once, so that no value is forgotten.
//!
//! What may not live here: how the answer is found.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use podwire_conf::shown;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{self, Args};
use crate::doctor;
use crate::observe::policies::table::{render_explanation, render_list};
use crate::observe::status::client::{self, ask};
use crate::observe::status::table::{self, Paint};
use crate::policy::question::Question;

/// The most characters of one text of a table or a sentence.
const LONGEST_TEXT: usize = 2048;

/// `podwired status`: 0 OK, 1 something is wrong, 2 the daemon does not answer.
pub(crate) fn status(arguments: &args::Status) -> ExitCode {
    let status = match ask() {
        Ok(status) => status,
        Err(why) => {
            complain(why);
            return ExitCode::from(2);
        }
    };
    let text = if arguments.json { json(&status) } else { table::render(&visible(&status), paint()) };
    print(&text, if status.is_ok() { 0 } else { 1 })
}

/// `podwired doctor`: 0 no findings, 1 findings, 2 it cannot examine the node.
pub(crate) fn doctor(arguments: &args::Doctor) -> ExitCode {
    match doctor::examine(arguments) {
        Ok(findings) => {
            let text = if arguments.json { json(&findings) } else { doctor::render(&visible(&findings), paint()) };
            print(&text, if findings.is_empty() { 0 } else { 1 })
        }
        Err(why) => {
            complain(why);
            ExitCode::from(2)
        }
    }
}

/// `podwired policy list`: 0 in force, 1 not as they are, 2 the daemon has no answer.
pub(crate) fn policies(arguments: &args::PolicyList) -> ExitCode {
    match client::policies() {
        Ok(list) => {
            let text = if arguments.json { json(&list) } else { render_list(&visible(&list), paint()) };
            print(&text, if list.in_force { 0 } else { 1 })
        }
        Err(why) => {
            complain(why);
            ExitCode::from(2)
        }
    }
}

/// `podwired policy explain`: 0 allowed, 1 denied, 2 the question is wrong, or the daemon has no answer.
pub(crate) fn explain(arguments: &args::Explain) -> ExitCode {
    let args::Explain { source, destination, port, json: as_json } = arguments;
    let explanation = Question::of(source, destination, port.as_deref())
        .map_err(|mistake| mistake.to_string())
        .and_then(|question| client::explain(&question).map_err(|error| error.to_string()));
    match explanation {
        Ok(found) => {
            let text = if *as_json { json(&found) } else { render_explanation(&visible(&found), paint()) };
            print(&text, if found.allowed { 0 } else { 1 })
        }
        Err(why) => {
            complain(format_args!("explain {source} to {destination}: {why}"));
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

/// As JSON, in which what is not seen as what it is stands as an escape.
fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value);
    text.map_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"), |text| shown::json(&text) + "\n")
}

/// A document whose texts are all as they are shown, each on one line and of bounded length.
fn visible<T: Serialize + DeserializeOwned + Clone>(document: &T) -> T {
    fn show(value: &mut Value) {
        match value {
            Value::String(text) => *text = shown::bounded(text, LONGEST_TEXT),
            Value::Array(values) => values.iter_mut().for_each(show),
            Value::Object(fields) => fields.values_mut().for_each(show),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let shown = serde_json::to_value(document).and_then(|mut value| {
        show(&mut value);
        serde_json::from_value(value)
    });
    // What could be written as JSON can be read from it; names of kinds and addresses are seen as what they are.
    shown.unwrap_or_else(|error| {
        complain(format_args!("escape the output: {error}"));
        document.clone()
    })
}

/// Colours on a terminal, unless NO_COLOR is set (no-color.org).
fn paint() -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Paint(io::stdout().is_terminal() && !unwanted)
}

fn complain(why: impl Display) {
    // Without a standard error there is nowhere else to report to.
    let _ = writeln!(io::stderr(), "podwired: {}", shown::line(&why.to_string()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::FindingKind;
    use crate::observe::status::document::{Range, RejectedEntry, Status};
    use crate::report::problem::{Problem, ProblemKind};

    const HOSTILE: &str = "evil\nOK  nothing is wrong\u{1b}[2J\u{9b}31m\u{202e}";

    fn hostile() -> Status {
        Status {
            node: HOSTILE.into(),
            problems: vec![Problem::new(ProblemKind::PeerSilent, HOSTILE, HOSTILE).into()],
            wrong: vec![HOSTILE.into(), "x".repeat(1_000_000)],
            refused: vec![RejectedEntry {
                node: HOSTILE.into(),
                why: HOSTILE.into(),
                kind: ProblemKind::EntryRejected.into(),
            }],
            ranges: vec![Range { range: "10.244.1.0/24".parse().unwrap(), used: 1, free: 2 }],
            ..Status::default()
        }
    }

    fn is_shown(text: &str) -> bool {
        text.chars().all(|character| character == '\n' || shown::is_shown(character))
    }

    #[test]
    fn a_table_and_json_show_nothing_that_acts_on_a_terminal() {
        let status = hostile();
        let table = table::render(&visible(&status), Paint(false));
        assert!(is_shown(&table) && table.len() < 10_000, "{table}");
        assert!(table.lines().all(|line| !line.starts_with("OK")), "{table}");
        let text = json(&status);
        assert!(is_shown(&text));
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        assert_eq!(visible(&status).ranges, status.ranges);
    }

    #[test]
    fn findings_are_shown_each_on_their_lines() {
        let finding = serde_json::json!({
            "check": "overlap", "kind": FindingKind::ForeignAddress, "subject": HOSTILE, "cause": HOSTILE, "fix": HOSTILE
        });
        let findings: Vec<doctor::finding::Finding> = vec![serde_json::from_value(finding).unwrap()];
        let text = doctor::render(&visible(&findings), Paint(false));
        assert!(is_shown(&text) && text.lines().count() == 2, "{text}");
    }
}
