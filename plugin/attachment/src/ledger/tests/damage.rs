//! Files that are damaged, outdated, or left by a process that was killed.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;

use super::scratch::{Scratch, attachment, number, port, request, reserve, sets, text};
use crate::error::Kind;
use crate::ipam;
use crate::ledger::layout::record_name;
use crate::ledger::reserve::Wanted;

#[test]
fn l6_release_removes_what_a_killed_process_was_writing_and_sweep_removes_locks_without_a_holder() {
    let scratch = Scratch::new("writing");
    let ledger = scratch.ledger();
    fs::write(ledger.temporary(), "{").unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert!(!ledger.temporary().exists());
    let locks = scratch.0.join("net/turns");
    fs::write(locks.join("dead"), "").unwrap();
    let held = ledger.lock_attachment(&attachment("b")).unwrap();
    ledger.sweep(&[]).unwrap();
    let left = fs::read_dir(&locks).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.collect::<Vec<_>>(), [record_name(&attachment("b"))]);
    drop(held);
}

#[test]
fn l6_an_address_with_a_claim_that_leads_to_no_record_is_held_until_the_next_sweep() {
    let scratch = Scratch::new("nowhere");
    let ledger = scratch.ledger();
    let sets = sets(&["10.0.0.0/29"]);
    let address: IpAddr = "10.0.0.2".parse().unwrap();
    symlink(format!("../attachments/{}", "7".repeat(300)), ledger.claim(address)).unwrap();
    let wanted = Wanted { sets: &sets, addresses: &[address], ..Wanted::default() };
    let error = request(&ledger, "a", &wanted).unwrap_err();
    assert!(error.kind() == Kind::AddressUnavailable && error.to_string().contains("no record"), "{error}");
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.3");
    ledger.sweep(&[]).unwrap();
    assert_eq!(text(&request(&ledger, "a", &wanted).unwrap()), "10.0.0.2");
}

#[test]
fn i3_l10_a_damaged_or_outdated_free_list_gives_no_address_twice_and_loses_none() {
    let header =
        |head: u64, tail: u64| [b"podwire1".as_slice(), &head.to_be_bytes(), &tail.to_be_bytes(), &[0; 16]].concat();
    let interval = |first: u128, last: u128| [first.to_be_bytes(), last.to_be_bytes()].concat();
    // All addresses that there are, the gateway's and one behind the range.
    let (gateway, behind) = (number("10.0.0.1"), number("10.0.0.7"));
    let damages: [(&str, Vec<u8>); 9] = [
        ("garbage", b"garbage".into()),
        ("nothing", Vec::new()),
        ("no header", b"podwire1".into()),
        ("no intervals", header(u64::MAX - 1, u64::MAX)),
        ("every address", [header(0, 1), interval(0, u128::MAX)].concat()),
        ("the gateway", [header(0, 1), interval(gateway, gateway)].concat()),
        ("behind the range", [header(0, 1), interval(behind, behind)].concat()),
        ("behind", Vec::new()),
        ("gone", Vec::new()),
    ];
    for (damage, content) in damages {
        let scratch = Scratch::new("damage");
        let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
        let path = ledger.free(&ipam::fingerprint(&sets[0]));
        reserve(&ledger, "a", &sets).unwrap();
        let before = fs::read(&path).unwrap();
        reserve(&ledger, "b", &sets).unwrap();
        ledger.release(&attachment("a")).unwrap();
        match damage {
            "gone" => fs::remove_file(&path).unwrap(),
            // As a killed ADD or DEL leaves it.
            "behind" => fs::write(&path, before).unwrap(),
            _ => fs::write(&path, content).unwrap(),
        }
        let mut given: Vec<_> = ["c", "d", "e", "f"].map(|name| text(&reserve(&ledger, name, &sets).unwrap())).into();
        given.sort();
        assert_eq!(given, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"], "{damage}");
        assert!(reserve(&ledger, "g", &sets).is_err(), "{damage}");
    }
}

#[test]
fn a_damaged_record_is_released_by_its_claims() {
    let scratch = Scratch::new("damaged");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
    for (name, number) in [("a", 80), ("b", 81)] {
        request(&ledger, name, &Wanted { sets: &sets, ports: &[port(None, number)], ..Wanted::default() }).unwrap();
    }
    fs::write(ledger.pending(&attachment("a")), "{").unwrap();
    let error = ledger.find(&attachment("a")).unwrap_err().to_string();
    assert!(error.contains("DEL removes it, by its claims"), "{error}");
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held().len(), 3, "two claims and a record of b");
    let ports = |name: &str| scratch.0.join(".ports").join(name).exists();
    assert!(!ports("tcp-80") && ports("tcp-81"));
}

#[test]
fn a_damaged_record_does_not_lead_to_files_elsewhere() {
    let scratch = Scratch::new("elsewhere");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    let (name, elsewhere) = (ipam::fingerprint(&sets[0]), scratch.0.join("net/elsewhere"));
    fs::rename(ledger.free(&name), &elsewhere).unwrap();
    let before = fs::read(&elsewhere).unwrap();
    let record = fs::read_to_string(ledger.pending(&attachment("a"))).unwrap();
    fs::write(ledger.pending(&attachment("a")), record.replace(&name, "../elsewhere")).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), [""; 0]);
    assert_eq!(fs::read(&elsewhere).unwrap(), before);
}

#[test]
fn d17_an_address_is_released_even_if_its_free_list_cannot_be_written() {
    let scratch = Scratch::new("unwritable");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    let path = ledger.free(&ipam::fingerprint(&sets[0]));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), [""; 0]);
}

#[test]
fn a_claim_of_another_attachment_survives_the_release_of_a_record_that_names_it() {
    let scratch = Scratch::new("foreign");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let address = reserve(&ledger, "a", &sets).unwrap()[0];
    fs::remove_file(ledger.claim(address)).unwrap();
    symlink("../attachments/another", ledger.claim(address)).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), ["10.0.0.2"]);
}

#[test]
fn release_leaves_the_record_of_another_attachment_with_the_same_hash() {
    let scratch = Scratch::new("collision");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    fs::rename(ledger.pending(&attachment("a")), ledger.record(&attachment("b"))).unwrap();
    let claim = ledger.claim("10.0.0.2".parse().unwrap());
    fs::remove_file(&claim).unwrap();
    symlink(format!("../attachments/{}", record_name(&attachment("b"))), &claim).unwrap();
    let error = reserve(&ledger, "b", &sets).unwrap_err().to_string();
    assert!(error.contains("it is the record of"), "{error}");
    let before = scratch.held();
    ledger.release(&attachment("b")).unwrap();
    assert_eq!(scratch.held(), before, "releasing b must not release what a holds");
}
