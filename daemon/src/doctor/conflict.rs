//! Another program that keeps undoing the daemon's repairs: each check finds everything in place, and packets are lost in
//! between.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::finding::{Finding, FindingKind};
use crate::observe::status::client;
use crate::observe::status::document::Status;

/// With fewer repairs since the daemon's start nothing is suspected.
const MANY: u64 = 10;

/// Twice the longest back-off of the daemon's repairs: within this time there is another one.
const WITHIN: Duration = Duration::from_secs(4);

/// How often the daemon is asked meanwhile.
const BETWEEN: Duration = Duration::from_millis(100);

pub(super) fn look(status: &Status) -> Option<Finding> {
    let before = &status.daemon;
    let is_recent = before.last_pass_age_seconds.is_some_and(|age| age < WITHIN.as_secs_f64());
    if before.repairs.values().sum::<u64>() < MANY || !is_recent {
        return None;
    }
    let deadline = Instant::now() + WITHIN;
    loop {
        // A daemon that does not answer any more is another finding.
        let now = client::ask().ok()?.daemon;
        if let Some(finding) = judge(&before.repairs, &now.repairs) {
            return Some(finding);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(BETWEEN);
    }
}

/// Which kinds of repairs have become more. Pure.
fn judge(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Option<Finding> {
    let more = now.iter().filter(|(kind, count)| before.get(*kind).is_none_or(|before| before < count));
    let kinds: Vec<_> = more.map(|(kind, count)| format!("{kind}: {count}")).collect();
    let cause = format!(
        "another program keeps undoing podwire's repairs (repairs so far: {}): packets are lost in between",
        kinds.join(", ")
    );
    let fix = "journalctl -u podwired -n 20; ip monitor all   # what it is; often systemd-networkd, NetworkManager or the daemon \
               of another network does it";
    (!kinds.is_empty()).then(|| Finding::general(FindingKind::Conflict, cause, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_becomes_more_is_named() {
        let counts = |route, link| BTreeMap::from([("route".to_owned(), route), ("link".to_owned(), link)]);
        assert_eq!(judge(&counts(30, 2), &counts(30, 2)), None);
        let found = judge(&counts(30, 2), &counts(32, 2)).unwrap();
        assert!(found.cause.contains("(repairs so far: route: 32)"), "{}", found.cause);
    }
}
