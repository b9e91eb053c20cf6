//! Where the log goes: to standard error line by line, and where one thread logs a long list, many lines at once. And how
//! it is shown: every field of every line goes through [`field`], which escapes what others have put into it.
//!
//! What may not live here: what is logged.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::io::{self, Write};

use podwire_conf::shown;
use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// The most characters of a field of a line: more than any sentence has, and less than a name may have that others choose.
const LONGEST_FIELD: usize = 4096;

/// Lines are held back up to about this many bytes. More gains nothing: a pipe takes fewer at once.
const MANY: usize = 16 * 1024;

thread_local! {
    static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes the sentence of a line, or a key and its value.
pub(crate) fn field(line: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = shown::bounded(&format!("{value:?}"), LONGEST_FIELD);
    match field.name() {
        "message" => line.write_str(&value),
        name => write!(line, "{name}={value}"),
    }
}

/// A writer of whole lines.
pub(crate) struct Lines;

/// Writes what `work` logs on this thread together: forty thousand lines take a few hundred system calls.
pub(crate) fn together<T>(work: impl FnOnce() -> T) -> T {
    /// Writes what is held back, however the work ends.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let held = HELD.take();
            let _ = io::stderr().write_all(&held.unwrap_or_default());
        }
    }
    HELD.set(Some(Vec::with_capacity(MANY)));
    let _end = End;
    work()
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        HELD.with_borrow_mut(|held| match held {
            Some(held) => {
                held.extend(line);
                if held.len() >= MANY {
                    let written = io::stderr().write_all(held);
                    held.clear();
                    return written;
                }
                Ok(())
            }
            None => io::stderr().write_all(line),
        })?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::field::MakeExt;
    use tracing_subscriber::fmt::format;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_a_line_whatever_is_in_its_sentence_and_its_fields() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).with_target(false);
        let lines = lines.fmt_fields(format::debug_fn(field).delimited(" ")).without_time().finish();
        let name = "a\nINFO forged\u{1b}[2J\u{202e}";
        tracing::subscriber::with_default(lines, || {
            tracing::info!(name, mtu = 1450, shown = %name, "set {name}");
            tracing::warn!("{}", "x".repeat(1_000_000));
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let escaped = r"a\nINFO forged\u{1b}[2J\u{202e}";
        assert_eq!(lines[0].trim_start(), format!("INFO set {escaped} name=\"{escaped}\" mtu=1450 shown={escaped}"));
        assert!(lines.len() == 2 && lines[1].len() < 5000 && lines[1].ends_with("xx…"), "{} lines", lines.len());
    }
}
