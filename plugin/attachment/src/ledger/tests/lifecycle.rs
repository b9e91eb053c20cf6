//! Reservation, completion, locks, reboot, and the format of a record.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::scratch::{Scratch, attachment, port, request, reserve, sets, text};
use crate::ledger::record::{Record, SecondInterface};
use crate::ledger::reserve::Wanted;

#[test]
fn a_reboot_frees_every_address() {
    let scratch = Scratch::new("reboot");
    let sets = sets(&["10.0.0.0/30"]);
    reserve(&scratch.ledger(), "a", &sets).unwrap();
    fs::write(scratch.0.join("net/boot"), "another boot").unwrap();
    let ledger = scratch.ledger();
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.2");
}

#[test]
fn l11_a_reboot_frees_every_host_port_and_the_same_pod_may_claim_it_again() {
    let scratch = Scratch::new("reboot-ports");
    let sets = sets(&["10.0.0.0/29"]);
    let wanted = Wanted { sets: &sets, ports: &[port(None, 80)], ..Wanted::default() };
    request(&scratch.ledger(), "a", &wanted).unwrap();
    fs::write(scratch.0.join("net/boot"), "another boot").unwrap();
    let ledger = scratch.ledger();
    assert!(!scratch.0.join(".ports/tcp-80").exists());
    request(&ledger, "a", &wanted).unwrap();
}

#[test]
fn an_attachment_without_its_reservation_cannot_be_completed() {
    let scratch = Scratch::new("lost");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    ledger.release(&attachment("a")).unwrap();
    let error = ledger.complete(&attachment("a")).unwrap_err().to_string();
    assert!(error.contains("has lost its reservation"), "{error}");
    assert_eq!(scratch.held(), [""; 0]);
}

#[test]
fn the_lock_of_an_attachment_has_one_holder_at_a_time_and_leaves_no_file() {
    let scratch = Scratch::new("locks");
    let ledger = scratch.ledger();
    let under_way = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _lock = ledger.lock_attachment(&attachment("a")).unwrap();
                    assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0);
                    under_way.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    let _other = ledger.lock_attachment(&attachment("b")).unwrap();
    assert_eq!(fs::read_dir(scratch.0.join("net/turns")).unwrap().count(), 1);
}

#[test]
fn a_reservation_that_cannot_be_written_holds_nothing() {
    let scratch = Scratch::new("half");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
    // In the place of the second claim there is a directory.
    fs::create_dir_all(ledger.claim("fd00::2".parse().unwrap()).join("in the way")).unwrap();
    let taken_over = reserve(&ledger, "a", &sets).unwrap();
    assert_eq!(text(&taken_over), "10.0.0.2 fd00::3", "whatever has the name of a claim counts as one");
    // The record can be written, and no claim.
    let (claims, away) = (scratch.0.join("net/claims"), scratch.0.join("net/away"));
    fs::rename(&claims, &away).unwrap();
    assert!(reserve(&ledger, "b", &sets).is_err());
    assert!(!ledger.pending(&attachment("b")).exists());
    fs::rename(&away, &claims).unwrap();
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.3 fd00::4");
    ledger.complete(&attachment("b")).unwrap();
    assert!(ledger.find(&attachment("b")).unwrap().unwrap().1 && !ledger.find(&attachment("a")).unwrap().unwrap().1);
}

#[test]
fn a_record_with_an_unreadable_or_no_link_layer_address_is_read_without_one() {
    let new =
        r#"{"attachment":{"network":"n","container":"c","interface":"eth0"},"addresses":[],"mac":"02:00:00:00:00:05"}"#;
    let record: Record = serde_json::from_str(new).unwrap();
    assert_eq!(record.mac, Some(podwire_kernel::Mac([2, 0, 0, 0, 0, 5])));
    assert_eq!(serde_json::to_string(&record).unwrap(), new);
    for older in [new.replace(r#","mac":"02:00:00:00:00:05""#, ""), new.replace("02:00:00:00:00:05", "odd")] {
        let record: Record = serde_json::from_str(&older).unwrap();
        assert_eq!(record.mac, None);
        assert!(!serde_json::to_string(&record).unwrap().contains("mac"));
    }
}

#[test]
fn the_pod_of_a_second_interface_has_the_key_that_older_versions_gave_it() {
    let text = r#"{"attachment":{"network":"n","container":"c","interface":"net1"},"addresses":[],"beside":{"namespace":[4,5],"device":7}}"#;
    let record: Record = serde_json::from_str(text).unwrap();
    assert_eq!(record.second_interface, Some(SecondInterface { namespace: (4, 5), device: 7 }));
    assert_eq!(serde_json::to_string(&record).unwrap(), text);
}
