//! The journal: one line on stderr for each thing that happened. Nothing else writes to stderr once the bot runs.

use std::fmt::Arguments;
use std::io::Write;

use crate::outgoing::clean;

/// Writes `weather-bot: …` as one line; control characters that came from the network are removed first, so that no
/// peer can forge a line.
pub(crate) fn say(message: Arguments<'_>) {
    let text = clean(&message.to_string());
    // A closed stderr must not end the bot, and there is no other place to complain.
    let _ = writeln!(std::io::stderr().lock(), "weather-bot: {text}");
}
