//! Tests of the program `irc-server` as a process: sockets, signals, exit statuses, and clients that nobody here wrote.
//! What a command means is tested beside the code in `src/server/`.

#![expect(clippy::unwrap_used, reason = "what carries the tests may stop at the first surprise, like the tests")]

mod command_line;
mod crowd;
mod descriptors;
mod families;
mod flood;
mod framing;
mod irc_crate;
mod irssi;
mod operator;
mod program;
mod registration;
mod signals;
mod silence;
mod slow_reader;
mod wire;
