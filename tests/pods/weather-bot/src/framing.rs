//! Bytes of a TCP stream into lines, with bounded memory. Pure: the bytes are handed in.

/// The longest line in bytes that is kept. IRC allows 512 with the line end (RFC 2812 section 2.3); a server that
/// forgets to count its prefix is borne.
const KEPT: usize = 4096;

/// What the stream held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A line without its line end; bytes that are no UTF-8 stand as U+FFFD.
    Line(String),
    /// A line that was longer than the bot keeps; its bytes are gone.
    TooLong,
}

/// Collects bytes until a line is whole.
#[derive(Default)]
pub(crate) struct Framing {
    /// The beginning of the line that is not whole yet.
    partial: Vec<u8>,
    /// The current line has grown over [`KEPT`]; the rest of it is thrown away.
    overflown: bool,
}

impl Framing {
    /// Takes the next bytes and gives the lines that they complete. A line ends with LF; a CR before it belongs to the
    /// line end.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ended) = match piece.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (piece, false),
            };
            if self.partial.len() + content.len() > KEPT {
                self.overflown = true;
                self.partial = Vec::new();
            } else if !self.overflown {
                self.partial.extend_from_slice(content);
            }
            if ended {
                frames.push(self.finish());
            }
        }
        frames
    }

    /// Closes the current line and begins a new one.
    fn finish(&mut self) -> Frame {
        let line = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.overflown) {
            return Frame::TooLong;
        }
        Frame::Line(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Frame {
        Frame::Line(text.to_owned())
    }

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        let stream = "PING :a\r\n\r\nWEATHER alice :Zürich\nPING".as_bytes();
        for size in 1..=stream.len() {
            let mut framing = Framing::default();
            let frames: Vec<Frame> = stream.chunks(size).flat_map(|chunk| framing.push(chunk)).collect();
            assert_eq!(frames, [line("PING :a"), line(""), line("WEATHER alice :Zürich")], "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_thrown_away_and_the_next_one_is_kept() {
        let mut framing = Framing::default();
        for _ in 0..100 {
            assert_eq!(framing.push(&[b'x'; 1000]), []);
            assert!(framing.partial.capacity() <= 2 * KEPT);
        }
        assert_eq!(framing.push(b"x\r\nPING :a\r\n"), [Frame::TooLong, line("PING :a")]);
    }

    #[test]
    fn the_longest_line_is_kept_and_one_byte_more_is_not() {
        let mut framing = Framing::default();
        assert_eq!(framing.push(&[&[b'x'; KEPT][..], b"\n"].concat()), [line(&"x".repeat(KEPT))]);
        assert_eq!(framing.push(&[&[b'x'; KEPT + 1][..], b"\n"].concat()), [Frame::TooLong]);
    }

    #[test]
    fn bytes_that_are_no_utf_8_do_not_stop_the_stream() {
        assert_eq!(Framing::default().push(b"a\xffb\n"), [line("a\u{fffd}b")]);
    }
}
