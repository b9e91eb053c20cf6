//! The journal of a program: one line on standard error for each thing that happened.

use std::fmt::Arguments;
use std::io::{self, Write};

/// The journal of the program of this name, which begins every line.
#[derive(Debug, Clone, Copy)]
pub struct Journal(pub &'static str);

impl Journal {
    /// Writes `NAME: …` as one line; control characters that came from the network are removed first, so that no peer can
    /// forge a line.
    pub fn say(self, message: Arguments<'_>) {
        // A closed standard error must not end the program, and there is no other place to complain.
        let _ = writeln!(io::stderr().lock(), "{}", self.line(message));
    }

    fn line(self, message: Arguments<'_>) -> String {
        let text: String = message.to_string().chars().filter(|character| !character.is_control()).collect();
        format!("{}: {text}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Journal;

    #[test]
    fn a_message_with_control_characters_is_one_line() {
        assert_eq!(Journal("name").line(format_args!("Ber\r\nlin\u{9b}1m")), "name: Berlin1m");
    }
}
