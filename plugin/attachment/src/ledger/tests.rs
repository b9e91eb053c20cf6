mod properties;

use std::os::unix::fs::symlink;

use podwire_conf::{Port, Range};

use super::*;
use crate::ipam;

/// A ledger in a directory of its own, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podwire-ledger-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&self.0, "net").unwrap()
    }

    fn held(&self) -> Vec<String> {
        let list = |name| fs::read_dir(self.0.join("net").join(name)).unwrap();
        list("claims")
            .chain(list("pending"))
            .chain(list("attachments"))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn attachment(container: &str) -> Attachment {
    Attachment { network: "net".into(), container: container.into(), interface: "eth0".into() }
}

fn sets(subnets: &[&str]) -> Vec<Vec<Range>> {
    let range = |text: &&str| Range { subnet: text.parse().unwrap(), start: None, end: None, gateway: None };
    subnets.iter().map(|subnet| vec![range(subnet)]).collect()
}

/// Reserves an address of each set, in a kernel where nobody routes anything.
fn reserve(ledger: &Ledger, name: &str, sets: &[Vec<Range>]) -> Result<Vec<IpAddr>, Error> {
    wish(ledger, name, &Wanted { sets, ..Wanted::default() })
}

fn wish(ledger: &Ledger, name: &str, wanted: &Wanted<'_>) -> Result<Vec<IpAddr>, Error> {
    ledger.reserve(&attachment(name), wanted, &mut |_| Ok(false)).map(|record| record.addresses())
}

fn text(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn number(address: &str) -> u128 {
    ipam::bits(address.parse().unwrap())
}

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
fn a_full_range_is_refused_by_name_and_holds_nothing_for_the_refused() {
    let scratch = Scratch::new("full");
    let (ledger, sets) = (scratch.ledger(), sets(&["fd00::/64", "10.0.0.0/30"]));
    reserve(&ledger, "a", &sets).unwrap();
    let before = scratch.held();
    let error = reserve(&ledger, "b", &sets).unwrap_err().to_string();
    assert!(error.starts_with("no IP addresses available in range set: 10.0.0.0/30 (all 1 are held"), "{error}");
    assert_eq!(scratch.held(), before);
    // A resting address is better than none.
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
fn a_reboot_frees_every_address() {
    let scratch = Scratch::new("reboot");
    let sets = sets(&["10.0.0.0/30"]);
    reserve(&scratch.ledger(), "a", &sets).unwrap();
    fs::write(scratch.0.join("net/boot"), "another boot").unwrap();
    let ledger = scratch.ledger();
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.2");
}

#[test]
fn l11_a_reboot_frees_every_port_and_the_same_pod_may_have_it_again() {
    let scratch = Scratch::new("reboot-ports");
    let sets = sets(&["10.0.0.0/29"]);
    let wanted = Wanted { sets: &sets, ports: &[port(None, 80)], ..Wanted::default() };
    wish(&scratch.ledger(), "a", &wanted).unwrap();
    fs::write(scratch.0.join("net/boot"), "another boot").unwrap();
    let ledger = scratch.ledger();
    assert!(!scratch.0.join(".ports/tcp-80").exists());
    wish(&ledger, "a", &wanted).unwrap();
}

#[test]
fn l6_what_a_killed_process_was_writing_goes_with_the_next_release_and_a_turn_of_nobody_with_the_next_sweep() {
    let scratch = Scratch::new("writing");
    let ledger = scratch.ledger();
    fs::write(ledger.beside(), "{").unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert!(!ledger.beside().exists());
    let turns = scratch.0.join("net/turns");
    fs::write(turns.join("dead"), "").unwrap();
    let living = ledger.lock_attachment(&attachment("b")).unwrap();
    ledger.sweep(&[]).unwrap();
    let left = fs::read_dir(&turns).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.collect::<Vec<_>>(), [hash_name(&attachment("b"))]);
    drop(living);
}

#[test]
fn l6_a_claim_that_leads_to_no_possible_record_is_held_until_it_is_swept() {
    let scratch = Scratch::new("nowhere");
    let ledger = scratch.ledger();
    let sets = sets(&["10.0.0.0/29"]);
    let address: IpAddr = "10.0.0.2".parse().unwrap();
    symlink(format!("../attachments/{}", "7".repeat(300)), ledger.claim(address)).unwrap();
    let wanted = Wanted { sets: &sets, addresses: &[address], ..Wanted::default() };
    let failure = wish(&ledger, "a", &wanted).unwrap_err();
    assert!(failure.kind() == Kind::AddressUnavailable && failure.to_string().contains("no record"), "{failure}");
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.3");
    ledger.sweep(&[]).unwrap();
    assert_eq!(text(&wish(&ledger, "a", &wanted).unwrap()), "10.0.0.2");
}

#[test]
fn i3_l10_a_queue_that_is_damaged_or_behind_gives_no_address_twice_and_loses_none() {
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
fn i2_b1_a_released_address_is_given_when_every_other_has_been_the_oldest_first() {
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
fn i2_a_reservation_that_fails_leaves_every_address_in_its_turn() {
    let scratch = Scratch::new("in-vain");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/125"]));
    let ports = [port(None, 80)];
    let wishes = |name: &str, addresses: &[&str], ports: &[Port]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = Wanted { sets: &sets, addresses: &addresses, ports, ..Wanted::default() };
        wish(&ledger, name, &wanted).map(|given| text(&given))
    };
    assert_eq!(wishes("a", &[], &ports).unwrap(), "10.0.0.2 fd00::2");
    // A port that is taken, an address that is, and both.
    assert_eq!(wishes("b", &[], &ports).unwrap_err().kind(), Kind::PortTaken);
    assert_eq!(wishes("b", &["10.0.0.3", "fd00::2"], &[]).unwrap_err().kind(), Kind::AddressUnavailable);
    assert_eq!(wishes("b", &["10.0.0.3"], &ports).unwrap_err().kind(), Kind::PortTaken);
    assert_eq!(wishes("b", &[], &[]).unwrap(), "10.0.0.3 fd00::3");
    ledger.release(&attachment("b")).unwrap();
    assert_eq!(
        ["c", "d", "e", "f"].map(|name| wishes(name, &[], &[]).unwrap()),
        ["10.0.0.4 fd00::4", "10.0.0.5 fd00::5", "10.0.0.6 fd00::6", "10.0.0.3 fd00::7"]
    );
}

#[test]
fn i7_p8_an_address_that_is_wished_is_given_when_it_is_free_and_in_range() {
    let scratch = Scratch::new("wished");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/125"]));
    let wishes = |name: &str, addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        wish(&ledger, name, &Wanted { sets: &sets, addresses: &addresses, ..Wanted::default() })
            .map(|given| text(&given))
    };
    assert_eq!(wishes("a", &["10.0.0.4"]).unwrap(), "10.0.0.4 fd00::2");
    assert_eq!(
        wishes("b", &["fd00::2", "10.0.0.3"]).unwrap_err().message(),
        "failed to allocate all requested IPs: fd00::2: it is held by container a"
    );
    assert_eq!(wishes("b", &["fd00::5", "10.0.0.3"]).unwrap(), "10.0.0.3 fd00::5");
    for (address, why) in [
        ("10.0.0.4", "10.0.0.4: it is held by container a"),
        ("10.0.0.1", "10.0.0.1: requested ip is subnet's gateway"),
        ("10.0.0.7", "10.0.0.7: it is in none of the ranges of network net: 10.0.0.0/29; fd00::/125"),
        ("192.168.0.1", "192.168.0.1: it is in none of the ranges of network net: 10.0.0.0/29; fd00::/125"),
    ] {
        let failure = wishes("c", &[address]).unwrap_err();
        assert_eq!(failure.message(), format!("failed to allocate all requested IPs: {why}"));
        assert_eq!(failure.kind(), Kind::AddressUnavailable);
    }
    let failure = wishes("c", &["10.0.0.5", "10.0.0.6"]).unwrap_err();
    assert!(failure.message().contains("10.0.0.5 is requested too"), "{failure}");
    // What was taken out of turn is not given in turn.
    assert_eq!(
        ["c", "d", "e"].map(|name| wishes(name, &[]).unwrap()),
        ["10.0.0.2 fd00::3", "10.0.0.5 fd00::4", "10.0.0.6 fd00::6"]
    );
    let failure = wishes("f", &[]).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.message()),
        (Kind::RangeFull, "no IP addresses available in range set: 10.0.0.0/29")
    );
}

#[test]
fn an_address_that_a_stranger_routes_is_passed_over_and_not_lost() {
    let scratch = Scratch::new("routed");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let give = |name: &str, strangers: &[&str]| {
        let mut routed = |address: IpAddr| Ok(strangers.contains(&address.to_string().as_str()));
        let wanted = Wanted { sets: &sets, ..Wanted::default() };
        ledger.reserve(&attachment(name), &wanted, &mut routed).map(|record| text(&record.addresses()))
    };
    assert_eq!(give("a", &["10.0.0.2", "10.0.0.3"]).unwrap(), "10.0.0.4");
    assert_eq!(give("b", &["10.0.0.3"]).unwrap(), "10.0.0.5");
    assert_eq!(
        give("c", &["10.0.0.6", "10.0.0.2", "10.0.0.3"]).unwrap_err().to_string().split("; see").next(),
        Some("no IP addresses available in range set: 10.0.0.0/29 (all 5 are held, 3 of them by strangers")
    );
    let mut rest: Vec<_> = ["c", "d", "e"].map(|name| give(name, &[]).unwrap()).into();
    rest.sort();
    assert_eq!(rest, ["10.0.0.2", "10.0.0.3", "10.0.0.6"]);
}

#[test]
fn i14_a_range_that_grows_gives_what_is_new_and_nothing_that_is_held() {
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
fn a_queue_that_is_used_for_long_does_not_grow() {
    let scratch = Scratch::new("long");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    for _ in 0..3000 {
        reserve(&ledger, "a", &sets).unwrap();
        ledger.release(&attachment("a")).unwrap();
    }
    let length = fs::metadata(ledger.free(&ipam::fingerprint(&sets[0]))).unwrap().len();
    assert!(length < 64 * 1024, "{length} bytes");
}

fn port(host_address: Option<&str>, host_port: u16) -> Port {
    let host_address = host_address.map(|address| address.parse().unwrap());
    Port { protocol: podwire_conf::rules::host_ports::Protocol::Tcp, host_address, host_port, pod_port: 80 }
}

#[test]
fn a_host_port_is_one_pods_whatever_the_network_and_a_wildcard_is_every_address() {
    let scratch = Scratch::new("ports");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/125"]));
    let other = Ledger::open(&scratch.0, "other").unwrap();
    let claim = |ledger: &Ledger, name: &str, ports: &[Port]| {
        let given = wish(ledger, name, &Wanted { sets: &sets, ports, ..Wanted::default() });
        given.map(|_| ()).map_err(|failure| (failure.kind(), failure.message().to_owned()))
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
        Err((Kind::PortTaken, "host port 9/tcp on every address is taken by this very pod".into()))
    );
    assert_eq!(scratch.held(), before);
    other.release(&Attachment { network: "net".into(), ..attachment("b") }).unwrap();
    ledger.release(&attachment("a")).unwrap();
    claim(&ledger, "c", &[port(Some("192.168.0.3"), 80), port(Some("192.168.0.1"), 81)]).unwrap();
    // A holder whose record was lost holds nothing.
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
    wish(&ledger, "a", &wanted).unwrap();
    assert_eq!(wish(&ledger, "b", &wanted).unwrap_err().kind(), Kind::PortTaken);
}

#[test]
fn host_ports_of_a_record_that_was_damaged_are_free_when_it_is_released() {
    let scratch = Scratch::new("stale");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let claim = |name: &str, number: u16| {
        wish(&ledger, name, &Wanted { sets: &sets, ports: &[port(None, number)], ..Wanted::default() })
    };
    for anew in [80, 81] {
        claim("a", 80).unwrap();
        fs::write(ledger.pending(&attachment("a")), "{").unwrap();
        assert_eq!(claim("b", 80).unwrap_err().kind(), Kind::PortTaken, "who knows what is on that record");
        ledger.release(&attachment("a")).unwrap();
        claim("a", anew).unwrap();
        if anew != 80 {
            claim("b", 80).unwrap();
        }
        ledger.release(&attachment("a")).unwrap();
    }
}

#[test]
fn d17_a_port_file_that_is_damaged_does_not_stop_a_release() {
    let scratch = Scratch::new("port-file");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let ports = [port(None, 80)];
    let wanted = Wanted { sets: &sets, ports: &ports, ..Wanted::default() };
    wish(&ledger, "a", &wanted).unwrap();
    fs::write(scratch.0.join(".ports/tcp-80"), "{").unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), [""; 0]);
    let failure = wish(&ledger, "a", &wanted).unwrap_err();
    assert!(failure.kind() == Kind::Damaged && failure.to_string().contains("remove the file to go on"), "{failure}");
    assert_eq!(scratch.held(), [""; 0]);
}

#[test]
fn parallel_reservations_are_all_different() {
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

#[test]
fn a_damaged_record_is_released_by_its_claims() {
    let scratch = Scratch::new("damaged");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
    for (name, number) in [("a", 80), ("b", 81)] {
        wish(&ledger, name, &Wanted { sets: &sets, ports: &[port(None, number)], ..Wanted::default() }).unwrap();
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
fn d17_a_queue_that_cannot_be_written_does_not_keep_an_address_held() {
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
fn an_attachment_that_lost_its_reservation_is_not_noted_as_complete() {
    let scratch = Scratch::new("lost");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    ledger.release(&attachment("a")).unwrap();
    let error = ledger.attached(&attachment("a")).unwrap_err().to_string();
    assert!(error.contains("has lost its reservation"), "{error}");
    assert_eq!(scratch.held(), [""; 0]);
}

#[test]
fn turns_of_one_attachment_follow_one_another_and_leave_no_file() {
    let scratch = Scratch::new("turns");
    let ledger = scratch.ledger();
    let under_way = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _turn = ledger.lock_attachment(&attachment("a")).unwrap();
                    assert_eq!(under_way.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    under_way.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    let _other = ledger.lock_attachment(&attachment("b")).unwrap();
    assert_eq!(fs::read_dir(scratch.0.join("net/turns")).unwrap().count(), 1);
}

#[test]
fn a_claim_that_is_anothers_outlives_the_release_of_a_record_that_names_it() {
    let scratch = Scratch::new("foreign");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let address = reserve(&ledger, "a", &sets).unwrap()[0];
    fs::remove_file(ledger.claim(address)).unwrap();
    symlink("../attachments/another", ledger.claim(address)).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), ["10.0.0.2"]);
}

#[test]
fn a_record_of_another_attachment_with_the_same_hash_is_nobodys_own() {
    let scratch = Scratch::new("collision");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    reserve(&ledger, "a", &sets).unwrap();
    fs::rename(ledger.pending(&attachment("a")), ledger.record(&attachment("b"))).unwrap();
    let claim = ledger.claim("10.0.0.2".parse().unwrap());
    fs::remove_file(&claim).unwrap();
    symlink(format!("../attachments/{}", hash_name(&attachment("b"))), &claim).unwrap();
    let error = reserve(&ledger, "b", &sets).unwrap_err().to_string();
    assert!(error.contains("it is the record of"), "{error}");
    let before = scratch.held();
    ledger.release(&attachment("b")).unwrap();
    assert_eq!(scratch.held(), before, "what a holds is not b's to release");
}

#[test]
fn a_reservation_that_cannot_be_written_holds_nothing() {
    let scratch = Scratch::new("half");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
    // The second claim is in the way of itself: its place is a directory.
    fs::create_dir_all(ledger.claim("fd00::2".parse().unwrap()).join("in the way")).unwrap();
    let taken_over = reserve(&ledger, "a", &sets).unwrap();
    assert_eq!(text(&taken_over), "10.0.0.2 fd00::3", "what is there is taken, whatever it is");
    // The record can be written, and no claim.
    let (claims, away) = (scratch.0.join("net/claims"), scratch.0.join("net/away"));
    fs::rename(&claims, &away).unwrap();
    assert!(reserve(&ledger, "b", &sets).is_err());
    assert!(!ledger.pending(&attachment("b")).exists());
    fs::rename(&away, &claims).unwrap();
    assert_eq!(text(&reserve(&ledger, "b", &sets).unwrap()), "10.0.0.3 fd00::4");
    ledger.attached(&attachment("b")).unwrap();
    assert!(ledger.find(&attachment("b")).unwrap().unwrap().1 && !ledger.find(&attachment("a")).unwrap().unwrap().1);
}

#[test]
fn a_link_layer_address_is_noted_and_one_of_an_older_version_or_none_is_no_damage() {
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
