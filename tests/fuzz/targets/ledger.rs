//! Any content in the files of a ledger, at any time: nobody's address is given to another, and what is not claimed can be
//! given.
//!
//! An input is steps and the contents of files, separated by lines `--`: a queue, two records and a claim of attachment a,
//! the file of a port, the boot. An empty one is not written. Steps are letters: `abcd` reserve, `ABCD` release, digits
//! request an address and `p` for the port in the next reservation, `+` says that all are attached, `s` and `S` sweep, and
//! `!` writes the files.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use podwire_attachment::error::Kind;
use podwire_attachment::ipam;
use podwire_attachment::ledger::{Ledger, Wanted};
use podwire_attachment::names::Attachment;
use podwire_conf::rules::host_ports::Protocol;
use podwire_conf::{Port, Range};

/// Gives 10.0.0.2 to 10.0.0.6.
const SUBNET: &str = "10.0.0.0/29";
const PORT: u16 = 8000;

/// Where the ledger is: one for the whole run.
static STATE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("podwire-fuzz-{}", std::process::id())));

static SETS: LazyLock<Vec<Vec<Range>>> = LazyLock::new(|| {
    let subnet = SUBNET.parse().expect("a prefix");
    vec![vec![Range { subnet, start: None, end: None, gateway: None }]]
});

/// The name of the records of attachment a.
static RECORD: LazyLock<String> = LazyLock::new(|| {
    let state = STATE.join("name");
    let ledger = Ledger::open(&state, "net").expect("a ledger");
    ledger.reserve(&whose('a'), &Wanted::default(), &mut |_| Ok(false)).expect("a record");
    let mut records = fs::read_dir(state.join("net/pending")).expect("records");
    let name = records.next().expect("a record").expect("a record").file_name();
    name.into_string().expect("a name")
});

fuzz_target!(|input: &[u8]| {
    let mut sections = Vec::new();
    let mut rest = input;
    while let Some(end) = rest.windows(4).position(|window| window == b"\n--\n") {
        sections.push(&rest[..end]);
        rest = &rest[end + 4..];
    }
    sections.push(rest);
    let record = &*RECORD;
    for directory in ["net", ".ports"] {
        let _ = fs::remove_dir_all(STATE.join(directory));
    }
    let mut play = Play { sections: &sections, record, held: BTreeMap::new(), foreign_boot: false };
    let (mut requested, mut port) = (None, false);
    for step in sections[0].iter().take(40) {
        match char::from(*step) {
            who @ 'a'..='d' => play.reserve(who, requested.take(), std::mem::take(&mut port)),
            who @ 'A'..='D' => play.release(who.to_ascii_lowercase()),
            digit @ '0'..='9' => requested = format!("10.0.0.{digit}").parse().ok(),
            'p' => port = true,
            '+' => ["a", "b", "c", "d"].iter().for_each(|who| drop(play.ledger().complete(&named(who)))),
            's' => play.sweep(&["a", "b", "c", "d"]),
            'S' => play.sweep(&[]),
            '!' => play.write_files(),
            _ => continue,
        }
        play.check();
    }
    play.end();
});

struct Play<'a> {
    sections: &'a [&'a [u8]],
    record: &'a str,
    /// What was given and not released. Of a's it is not known once the files have been written.
    held: BTreeMap<IpAddr, char>,
    foreign_boot: bool,
}

impl Play<'_> {
    fn ledger(&mut self) -> Ledger {
        let ledger = Ledger::open(&STATE, "net").expect("a ledger");
        if std::mem::take(&mut self.foreign_boot) {
            // That was a reboot.
            self.held.clear();
            assert_eq!(claimed(), BTreeSet::new());
        }
        ledger
    }

    fn reserve(&mut self, who: char, requested: Option<IpAddr>, with_port: bool) {
        let ledger = self.ledger();
        let before = claimed();
        let port = Port { protocol: Protocol::Tcp, host_address: None, host_port: PORT, pod_port: 80 };
        let ports = if with_port { vec![port] } else { Vec::new() };
        let wanted = Wanted { sets: &SETS, addresses: requested.as_slice(), ports: &ports, ..Wanted::default() };
        match ledger.reserve(&whose(who), &wanted, &mut |_| Ok(false)) {
            Ok(record) => {
                let address = record.addresses()[0];
                assert!(given().contains(&address), "{address} is not of the set");
                assert!(!before.contains(&address), "{address} is given twice");
                assert!(requested.is_none_or(|requested| requested == address), "{address} in place of {requested:?}");
                self.held.insert(address, who);
            }
            // Whatever the files of a say is a's affair.
            Err(error) if who != 'a' => {
                let holds = self.held.values().any(|holder| *holder == who);
                let in_vain =
                    requested.is_some_and(|requested| before.contains(&requested) || !given().contains(&requested));
                let full = requested.is_none() && given().is_subset(&before);
                let expected = [
                    (holds, Kind::AlreadyAttached),
                    (in_vain, Kind::AddressUnavailable),
                    (full, Kind::RangeFull),
                    (with_port, Kind::PortTaken),
                    (with_port, Kind::Damaged),
                ];
                let found = expected.iter().any(|(may_be, kind)| *may_be && *kind == error.kind());
                assert!(found, "{error} of {who} while {before:?} are claimed");
            }
            Err(_) => {}
        }
    }

    fn release(&mut self, who: char) {
        let released = self.ledger().release(&whose(who));
        assert!(released.is_ok(), "{who}: {released:?}");
        self.held.retain(|_, holder| *holder != who);
    }

    fn sweep(&mut self, valid: &[&str]) {
        let valid: Vec<_> = valid.iter().map(|who| named(who)).collect();
        self.ledger().sweep(&valid).expect("a sweep");
    }

    fn write_files(&mut self) {
        drop(self.ledger());
        fs::create_dir_all(STATE.join(".ports")).expect("a directory");
        let queue = format!("net/free/{}", ipam::fingerprint(&SETS[0]));
        let (pending, attached) = (format!("net/pending/{}", self.record), format!("net/attachments/{}", self.record));
        let files = [&queue, &pending, &attached, "", &format!(".ports/tcp-{PORT}"), "net/boot"];
        for (name, content) in files.into_iter().zip(&self.sections[1..]).filter(|(_, content)| !content.is_empty()) {
            if name.is_empty() {
                // Where there is a claim already it stays: what others hold is not damaged here.
                let target = String::from_utf8_lossy(content).replace('\0', "");
                let _ = std::os::unix::fs::symlink(target, STATE.join("net/claims/10.0.0.3"));
                continue;
            }
            self.foreign_boot |= name == "net/boot";
            fs::write(STATE.join(name), content).expect("a file");
        }
        self.held.retain(|_, holder| *holder != 'a');
    }

    /// What others than a hold they hold still.
    fn check(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let ledger = self.ledger();
        for (address, who) in &self.held {
            assert!(ledger.holds(&whose(*who), *address).unwrap(), "{who} has lost {address}");
        }
    }

    /// Everything is released and swept, and what is not claimed then can be given.
    fn end(&mut self) {
        ('a'..='d').for_each(|who| self.release(who));
        self.sweep(&[]);
        let free = given().difference(&claimed()).count();
        let ledger = self.ledger();
        let reserve = |number: usize| {
            let wanted = Wanted { sets: &SETS, ..Wanted::default() };
            ledger
                .reserve(&named(&format!("end{number}")), &wanted, &mut |_| Ok(false))
                .map(|record| record.addresses())
        };
        let addresses: BTreeSet<_> = (0..free).map(|number| reserve(number).expect("a free address")[0]).collect();
        assert_eq!(addresses.len(), free);
        assert_eq!(reserve(free).map_err(|error| error.kind()), Err(Kind::RangeFull));
    }
}

/// All addresses that there are.
fn given() -> BTreeSet<IpAddr> {
    ('2'..='6').filter_map(|digit| format!("10.0.0.{digit}").parse().ok()).collect()
}

fn claimed() -> BTreeSet<IpAddr> {
    let entries = fs::read_dir(STATE.join("net/claims")).expect("claims");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn whose(who: char) -> Attachment {
    named(&who.to_string())
}

fn named(container: &str) -> Attachment {
    Attachment { network: "net".into(), container: container.into(), interface: "eth0".into() }
}
