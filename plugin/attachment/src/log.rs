//! What does not fail a call, but its reader should know: a line each on standard error, which is a runtime's log, or the
//! daemon's.
//!
//! What may not live here: what fails the call (`error`).

use std::fmt::Display;
use std::io::{Write, stderr};

use podwire_conf::shown;

/// Writes what another program has said, as it is shown: each of its lines begins with who said it.
pub fn pass_on(who: &str, words: &[u8]) {
    let words = String::from_utf8_lossy(words);
    let lines = words.lines().map(|line| shown::line(&format!("{who}: {line}")).into_owned() + "\n");
    let _ = stderr().write_all(lines.collect::<String>().as_bytes());
}

/// Writes a sentence as one line, as it is shown. Without a standard error there is no reader.
pub fn note(sentence: impl Display) {
    let _ = writeln!(stderr(), "podwire: {}", shown::line(&sentence.to_string()));
}
