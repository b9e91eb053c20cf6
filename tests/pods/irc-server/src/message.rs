//! The grammar of one line from a client: tags, source, command, parameters (RFC 2812 section 2.3.1). What a command
//! means stands in `server/`.

/// The most parameters a message has; the last takes the rest of the line, colon or not (RFC 2812 section 2.3).
const MOST_PARAMETERS: usize = 15;

/// One parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The command in upper case.
    pub(crate) command: String,
    /// The parameters, the trailing one without its colon.
    pub(crate) parameters: Vec<String>,
    /// Everything after the command and the spaces behind it, as it was written.
    pub(crate) rest: String,
}

impl Message {
    /// Parses a cleaned line. A line without a command (empty, only spaces, only a source) gives `None` and is ignored,
    /// as RFC 2812 section 2.3.1 asks for empty messages. Tags and source are skipped: no capability that defines a tag
    /// is offered, and a client may not speak for another.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut text = line.trim_start_matches(' ');
        for mark in ['@', ':'] {
            if text.starts_with(mark) {
                text = text.split_once(' ')?.1.trim_start_matches(' ');
            }
        }
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        if command.is_empty() {
            return None;
        }
        let rest = rest.trim_start_matches(' ');
        Some(Self { command: command.to_ascii_uppercase(), parameters: parameters(rest), rest: rest.to_owned() })
    }

    /// The parameter at `index`, when it is there and not empty.
    pub(crate) fn parameter(&self, index: usize) -> Option<&str> {
        self.parameters.get(index).map(String::as_str).filter(|text| !text.is_empty())
    }
}

fn parameters(mut text: &str) -> Vec<String> {
    let mut found = Vec::new();
    while !text.is_empty() {
        if let Some(trailing) = text.strip_prefix(':') {
            found.push(trailing.to_owned());
            break;
        }
        if found.len() == MOST_PARAMETERS - 1 {
            found.push(text.to_owned());
            break;
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        found.push(word.to_owned());
        text = rest.trim_start_matches(' ');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::Message;

    fn parse(line: &str) -> (String, Vec<String>) {
        let message = Message::parse(line).unwrap();
        (message.command, message.parameters)
    }

    fn expected(command: &str, parameters: &[&str]) -> (String, Vec<String>) {
        (command.to_owned(), parameters.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_trailing_parameter_keeps_its_spaces_and_colons() {
        assert_eq!(parse("PRIVMSG #a :one  two :three"), expected("PRIVMSG", &["#a", "one  two :three"]));
        assert_eq!(parse("PRIVMSG #a : padded  "), expected("PRIVMSG", &["#a", " padded  "]));
    }

    #[test]
    fn a_command_is_known_in_either_case() {
        assert_eq!(parse("privMsg a b").0, "PRIVMSG");
    }

    #[test]
    fn runs_of_spaces_separate_like_one() {
        assert_eq!(parse("  MODE   #a  +o   bob "), expected("MODE", &["#a", "+o", "bob"]));
    }

    #[test]
    fn tags_and_source_are_skipped() {
        assert_eq!(parse("@time=1;x=y :alice!a@b NICK bob"), expected("NICK", &["bob"]));
    }

    #[test]
    fn an_empty_trailing_parameter_is_a_parameter() {
        assert_eq!(parse("TOPIC #a :"), expected("TOPIC", &["#a", ""]));
        assert_eq!(Message::parse("TOPIC #a :").unwrap().parameter(1), None);
    }

    #[test]
    fn the_fifteenth_parameter_takes_the_rest() {
        let (_, parameters) = parse("X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17");
        assert_eq!(parameters.len(), 15);
        assert_eq!(parameters[14], "15 16 17");
    }

    #[test]
    fn a_line_without_a_command_is_nothing() {
        for line in ["", "   ", ":source", ":source   ", "@tag", "@tag :source"] {
            assert_eq!(Message::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_rest_of_the_line_is_kept_as_written() {
        assert_eq!(Message::parse("WEATHER  New  York ").unwrap().rest, "New  York ");
        assert_eq!(Message::parse("WEATHER :New York").unwrap().rest, ":New York");
    }
}
