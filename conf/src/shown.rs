//! Text as it is shown to people. Names of nodes, pods, files, devices and tables, and the words of APIs, runtimes and other
//! programs, may have characters that begin a forged line, move a terminal's cursor, or turn the direction of what follows:
//! they are shown as escapes. Every output that people read goes through here, at the place where it is written: the log,
//! status, doctor, metrics, errors. Pure.
//!
//! What is escaped already is not escaped again: a text may pass by two of these places.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Whether a character is seen as what it is: letters, digits, punctuation, symbols and the space. Not: control characters
/// (C0, DEL, C1), those that turn the direction or join (Unicode's Cf), separators of lines and paragraphs, other spaces, marks
/// that are drawn over another character, private and unassigned ones, letters and symbols without a shape.
pub fn is_shown(character: char) -> bool {
    match character {
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        // The fillers of Hangul, the empty pattern of Braille, the head of no note: a name with one looks like one without.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' | '\u{1d159}' => false,
        other => other.escape_debug().len() == 1,
    }
}

/// A text on one line: what is not seen as what it is, a newline too, as its escape in Rust (`\n`, `\u{1b}`).
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |character, line| match character.escape_debug() {
        // Rust takes it for a letter.
        same if same.len() == 1 => line.extend(character.escape_unicode()),
        escape => line.extend(escape),
    })
}

/// The beginning of a text on one line, so many characters at most. A cut one ends with an ellipsis.
pub fn bounded(text: &str, most: usize) -> String {
    // An escape is never shorter than what it stands for, so that no more of the text is needed.
    let whole = line(text.char_indices().nth(most + 1).map_or(text, |(end, _)| &text[..end]));
    match whole.char_indices().nth(most) {
        None => whole.into_owned(),
        Some(_) => whole.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// JSON, whose strings may have any characters but those that JSON itself escapes: the others are escaped as well. It
/// stays the same JSON, and keeps its line breaks.
pub fn json(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(json_line).collect();
    lines.join("\n")
}

fn json_line(text: &str) -> Cow<'_, str> {
    // Outside of strings there are only characters that are shown.
    escaped(text, |character, line| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(line, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_shown(character) {
            line.push(character);
        } else {
            escape(character, &mut line);
        }
    }
    Cow::Owned(line)
}

/// A writer of lines for people: line breaks pass, everything else as in [`line`].
pub struct Lines<W>(pub W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<_> = text.split('\n').map(line).collect();
        self.0.write_all(lines.join("\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A forged line, a colour, a title, C1, DEL, bidi, zero width, line separators, a tag, a mark, no-break space, nothing,
    /// letters without a shape.
    const HOSTILE: &str = "a\nb\r\t\0\x1b[31m\x1b]0;t\x07\u{9b}2J\x7f\u{202e}\u{2066}\u{61c}\u{200f}\u{200b}\u{feff}\u{2028}\u{2029}\u{e0041}\u{301}\u{a0}\u{ad}\u{e000}\u{fff9}\u{115f}\u{1160}\u{3164}\u{ffa0}\u{2800}\u{1d159}";

    #[test]
    fn what_acts_on_a_terminal_or_is_not_seen_is_escaped_and_letters_are_not() {
        let shown = line(HOSTILE);
        assert!(shown.chars().all(|character| (' '..='~').contains(&character)), "{shown}");
        assert!(shown.starts_with(r"a\nb\r\t\0\u{1b}[31m\u{1b}]0;t\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}"), "{shown}");
        assert_eq!(line(&shown), shown, "escaped once");
        for plain in ["", "node-1", "pod \"a\" it's C:\\n", "Köln 東京 Ελλάδα ירושלים 🦀 …"] {
            assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_also_where_it_is_escaped() {
        assert_eq!(bounded("abc", 3), "abc");
        assert_eq!(bounded("abcd", 3), "ab…");
        assert_eq!(bounded("äöü€", 3), "äö…");
        assert_eq!(bounded("\x1b\x1b", 12), r"\u{1b}\u{1b}");
        assert_eq!(bounded("\x1b\x1b", 11), r"\u{1b}\u{1…");
        assert_eq!(bounded(&"\n".repeat(1_000_000), 5), r"\n\n…");
    }

    #[test]
    fn json_stays_the_same_value_and_its_lines() {
        let value = serde_json::json!({"name": HOSTILE, "list": [1, "\u{1f600}\u{e0041}"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert!(shown.chars().all(|character| character == '\n' || is_shown(character)), "{shown}");
        assert!(shown.contains(r"\u202e") && shown.contains(r"\udb40\udc41") && shown.contains('\u{1f600}'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(shown.lines().count(), text.lines().count());
    }

    #[test]
    fn a_writer_keeps_lines_and_escapes_the_rest() {
        let mut out = Vec::new();
        writeln!(Lines(&mut out), "one\nt\x1bwo").unwrap();
        Lines(&mut out).write_all(b"\xff\n").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "one\nt\\u{1b}wo\n\u{fffd}\n");
    }
}
