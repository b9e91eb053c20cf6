//! Addresses: which one an attachment gets, and in which order.

use std::fs;
use std::net::IpAddr;

use podwire_conf::Port;

use super::scratch::{Scratch, attachment, port, request, reserve, sets, text};
use crate::error::Kind;
use crate::ipam;
use crate::ledger::reserve::Wanted;

#[test]
fn an_address_of_each_set_is_held_until_it_is_released() {
    let scratch = Scratch::new("held");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
    assert_eq!(text(&reserve(&ledger, "a", &sets).unwrap()), "10.0.0.2 fd00::2");
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.3 fd00::3");
    ledger.release(&attachment("a")).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held().len(), 3, "two claims and a record of b");
    assert_eq!(text(&reserve(&ledger, "c", &sets).unwrap()), "10.0.0.4 fd00::4");
}

#[test]
fn a_full_range_is_named_in_the_error_and_the_failed_reservation_holds_nothing() {
    let scratch = Scratch::new("full");
    let (ledger, sets) = (scratch.ledger(), sets(&["fd00::/64", "10.0.0.0/30"]));
    reserve(&ledger, "a", &sets).unwrap();
    let before = scratch.held();
    let error = reserve(&ledger, "b", &sets).unwrap_err().to_string();
    assert!(error.starts_with("no IP addresses available in range set: 10.0.0.0/30 (all 1 are held"), "{error}");
    assert_eq!(scratch.held(), before);
    // An address that was just released is better than none.
    ledger.release(&attachment("a")).unwrap();
    assert!(text(&reserve(&ledger, "b", &sets).unwrap()).ends_with("10.0.0.2"));
}

#[test]
fn the_same_attachment_cannot_reserve_twice() {
    let scratch = Scratch::new("twice");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    let before = scratch.held();
    let error = reserve(&ledger, "a", &sets).unwrap_err().to_string();
    assert!(error.starts_with("interface eth0 of container a is attached already to network net"), "{error}");
    assert_eq!(scratch.held(), before);
}

#[test]
fn i2_b1_released_addresses_are_given_after_all_others_and_oldest_first() {
    let scratch = Scratch::new("rests");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let give = |name: &str| text(&reserve(&ledger, name, &sets).unwrap());
    assert_eq!(["a", "b", "c", "d"].map(give), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    for name in ["c", "a"] {
        ledger.release(&attachment(name)).unwrap();
    }
    assert_eq!(["e", "f", "g"].map(give), ["10.0.0.6", "10.0.0.4", "10.0.0.2"]);
}

#[test]
fn i2_a_failed_reservation_keeps_the_order_of_addresses() {
    let scratch = Scratch::new("in-vain");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/125"]));
    let ports = [port(None, 80)];
    let request_for = |name: &str, addresses: &[&str], ports: &[Port]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = Wanted { sets: &sets, addresses: &addresses, ports, ..Wanted::default() };
        request(&ledger, name, &wanted).map(|given| text(&given))
    };
    assert_eq!(request_for("a", &[], &ports).unwrap(), "10.0.0.2 fd00::2");
    // A port that is taken, an address that is, and both.
    assert_eq!(request_for("b", &[], &ports).unwrap_err().kind(), Kind::PortTaken);
    assert_eq!(request_for("b", &["10.0.0.3", "fd00::2"], &[]).unwrap_err().kind(), Kind::AddressUnavailable);
    assert_eq!(request_for("b", &["10.0.0.3"], &ports).unwrap_err().kind(), Kind::PortTaken);
    assert_eq!(request_for("b", &[], &[]).unwrap(), "10.0.0.3 fd00::3");
    ledger.release(&attachment("b")).unwrap();
    assert_eq!(
        ["c", "d", "e", "f"].map(|name| request_for(name, &[], &[]).unwrap()),
        ["10.0.0.4 fd00::4", "10.0.0.5 fd00::5", "10.0.0.6 fd00::6", "10.0.0.3 fd00::7"]
    );
}

#[test]
fn i7_p8_a_requested_address_is_given_when_it_is_free_and_in_range() {
    let scratch = Scratch::new("requested");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/125"]));
    let request_for = |name: &str, addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        request(&ledger, name, &Wanted { sets: &sets, addresses: &addresses, ..Wanted::default() })
            .map(|given| text(&given))
    };
    assert_eq!(request_for("a", &["10.0.0.4"]).unwrap(), "10.0.0.4 fd00::2");
    assert_eq!(
        request_for("b", &["fd00::2", "10.0.0.3"]).unwrap_err().message(),
        "failed to allocate all requested IPs: fd00::2: it is held by container a"
    );
    assert_eq!(request_for("b", &["fd00::5", "10.0.0.3"]).unwrap(), "10.0.0.3 fd00::5");
    for (address, why) in [
        ("10.0.0.4", "10.0.0.4: it is held by container a"),
        ("10.0.0.1", "10.0.0.1: requested ip is subnet's gateway"),
        ("10.0.0.7", "10.0.0.7: it is in none of the ranges of network net: 10.0.0.0/29; fd00::/125"),
        ("192.168.0.1", "192.168.0.1: it is in none of the ranges of network net: 10.0.0.0/29; fd00::/125"),
    ] {
        let error = request_for("c", &[address]).unwrap_err();
        assert_eq!(error.message(), format!("failed to allocate all requested IPs: {why}"));
        assert_eq!(error.kind(), Kind::AddressUnavailable);
    }
    let error = request_for("c", &["10.0.0.5", "10.0.0.6"]).unwrap_err();
    assert!(error.message().contains("10.0.0.5 is requested too"), "{error}");
    // An address that was given on request is not given again in order.
    assert_eq!(
        ["c", "d", "e"].map(|name| request_for(name, &[]).unwrap()),
        ["10.0.0.2 fd00::3", "10.0.0.5 fd00::4", "10.0.0.6 fd00::6"]
    );
    let error = request_for("f", &[]).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::RangeFull, "no IP addresses available in range set: 10.0.0.0/29")
    );
}

#[test]
fn an_address_with_a_foreign_route_is_skipped_and_not_lost() {
    let scratch = Scratch::new("routed");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let give = |name: &str, foreign: &[&str]| {
        let mut routed = |address: IpAddr| Ok(foreign.contains(&address.to_string().as_str()));
        let wanted = Wanted { sets: &sets, ..Wanted::default() };
        ledger.reserve(&attachment(name), &wanted, &mut routed).map(|record| text(&record.addresses()))
    };
    assert_eq!(give("a", &["10.0.0.2", "10.0.0.3"]).unwrap(), "10.0.0.4");
    assert_eq!(give("b", &["10.0.0.3"]).unwrap(), "10.0.0.5");
    assert_eq!(
        give("c", &["10.0.0.6", "10.0.0.2", "10.0.0.3"]).unwrap_err().to_string().split("; see").next(),
        Some("no IP addresses available in range set: 10.0.0.0/29 (all 5 are held, 3 of them by foreign routes")
    );
    let mut rest: Vec<_> = ["c", "d", "e"].map(|name| give(name, &[]).unwrap()).into();
    rest.sort();
    assert_eq!(rest, ["10.0.0.2", "10.0.0.3", "10.0.0.6"]);
}

#[test]
fn i14_a_range_that_grows_gives_its_new_addresses_and_none_that_is_held() {
    let scratch = Scratch::new("grows");
    let ledger = scratch.ledger();
    let (small, large, elsewhere) = (sets(&["10.0.0.0/30"]), sets(&["10.0.0.0/29"]), sets(&["10.9.0.0/30"]));
    assert_eq!(text(&reserve(&ledger, "a", &small).unwrap()), "10.0.0.2");
    assert_eq!(text(&reserve(&ledger, "b", &large).unwrap()), "10.0.0.3");
    assert_eq!(text(&reserve(&ledger, "c", &elsewhere).unwrap()), "10.9.0.2");
    for name in ["a", "b", "c"] {
        ledger.release(&attachment(name)).unwrap();
    }
    assert_eq!(scratch.held(), [""; 0]);
    let mut given: Vec<_> = ["d", "e", "f", "g", "h"].map(|name| text(&reserve(&ledger, name, &large).unwrap())).into();
    given.sort();
    assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
}

#[test]
fn a_free_list_does_not_grow_with_use() {
    let scratch = Scratch::new("long");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    for _ in 0..3000 {
        reserve(&ledger, "a", &sets).unwrap();
        ledger.release(&attachment("a")).unwrap();
    }
    let length = fs::metadata(ledger.free(&ipam::fingerprint(&sets[0]))).unwrap().len();
    assert!(length < 64 * 1024, "{length} bytes");
}

#[test]
fn parallel_reservations_get_different_addresses() {
    let scratch = Scratch::new("parallel");
    let sets = sets(&["10.0.0.0/26"]);
    let mut addresses = std::thread::scope(|scope| {
        let reserve = |number: usize| {
            let (scratch, sets) = (&scratch, &sets);
            move || text(&reserve(&scratch.ledger(), &number.to_string(), sets).unwrap())
        };
        let threads: Vec<_> = (0..61).map(|number| scope.spawn(reserve(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 61);
}
