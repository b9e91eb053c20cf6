//! Host ports: one holder each.

use std::fs;

use podwire_conf::Port;

use super::scratch::{Scratch, attachment, port, request, sets};
use crate::error::Kind;
use crate::ledger::directory::Ledger;
use crate::ledger::reserve::Wanted;
use crate::names::Attachment;

#[test]
fn a_host_port_belongs_to_one_pod_across_networks_and_a_wildcard_covers_every_address() {
    let scratch = Scratch::new("ports");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/125"]));
    let other = Ledger::open(&scratch.0, "other").unwrap();
    let claim = |ledger: &Ledger, name: &str, ports: &[Port]| {
        let given = request(ledger, name, &Wanted { sets: &sets, ports, ..Wanted::default() });
        given.map(|_| ()).map_err(|error| (error.kind(), error.message().to_owned()))
    };
    claim(&ledger, "a", &[port(None, 80), port(Some("192.168.0.1"), 81)]).unwrap();
    claim(&other, "b", &[port(Some("192.168.0.2"), 81), port(Some("::"), 81)]).unwrap();
    let before = scratch.held();
    for (wanted, message) in [
        (port(None, 80), "host port 80/tcp on every address is taken by container a of network net"),
        (port(Some("192.168.0.9"), 80), "host port 80/tcp on every address is taken by container a of network net"),
        (port(Some("192.168.0.2"), 81), "host port 81/tcp on 192.168.0.2 is taken by container b of network other"),
        (port(Some("fd00::9"), 81), "host port 81/tcp on every address is taken by container b of network other"),
    ] {
        assert_eq!(claim(&ledger, "c", &[port(None, 9), wanted]), Err((Kind::PortTaken, message.into())));
    }
    let twice = [port(None, 9), Port { pod_port: 81, ..port(None, 9) }];
    assert_eq!(
        claim(&ledger, "c", &twice),
        Err((Kind::PortTaken, "host port 9/tcp on every address is taken by this pod itself".into()))
    );
    assert_eq!(scratch.held(), before);
    other.release(&Attachment { network: "net".into(), ..attachment("b") }).unwrap();
    ledger.release(&attachment("a")).unwrap();
    claim(&ledger, "c", &[port(Some("192.168.0.3"), 80), port(Some("192.168.0.1"), 81)]).unwrap();
    // A holder without a record holds nothing.
    fs::remove_dir_all(scratch.0.join("net/pending")).unwrap();
    fs::create_dir(scratch.0.join("net/pending")).unwrap();
    claim(&other, "d", &[port(None, 80)]).unwrap();
    assert_eq!(fs::read_dir(scratch.0.join(".ports")).unwrap().count(), 3, "the lock, 80 and 81, nothing of 9");
}

#[test]
fn a_pod_with_two_addresses_of_a_family_may_have_a_host_port() {
    let scratch = Scratch::new("two");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "10.1.0.0/29"]));
    let ports = [port(None, 80), port(Some("192.168.0.1"), 81)];
    let wanted = Wanted { sets: &sets, ports: &ports, ..Wanted::default() };
    request(&ledger, "a", &wanted).unwrap();
    assert_eq!(request(&ledger, "b", &wanted).unwrap_err().kind(), Kind::PortTaken);
}

#[test]
fn host_ports_of_a_damaged_record_are_free_after_its_release() {
    let scratch = Scratch::new("stale");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let claim = |name: &str, number: u16| {
        request(&ledger, name, &Wanted { sets: &sets, ports: &[port(None, number)], ..Wanted::default() })
    };
    for next in [80, 81] {
        claim("a", 80).unwrap();
        fs::write(ledger.pending(&attachment("a")), "{").unwrap();
        assert_eq!(
            claim("b", 80).unwrap_err().kind(),
            Kind::PortTaken,
            "a record that cannot be read may have the port"
        );
        ledger.release(&attachment("a")).unwrap();
        claim("a", next).unwrap();
        if next != 80 {
            claim("b", 80).unwrap();
        }
        ledger.release(&attachment("a")).unwrap();
    }
}

#[test]
fn d17_a_damaged_port_file_does_not_stop_a_release() {
    let scratch = Scratch::new("port-file");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let ports = [port(None, 80)];
    let wanted = Wanted { sets: &sets, ports: &ports, ..Wanted::default() };
    request(&ledger, "a", &wanted).unwrap();
    fs::write(scratch.0.join(".ports/tcp-80"), "{").unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), [""; 0]);
    let error = request(&ledger, "a", &wanted).unwrap_err();
    assert!(error.kind() == Kind::Damaged && error.to_string().contains("remove the file to go on"), "{error}");
    assert_eq!(scratch.held(), [""; 0]);
}
