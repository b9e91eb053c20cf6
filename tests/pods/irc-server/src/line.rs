//! One line to a client: at most 512 bytes with its CR LF beside its tags, and never two lines in one.

use std::sync::Arc;

use crate::{frame::LONGEST_CONTENT, text};

/// A line ready for the wire. Copies share the bytes: a message to a thousand members is stored once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line(Arc<str>);

impl Line {
    /// Makes a line of its content. Content over 510 bytes is cut at a character (RFC 2812 section 2.3 leaves no other
    /// way), and CR, LF and NUL are removed, so that no parameter can smuggle in a second line.
    pub(crate) fn new(content: &str) -> Self {
        let mut line: String = content.chars().filter(|character| !matches!(character, '\r' | '\n' | '\0')).collect();
        line.truncate(text::cut(&line, LONGEST_CONTENT).len());
        line.push_str("\r\n");
        Self(line.into())
    }

    /// The same line with the tag `time` before it (IRCv3 `server-time`), which the 512 bytes do not count (IRCv3
    /// message tags, "Size limit"). `time` is a moment as `timestamp::utc` writes it.
    pub(crate) fn at(&self, time: &str) -> Self {
        Self(format!("@time={time} {}", self.0).into())
    }

    /// The bytes for the wire, CR LF included.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The content without CR LF.
    #[cfg(test)]
    pub(crate) fn content(&self) -> &str {
        self.0.trim_end_matches("\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_line_ends_with_cr_lf() {
        assert_eq!(Line::new("PING :x").as_bytes(), b"PING :x\r\n");
    }

    #[test]
    fn a_line_never_has_more_than_512_bytes_nor_half_a_character() {
        let line = Line::new(&"é".repeat(400));
        assert_eq!(line.as_bytes().len(), 512);
        assert_eq!(line.content(), "é".repeat(255));
        assert_eq!(Line::new(&format!("x{}", "é".repeat(400))).as_bytes().len(), 511);
    }

    #[test]
    fn a_tag_stands_before_the_whole_line() {
        let line = Line::new(&"x".repeat(600)).at("2011-10-19T16:40:51.620Z");
        assert_eq!(line.content(), format!("@time=2011-10-19T16:40:51.620Z {}", "x".repeat(510)));
    }

    #[test]
    fn one_line_cannot_carry_a_second() {
        assert_eq!(Line::new("a\r\nQUIT\n\0b").as_bytes(), b"aQUITb\r\n");
    }
}
