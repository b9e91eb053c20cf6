//! Records that are looked at again: what has changed is read, and nothing else.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::scratch::{Scratch, attachment, reserve, sets};
use crate::ledger::directory::Ledger;
use crate::ledger::known_records::{How, KnownRecords};
use crate::ledger::record::Record;

/// A time at which everything that is there has been there for long.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(10)
}

/// The containers by the records that are known, after it was seen that a reader who knows nothing finds the same.
fn containers(known: &KnownRecords, ledger: &Ledger) -> Vec<String> {
    let (mut all, mut damaged) = ledger.records().unwrap();
    let mut records: Vec<_> = known.records().cloned().collect();
    all.sort_by(|one, other| one.attachment.container.cmp(&other.attachment.container));
    records.sort_by(|one, other| one.attachment.container.cmp(&other.attachment.container));
    assert_eq!(records, all);
    damaged.sort();
    assert_eq!(known.damaged().collect::<Vec<_>>(), damaged);
    all.into_iter().map(|record| record.attachment.container).collect()
}

/// Puts a file in another one's place.
fn replace(path: &Path, content: &[u8]) {
    let other = path.with_extension("new");
    fs::write(&other, content).unwrap();
    fs::rename(other, path).unwrap();
}

#[test]
fn records_that_come_move_are_damaged_and_go_are_seen() {
    for how in [How::ByInode, How::Thoroughly] {
        let scratch = Scratch::new("known");
        let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
        let mut known = KnownRecords::default();
        let mut look = || {
            let before: Vec<_> = known.records().cloned().collect();
            let changed = known.look(&ledger, how, later()).unwrap();
            let after: Vec<_> = known.records().cloned().collect();
            let is_only = |record: &&Record| before.contains(record) != after.contains(record);
            for record in before.iter().chain(&after).filter(is_only) {
                assert!(changed.contains(record), "{record:?} is not among {changed:?}");
            }
            (containers(&known, &ledger), known.damaged().count())
        };
        assert_eq!(look(), (vec![], 0));
        for name in ["a", "b"] {
            reserve(&ledger, name, &sets).unwrap();
        }
        assert_eq!(look(), (vec!["a".into(), "b".into()], 0));
        ledger.complete(&attachment("a")).unwrap();
        assert_eq!(look(), (vec!["a".into(), "b".into()], 0));
        replace(&ledger.pending(&attachment("b")), b"{");
        assert_eq!(look(), (vec!["a".into()], 1));
        let mut other = ledger.find(&attachment("a")).unwrap().unwrap().0;
        other.attachment.container = "other".into();
        replace(&ledger.record(&attachment("a")), &serde_json::to_vec(&other).unwrap());
        assert_eq!(look(), (vec!["other".into()], 1));
        ledger.release(&attachment("b")).unwrap();
        assert_eq!(look(), (vec!["other".into()], 0));
        fs::remove_dir_all(&scratch.0).unwrap();
        assert_eq!(look(), (vec![], 0));
        fs::create_dir_all(&scratch.0).unwrap();
    }
}

/// Writes over a file so that neither its bytes nor its time tell.
fn write_unseen(path: &Path, from: &str, to: &str) {
    let written = fs::metadata(path).unwrap().modified().unwrap();
    let content = fs::read_to_string(path).unwrap().replace(from, to);
    fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
}

#[test]
fn a_record_is_read_again_only_where_it_may_have_changed() {
    let scratch = Scratch::new("known-unread");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "young", &sets).unwrap();
    let path = ledger.pending(&attachment("young"));
    let mut known = KnownRecords::default();
    // It could be written once more within the same tick of the kernel's clock.
    known.look(&ledger, How::ByInode, fs::metadata(&path).unwrap().modified().unwrap()).unwrap();
    write_unseen(&path, "young", "later");
    known.look(&ledger, How::ByInode, later()).unwrap();
    assert_eq!(known.records().next().unwrap().attachment.container, "later");
    // What somebody writes into the file of a record is seen by its time, or by its bytes.
    let content = fs::read_to_string(&path).unwrap();
    fs::write(&path, content.replace("later", "longer")).unwrap();
    known.look(&ledger, How::ByInode, later()).unwrap();
    assert_eq!(known.records().next().unwrap().attachment.container, "later");
    known.look(&ledger, How::Thoroughly, later()).unwrap();
    assert_eq!(known.records().next().unwrap().attachment.container, "longer");
    write_unseen(&path, "longer", "unseen");
    known.look(&ledger, How::Thoroughly, later()).unwrap();
    assert_eq!(
        known.records().next().unwrap().attachment.container,
        "longer",
        "the file bears the time at which it was read"
    );
}

#[test]
fn records_that_are_known_stay_where_others_cannot_be_read() {
    let scratch = Scratch::new("known-unreadable");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    let mut known = KnownRecords::default();
    known.look(&ledger, How::ByInode, later()).unwrap();
    let in_its_place = scratch.0.join("net/attachments/0123456789abcdef");
    fs::create_dir(&in_its_place).unwrap();
    assert!(known.look(&ledger, How::ByInode, later()).unwrap_err().to_string().contains("0123456789abcdef"));
    assert_eq!(known.records().count(), 1);
    fs::remove_dir(&in_its_place).unwrap();
    known.look(&ledger, How::ByInode, later()).unwrap();
    assert_eq!(known.records().count(), 1);
}
