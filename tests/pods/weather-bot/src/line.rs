//! One line of IRC, taken apart. Pure; what a command means is not known here.

/// A message as RFC 2812 section 2.3.1 spells it; all parts borrow from the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The command or the numeric, as it was written.
    pub(crate) command: &'a str,
    /// The parameters; a last one that began with a colon stands here without it.
    pub(crate) parameters: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// Takes a line without its line end apart. `None` when there is no command: an empty line, or a source alone.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        // Tags and the source say nothing to this bot: the server alone speaks to it.
        let mut rest = text.trim_start_matches(' ');
        for mark in ['@', ':'] {
            if rest.starts_with(mark) {
                rest = rest.split_once(' ')?.1.trim_start_matches(' ');
            }
        }
        let (command, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if command.is_empty() {
            return None;
        }
        let mut parameters = Vec::new();
        loop {
            rest = rest.trim_start_matches(' ');
            if let Some(trailing) = rest.strip_prefix(':') {
                parameters.push(trailing);
                break;
            }
            if rest.is_empty() {
                break;
            }
            let (parameter, after) = rest.split_once(' ').unwrap_or((rest, ""));
            parameters.push(parameter);
            rest = after;
        }
        Some(Self { command, parameters })
    }

    /// The last parameter, which is the human text of most replies; empty when there is none.
    pub(crate) fn text(&self) -> &'a str {
        self.parameters.last().copied().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Vec<String>) {
        let line = Line::parse(text).unwrap();
        (line.command.to_owned(), line.parameters.iter().map(ToString::to_string).collect())
    }

    fn expected(command: &str, parameters: &[&str]) -> (String, Vec<String>) {
        (command.to_owned(), parameters.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn source_and_tags_are_passed_over() {
        let wanted = expected("WEATHER", &["alice", "New York"]);
        for text in [
            "WEATHER alice :New York",
            ":irc.example WEATHER alice :New York",
            "@time=now :irc.example  WEATHER  alice  :New York",
        ] {
            assert_eq!(parts(text), wanted, "{text}");
        }
    }

    #[test]
    fn only_the_first_colon_of_the_trailing_part_is_taken_off() {
        assert_eq!(parts("PING ::a:b "), expected("PING", &[":a:b "]));
        assert_eq!(parts("A b:c :"), expected("A", &["b:c", ""]));
        assert_eq!(parts("QUIT"), expected("QUIT", &[]));
    }

    #[test]
    fn a_line_without_a_command_is_none() {
        for text in ["", "   ", ":source", ":source ", "@tag :source"] {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }
}
