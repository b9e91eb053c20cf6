//! The records of the plugin's ledger, as far as they are of this boot: they are read again when one may have changed.
//!
//! What may not live here: what a record means for policies.

use std::path::Path;
use std::time::{Duration, SystemTime};

use podwire_attachment::ledger::{How, KnownRecords, Ledger, Record, TICK};
use podwire_conf::defaults;

/// After this time all of them are looked at in any case, and thoroughly.
const OLD: Duration = Duration::from_secs(30);

/// The records, and those that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    pub(super) known: KnownRecords,
    /// When they had changed last, and when they were read.
    read: Option<(SystemTime, SystemTime)>,
    /// When they were last read without trust in the numbers of files.
    thorough: Option<SystemTime>,
}

impl Attachments {
    /// Reads those that may be others than before: what has come and what has gone; `None` where nothing has.
    ///
    /// # Errors
    /// When the ledger cannot be read; what was read before stays.
    pub(super) fn refresh(&mut self) -> Result<Option<Vec<Record>>, String> {
        let ledger = Ledger::of_this_boot(Path::new(defaults::RUN_DIRECTORY), defaults::NETWORK);
        let Some(ledger) = ledger.map_err(|error| error.to_string())? else {
            let before = std::mem::take(self);
            return Ok(Some(before.known.records().cloned().collect()));
        };
        let now = SystemTime::now();
        let changed = ledger.records_changed().map_err(|error| error.to_string())?;
        if self.read.is_some_and(|read| is_known(read, changed, now)) {
            return Ok(None);
        }
        let how = match self.thorough.is_some_and(|at| is_young(at, now)) {
            true => How::ByInode,
            false => How::Thoroughly,
        };
        let found = self.known.look(&ledger, how, now).map_err(|error| error.to_string())?;
        self.read = Some((changed, now));
        if how == How::Thoroughly {
            self.thorough = Some(now);
        }
        Ok(Some(found))
    }

    /// Has all of them looked at thoroughly the next time.
    pub(super) fn mistrust(&mut self) {
        (self.read, self.thorough) = (None, None);
    }
}

/// Whether what was read is still what is there. `read`: when it had changed last, and when it was read.
fn is_known(read: (SystemTime, SystemTime), changed: SystemTime, now: SystemTime) -> bool {
    let (before, at) = read;
    let settled = at.duration_since(before).is_ok_and(|age| age > TICK);
    before == changed && settled && is_young(at, now)
}

fn is_young(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age < OLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_again_after_a_change_and_where_one_may_have_been_missed() {
        let at = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        assert!(is_known((at(1_000), at(1_100)), at(1_000), at(1_200)));
        assert!(!is_known((at(1_000), at(1_100)), at(1_150), at(1_200)), "it has changed");
        assert!(!is_known((at(1_000), at(1_010)), at(1_000), at(1_200)), "it may have changed again in the same tick");
        assert!(!is_known((at(1_000), at(1_100)), at(1_000), at(40_000)), "that is long ago");
        assert!(!is_known((at(1_000), at(1_100)), at(1_000), at(900)), "the clock was set");
    }
}
