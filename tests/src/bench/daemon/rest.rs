//! What the daemon costs while nothing has to be done.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::plan::{self, Entry};
use super::program::Podwired;
use crate::statistics::rounded;

/// How often the file is written again as it is.
const SAME_EVERY: Duration = Duration::from_secs(1);

/// How often it is written again with other bytes that mean the same.
const REWORDED_EVERY: Duration = Duration::from_secs(10);

/// A time of rest.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Rest {
    /// What went on.
    pub(crate) what: What,
    /// How long.
    pub(crate) seconds: f64,
    /// The processor time that was taken, of one core, in percent.
    pub(crate) percent: f64,
}

/// What goes on while the daemon has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// Nothing.
    Nothing,
    /// The membership file is written again as it was, every second.
    Same,
    /// The membership file is written again in another order, every ten seconds.
    Reworded,
}

impl What {
    /// For humans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing happens",
            Self::Same => "the file is written again as it was, every second",
            Self::Reworded => "the file is written again in another order, every 10 s",
        }
    }
}

/// Watches a daemon that has come to rest with these entries, for this long of each kind.
///
/// # Errors
/// When it ends.
pub(crate) fn measure(
    daemon: &Podwired,
    directory: &Path,
    entries: &[Entry],
    length: Duration,
) -> Result<Vec<Rest>, String> {
    let turned: Vec<_> = entries.iter().rev().copied().collect();
    let texts = [plan::text(entries), plan::text(&turned)];
    // The look that follows a change is over before the rest begins.
    thread::sleep(Duration::from_secs(3).min(length));
    let mut rests = Vec::new();
    for what in [What::Nothing, What::Same, What::Reworded] {
        let (before, start) = (daemon.processor_time()?, Instant::now());
        let mut written = 0;
        while start.elapsed() < length {
            let pause = match what {
                What::Nothing => length,
                What::Same => SAME_EVERY,
                What::Reworded => REWORDED_EVERY,
            };
            thread::sleep(pause.min(length.saturating_sub(start.elapsed())));
            written += 1;
            match what {
                What::Nothing => {}
                What::Same => plan::write(directory, &texts[0])?,
                What::Reworded => plan::write(directory, &texts[written % 2])?,
            }
        }
        let (took, passed) = (daemon.processor_time()?.saturating_sub(before), start.elapsed());
        let percent = rounded(took.as_secs_f64() / passed.as_secs_f64() * 100.0);
        rests.push(Rest { what, seconds: rounded(passed.as_secs_f64()), percent });
    }
    Ok(rests)
}
