//! What the user sees: steps as they are done, with colour on a terminal only.

use std::env;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

/// The terminal, or the file that stands for it.
pub(crate) struct Screen {
    colour: bool,
    terminal: bool,
}

/// A colour with a meaning.
#[derive(Clone, Copy)]
pub(crate) enum Ink {
    Good,
    Bad,
    Quiet,
    Strong,
}

impl Screen {
    /// Standard output. `NO_COLOR` (no-color.org), when it is not empty, takes colour away.
    pub(crate) fn new() -> Self {
        let terminal = stdout().is_terminal();
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: terminal && !plain, terminal }
    }

    /// Text in a colour.
    pub(crate) fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Good => "32",
            Ink::Bad => "31",
            Ink::Quiet => "2",
            Ink::Strong => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line.
    pub(crate) fn line(&self, text: &str) {
        // A reader that has gone away (`| head`) does not stop the checks: they decide the exit code.
        let _ = writeln!(stdout(), "{text}");
    }

    /// A headline.
    pub(crate) fn headline(&self, text: &str) {
        self.line(&format!("\n{}", self.paint(Ink::Strong, text)));
    }

    /// Does a step: its name while it works, where that can be seen, then what it took.
    ///
    /// # Errors
    /// Those of the step.
    pub(crate) fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        if self.terminal {
            let _ = write!(stdout(), "  … {name}").and_then(|()| stdout().flush());
        }
        let start = Instant::now();
        let outcome = work();
        if self.terminal {
            let _ = write!(stdout(), "\r\x1b[K");
        }
        let mark = if outcome.is_ok() { self.paint(Ink::Good, "ok") } else { self.paint(Ink::Bad, "FAILED") };
        let took = self.paint(Ink::Quiet, &format!("({})", short(start.elapsed())));
        self.line(&format!("  {mark} {name} {took}"));
        outcome
    }

    /// What went wrong, on standard error.
    pub(crate) fn failure(&self, why: &str) {
        let _ = writeln!(stderr(), "\n{} {why}", self.paint(Ink::Bad, "failed:"));
    }

    /// Waits for Enter where somebody is there to press it.
    pub(crate) fn wait_for_enter(&self, question: &str) -> io::Result<()> {
        if !io::stdin().is_terminal() || !self.terminal {
            return Ok(());
        }
        write!(stdout(), "{question}")?;
        stdout().flush()?;
        io::stdin().read_line(&mut String::new()).map(drop)
    }
}

/// A duration in the unit that suits it, three figures or fewer.
pub(crate) fn short(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        let texts = [70, 1_200, 45_000, 2_500_000].map(|micros| short(Duration::from_micros(micros)));
        assert_eq!(texts, ["70 µs", "1.2 ms", "45 ms", "2.5 s"]);
    }
}
