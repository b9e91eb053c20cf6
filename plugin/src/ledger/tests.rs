use super::*;

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

fn text(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_address_of_each_set_is_held_until_it_is_released() {
    let scratch = Scratch::new("held");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29", "fd00::/64"]));
    assert_eq!(text(&ledger.reserve(&attachment("a"), &sets).unwrap()), "10.0.0.2 fd00::2");
    assert_eq!(text(&ledger.reserve(&attachment("b"), &sets).unwrap()), "10.0.0.3 fd00::3");
    ledger.release(&attachment("a")).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held().len(), 3, "two claims and a record of b");
    assert_eq!(text(&ledger.reserve(&attachment("c"), &sets).unwrap()), "10.0.0.4 fd00::4");
}

#[test]
fn a_full_range_is_refused_by_name_and_holds_nothing_for_the_refused() {
    let scratch = Scratch::new("full");
    let (ledger, sets) = (scratch.ledger(), sets(&["fd00::/64", "10.0.0.0/30"]));
    ledger.reserve(&attachment("a"), &sets).unwrap();
    let before = scratch.held();
    let error = ledger.reserve(&attachment("b"), &sets).unwrap_err().to_string();
    assert!(error.starts_with("no IP addresses available in 10.0.0.0/30 (all 1 are held"), "{error}");
    assert_eq!(scratch.held(), before);
    // A resting address is better than none.
    ledger.release(&attachment("a")).unwrap();
    assert!(text(&ledger.reserve(&attachment("b"), &sets).unwrap()).ends_with("10.0.0.2"));
}

#[test]
fn the_same_attachment_cannot_reserve_twice() {
    let scratch = Scratch::new("twice");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    ledger.reserve(&attachment("a"), &sets).unwrap();
    let before = scratch.held();
    let error = ledger.reserve(&attachment("a"), &sets).unwrap_err().to_string();
    assert!(error.starts_with("interface eth0 of container a is attached already to network net"), "{error}");
    assert_eq!(scratch.held(), before);
}

#[test]
fn a_reboot_frees_every_address() {
    let scratch = Scratch::new("reboot");
    let sets = sets(&["10.0.0.0/30"]);
    scratch.ledger().reserve(&attachment("a"), &sets).unwrap();
    fs::write(scratch.0.join("net/boot"), "another boot").unwrap();
    let ledger = scratch.ledger();
    assert!(!scratch.0.join("net/index").exists(), "what rested before the reboot rests no more");
    assert_eq!(text(&ledger.reserve(&attachment("b"), &sets).unwrap()), "10.0.0.2");
}

#[test]
fn an_unreadable_index_does_not_give_an_address_twice() {
    let scratch = Scratch::new("index");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    ledger.reserve(&attachment("a"), &sets).unwrap();
    fs::write(scratch.0.join("net/index"), "{{{").unwrap();
    assert_eq!(text(&ledger.reserve(&attachment("b"), &sets).unwrap()), "10.0.0.3");
}

#[test]
fn parallel_reservations_are_all_different() {
    let scratch = Scratch::new("parallel");
    let sets = sets(&["10.0.0.0/26"]);
    let mut addresses = std::thread::scope(|scope| {
        let reserve = |number: usize| {
            let (scratch, sets) = (&scratch, &sets);
            move || text(&scratch.ledger().reserve(&attachment(&number.to_string()), sets).unwrap())
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
    for name in ["a", "b"] {
        ledger.reserve(&attachment(name), &sets).unwrap();
    }
    fs::write(ledger.record(&attachment("a")), "{").unwrap();
    let error = ledger.find(&attachment("a")).unwrap_err().to_string();
    assert!(error.contains("remove the file to go on"), "{error}");
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held().len(), 3, "two claims and a record of b");
}

#[test]
fn an_index_that_cannot_be_written_does_not_keep_an_address_held() {
    let scratch = Scratch::new("unwritable");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    ledger.reserve(&attachment("a"), &sets).unwrap();
    // As a full disk would: the file that everything is written to beside its place cannot be made.
    fs::create_dir(scratch.0.join("net/writing")).unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), [""; 0]);
}

#[test]
fn an_attachment_that_lost_its_reservation_is_not_noted_as_complete() {
    let scratch = Scratch::new("lost");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let addresses = ledger.reserve(&attachment("a"), &sets).unwrap();
    ledger.release(&attachment("a")).unwrap();
    let error = ledger.attached(&attachment("a"), &addresses).unwrap_err().to_string();
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
                    let _turn = ledger.turn(&attachment("a")).unwrap();
                    assert_eq!(under_way.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    under_way.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    let _other = ledger.turn(&attachment("b")).unwrap();
    assert_eq!(fs::read_dir(scratch.0.join("net/turns")).unwrap().count(), 1);
}

#[test]
fn a_claim_that_is_anothers_outlives_the_release_of_a_record_that_names_it() {
    let scratch = Scratch::new("foreign");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let address = ledger.reserve(&attachment("a"), &sets).unwrap()[0];
    fs::write(ledger.claim(address), "of another").unwrap();
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(scratch.held(), ["10.0.0.2"]);
}

#[test]
fn a_record_of_another_attachment_with_the_same_hash_is_nobodys_own() {
    let scratch = Scratch::new("collision");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    ledger.reserve(&attachment("a"), &sets).unwrap();
    fs::rename(ledger.record(&attachment("a")), ledger.record(&attachment("b"))).unwrap();
    fs::write(ledger.claim("10.0.0.2".parse().unwrap()), hash_name(&attachment("b"))).unwrap();
    let error = ledger.reserve(&attachment("b"), &sets).unwrap_err().to_string();
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
    let taken_over = ledger.reserve(&attachment("a"), &sets).unwrap();
    assert_eq!(text(&taken_over), "10.0.0.2 fd00::3", "what is there is taken, whatever it is");
    // The record can be written, and no claim.
    let (claims, away) = (scratch.0.join("net/claims"), scratch.0.join("net/away"));
    fs::rename(&claims, &away).unwrap();
    assert!(ledger.reserve(&attachment("b"), &sets).is_err());
    assert!(!ledger.record(&attachment("b")).exists());
    fs::rename(&away, &claims).unwrap();
    assert_eq!(text(&ledger.reserve(&attachment("b"), &sets).unwrap()), "10.0.0.3 fd00::4");
}

#[test]
fn a_released_address_rests_even_when_it_is_its_turn() {
    let scratch = Scratch::new("rests");
    let (ledger, sets) = (scratch.ledger(), sets(&["10.0.0.0/29"]));
    let reserve = |name: &str| text(&ledger.reserve(&attachment(name), &sets).unwrap());
    assert_eq!(["a", "b", "c", "d"].map(reserve), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    ledger.release(&attachment("a")).unwrap();
    assert_eq!(reserve("e"), "10.0.0.6");
    ledger.release(&attachment("b")).unwrap();
    // The turn is at .2 again, and both free ones rest: the one that has rested longest is given.
    assert_eq!(reserve("f"), "10.0.0.2");
    ledger.release(&attachment("c")).unwrap();
    let mut index = ledger.index().unwrap();
    for (address, released) in &mut index.resting {
        *released -= if address.to_string() == "10.0.0.4" { REST } else { 0 };
    }
    fs::write(scratch.0.join("net/index"), json(&index).unwrap()).unwrap();
    assert_eq!(reserve("g"), "10.0.0.4", "half a minute is over for .4, not for .3");
}
