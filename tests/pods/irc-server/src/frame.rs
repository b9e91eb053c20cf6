//! Framing: how the bytes of a connection become lines. No character set and no meaning is known here.

/// The longest content of a line, in bytes, without its terminator: 512 with CR LF (RFC 2812 section 2.3).
pub(crate) const LONGEST_CONTENT: usize = 510;

/// What the framer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// One line without its terminator; never empty of meaning by itself, it may be zero bytes long.
    Line(Vec<u8>),
    /// A line longer than [`LONGEST_CONTENT`]. It is skipped up to its end, and reported once, when its end is seen.
    TooLong,
}

/// Collects bytes and gives lines. It never holds more than [`LONGEST_CONTENT`] bytes and one CR.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    partial: Vec<u8>,
    skipping: bool,
}

impl Framer {
    /// Takes the bytes of one read and gives the frames they complete. A line ends at LF; a CR before it belongs to the
    /// terminator.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(&bytes[..end]);
            frames.push(self.finish());
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
        frames
    }

    fn keep(&mut self, piece: &[u8]) {
        // One byte more than the content is allowed: it may be the CR of the terminator. Pieces of a line that is being
        // skipped come and go here as well; `finish` has the last word about them.
        if self.partial.len() + piece.len() > LONGEST_CONTENT + 1 {
            self.skipping = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn finish(&mut self) -> Frame {
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if std::mem::take(&mut self.skipping) || line.len() > LONGEST_CONTENT {
            return Frame::TooLong;
        }
        Frame::Line(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Framer, LONGEST_CONTENT};

    fn line(text: &str) -> Frame {
        Frame::Line(text.as_bytes().to_vec())
    }

    #[test]
    fn coalesced_lines_are_separated() {
        assert_eq!(Framer::default().push(b"one\r\ntwo\r\n"), [line("one"), line("two")]);
    }

    #[test]
    fn a_line_in_pieces_of_one_byte_is_one_line() {
        let mut framer = Framer::default();
        let frames: Vec<Frame> = b"PING :x\r\n".iter().flat_map(|&byte| framer.push(&[byte])).collect();
        assert_eq!(frames, [line("PING :x")]);
    }

    #[test]
    fn a_bare_line_feed_ends_a_line() {
        assert_eq!(Framer::default().push(b"one\ntwo\n"), [line("one"), line("two")]);
    }

    #[test]
    fn an_empty_line_is_a_line_without_content() {
        assert_eq!(Framer::default().push(b"\r\n\n"), [line(""), line("")]);
    }

    #[test]
    fn a_line_of_512_bytes_passes_and_one_byte_more_does_not() {
        let longest = "x".repeat(LONGEST_CONTENT);
        assert_eq!(Framer::default().push(format!("{longest}\r\n").as_bytes()), [line(&longest)]);
        assert_eq!(Framer::default().push(format!("{longest}x\r\n").as_bytes()), [Frame::TooLong]);
        assert_eq!(Framer::default().push(format!("{longest}x\n").as_bytes()), [Frame::TooLong]);
    }

    #[test]
    fn an_over_long_line_is_reported_once_and_skipped_to_its_end() {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        for _ in 0..100 {
            frames.extend(framer.push(&[b'x'; 1000]));
        }
        frames.extend(framer.push(b"tail\r\nnext\r\n"));
        assert_eq!(frames, [Frame::TooLong, line("next")]);
    }

    #[test]
    fn bytes_without_an_end_are_not_hoarded() {
        let mut framer = Framer::default();
        for _ in 0..100 {
            framer.push(&[0; 400]);
        }
        assert!(framer.partial.capacity() <= 2 * (LONGEST_CONTENT + 1), "{}", framer.partial.capacity());
    }
}
