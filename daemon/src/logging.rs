//! Where the log goes: to standard error line by line, and where one thread logs a long list, many lines at once.
//!
//! What may not live here: what is logged.

use std::cell::RefCell;
use std::io::{self, Write};

/// Lines are held back up to about this many bytes. More gains nothing: a pipe takes fewer at once.
const MANY: usize = 16 * 1024;

thread_local! {
    static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
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
