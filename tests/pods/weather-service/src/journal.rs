//! The journal: one line on stderr for each thing that happened. Nothing else writes to stderr once the service runs.

use std::fmt::Arguments;
use std::io::Write;

/// Writes `weather-service: …` as one line; control characters that came from the network are removed first, so that
/// no peer can forge a line.
pub(crate) fn say(message: Arguments<'_>) {
    let text: String = message.to_string().chars().filter(|character| !character.is_control()).collect();
    // A closed stderr must not end the service, and there is no other place to complain.
    let _ = writeln!(std::io::stderr().lock(), "weather-service: {text}");
}
