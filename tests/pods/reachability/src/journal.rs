//! The journal: one line on standard error for each thing that happened. Matrices go to standard output.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Writes `reachability: …` as one line.
pub(crate) fn say(message: Arguments<'_>) {
    // When standard error is closed there is no other place to say it.
    let _ = writeln!(io::stderr().lock(), "reachability: {message}");
}
