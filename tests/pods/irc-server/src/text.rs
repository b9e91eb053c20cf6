//! Text from the wire: how bytes become a string that is safe to relay, and how a string is cut at a length in bytes.
//! Where a line ends is the business of `frame.rs`.

use std::borrow::Cow;

/// The control characters that carry formatting or CTCP and are relayed; every other one is removed.
///
/// 01 CTCP, 02 bold, 03 and 04 colour, 09 tab, 0F reset, 11 monospace, 16 reverse, 1D italic, 1E struck, 1F underline.
const FORMATTING: [char; 11] = ['\x01', '\x02', '\x03', '\x04', '\x09', '\x0f', '\x11', '\x16', '\x1d', '\x1e', '\x1f'];

/// Text that may be relayed.
#[derive(Clone, Debug)]
pub(crate) struct Cleaned {
    text: String,
    was_utf8: bool,
}

impl Cleaned {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all bytes were UTF-8.
    pub(crate) fn was_utf8(&self) -> bool {
        self.was_utf8
    }
}

/// Turns the bytes of one line into text that may be relayed.
///
/// Bytes that are not UTF-8 are replaced by U+FFFD and not relayed: a client that insists on UTF-8 would otherwise lose
/// its connection over the line of somebody else. Control characters that neither format nor carry CTCP (NUL, a lone
/// CR, ESC, DEL, the C1 set) are removed: they are forbidden by RFC 2812 section 2.3.1 or would act on the reader's
/// terminal.
pub(crate) fn clean(line: &[u8]) -> Cleaned {
    let lossy = String::from_utf8_lossy(line);
    let text = lossy.chars().filter(|character| !character.is_control() || FORMATTING.contains(character)).collect();
    // What was no UTF-8 has been copied with the replacements; what was is borrowed.
    Cleaned { text, was_utf8: matches!(lossy, Cow::Borrowed(_)) }
}

/// The longest beginning of `text` that has at most `limit` bytes and ends at a character.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Joins words with spaces into lines of at most `room` bytes; a word that is longer has a line of its own.
pub(crate) fn fill(words: &[String], room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{clean, cut, fill};

    #[test]
    fn words_fill_lines_up_to_the_room() {
        let words = ["aa", "bb", "cc", "dddddddd"].map(str::to_owned);
        assert_eq!(fill(&words, 5), ["aa bb", "cc", "dddddddd"]);
        assert_eq!(fill(&words, 4), ["aa", "bb", "cc", "dddddddd"]);
        assert_eq!(fill(&[], 5), [""; 0]);
    }

    #[test]
    fn bytes_that_are_not_utf8_become_replacement_characters() {
        let cleaned = clean(b"caf\xe9 \xff!");
        assert_eq!((cleaned.as_str(), cleaned.was_utf8()), ("caf\u{fffd} \u{fffd}!", false));
        let replacement = clean("caf\u{fffd}".as_bytes());
        assert_eq!((replacement.as_str(), replacement.was_utf8()), ("caf\u{fffd}", true));
    }

    #[test]
    fn nul_carriage_return_and_escape_are_removed() {
        assert_eq!(clean(b"a\0b\rc\x1b[2Jd\x7fe\xc2\x9bf").as_str(), "abc[2Jdef");
    }

    #[test]
    fn formatting_and_ctcp_marks_are_kept() {
        let text = "\x01ACTION \x02waves\x02\x01\t\x0304red\x0f";
        assert_eq!(clean(text.as_bytes()).as_str(), text);
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("größe", 3), "gr");
        assert_eq!(cut("größe", 4), "grö");
        assert_eq!(cut("short", 40), "short");
    }
}
