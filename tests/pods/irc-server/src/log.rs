//! The log on standard error. A reader of standard error that stops reading must not stop the server, so a thread of
//! its own writes, and lines that find its queue full are counted and left out.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread,
    time::Duration,
};

/// How many lines may wait for the writer.
const WAITING_LINES: usize = 4096;
/// How long the end of the process waits for the lines that are still waiting.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The writing end of the log.
#[derive(Debug)]
pub(crate) struct Log {
    lines: SyncSender<String>,
    finished: Receiver<()>,
    left_out: u64,
}

impl Log {
    /// Starts the writing thread; an error means that the system gives no thread.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING_LINES);
        let (finish, finished) = channel();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_lines(output, &waiting);
            // Nobody listens when the process does not wait for the log, and then nobody has to be told.
            drop(finish);
        })?;
        Ok(Self { lines, finished, left_out: 0 })
    }

    /// Queues one line.
    pub(crate) fn say(&mut self, sentence: &str) {
        if self.left_out > 0 {
            let count = self.left_out;
            if self.queue(format!("{count} lines of the log were left out: standard error is not read")) {
                self.left_out = 0;
            }
        }
        if !self.queue(sentence.to_owned()) {
            self.left_out += 1;
        }
    }

    fn queue(&self, sentence: String) -> bool {
        self.lines.try_send(sentence).is_ok()
    }

    /// Waits a moment for the lines that are still waiting.
    pub(crate) fn finish(self) {
        drop(self.lines);
        // Both answers, the end of the thread and the end of the patience, mean the same: it is time to go.
        let _either = self.finished.recv_timeout(LAST_WORDS);
    }
}

fn write_lines(mut output: impl Write, waiting: &Receiver<String>) {
    for sentence in waiting {
        // Nowhere is left to report that the log cannot be written; the server goes on without one.
        if writeln!(output, "irc-server: {}", printable(&sentence)).is_err() {
            return;
        }
    }
}

/// The sentence with everything escaped that would act on a terminal, begin another line, or turn the direction of the
/// text. What clients are called has none of it; this does not depend on that.
fn printable(sentence: &str) -> String {
    let acts = |character: char| {
        character.is_control()
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    sentence.chars().fold(String::with_capacity(sentence.len()), |mut text, character| {
        if acts(character) {
            text.extend(character.escape_default())
        } else {
            text.push(character)
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Log, WAITING_LINES, printable};
    use std::{
        io::{self, Read, Write},
        sync::mpsc::channel,
        time::Duration,
    };

    #[test]
    fn lines_are_written_in_order_with_the_name_of_the_program() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = Log::start(writer).unwrap();
        log.say("one");
        log.say("two");
        log.finish();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "irc-server: one\nirc-server: two\n");
    }

    #[test]
    fn what_would_act_on_a_terminal_is_escaped() {
        assert_eq!(printable("a\nb\x1b[2J\u{9b}é\u{202e}\u{2028}"), "a\\nb\\u{1b}[2J\\u{9b}é\\u{202e}\\u{2028}");
        assert_eq!(printable("alice!a@::1 left: quit"), "alice!a@::1 left: quit");
    }

    #[test]
    fn an_output_that_nobody_reads_stops_nothing_and_the_loss_is_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = Log::start(writer).unwrap();
        let (said, has_said) = channel();
        std::thread::spawn(move || {
            for _ in 0..2 * WAITING_LINES {
                log.say(&"x".repeat(1000));
            }
            said.send(log)
        });
        let mut log = has_said.recv_timeout(Duration::from_secs(10)).expect("the log stopped its user");
        assert!(log.left_out > 0);
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        while log.left_out > 0 {
            log.say("the end");
            std::thread::yield_now();
        }
        log.finish();
        assert!(reading.join().unwrap().unwrap().contains("lines of the log were left out"));
    }

    #[test]
    fn an_output_that_fails_stops_nothing() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut log = Log::start(Broken).unwrap();
        for _ in 0..10 * WAITING_LINES {
            log.say("x");
        }
        log.finish();
    }
}
