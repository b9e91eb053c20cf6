//! Rules and sets, and the kernel: what is written is what is listed, and what is replaced is replaced in one transaction.
//! Elements of several owners beside one another are in `elements`.

use std::net::IpAddr;
use std::time::Duration;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{
    Base, Bounds, Chain, ChainHook, ChainType, Content, Data, Element, Ensured, Entries, Field, PacketField, Rule, Set,
    Table, Type,
};
use podwire_kernel::{Socket, nft};
use podwire_tests::lab::{SOON, eventually};

use super::objects::host;

#[test]
fn rules_read_back_as_written_and_are_replaced_in_one_transaction() {
    host().enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        let prefix = |text: &str| text.parse().unwrap();
        let mut table = Table {
            name: "ours".into(),
            counters: Vec::new(),
            sets: Vec::new(),
            chains: vec![Chain {
                name: "postrouting".into(),
                base: Some(Base { chain_type: ChainType::Nat, hook: ChainHook::Postrouting, priority: 100 }),
                rules: vec![
                    Rule::new().to(prefix("10.0.0.0/9")).accept(),
                    Rule::new().from(prefix("fd00:1::/63")).masquerade(),
                    Rule::new().from(prefix("0.0.0.0/0")).accept(),
                ],
            }],
        };
        let read = |socket: &mut Socket, table: &Table| nft::read(socket, table).unwrap();
        assert!(read(&mut socket, &table).table.chains.is_empty());
        for _ in 0..2 {
            let found = read(&mut socket, &table);
            socket.transact(table.replace(&found)).unwrap();
            assert!(read(&mut socket, &table).is(&table));
            table.chains[0].rules.pop();
            assert!(!read(&mut socket, &table).is(&table), "a rule too many is a difference");
        }
        // A chain at another place is not the one that is wanted, and is made anew.
        let base = Some(Base { chain_type: ChainType::Nat, hook: ChainHook::Postrouting, priority: 99 });
        let moved = Table { chains: vec![Chain { base, ..table.chains[0].clone() }], ..table.clone() };
        let found = read(&mut socket, &moved);
        assert_eq!((found.misplaced.as_slice(), found.table.chains.len()), (["postrouting".to_owned()].as_slice(), 0));
        socket.transact(moved.replace(&found)).unwrap();
        assert!(read(&mut socket, &moved).is(&moved));
        // What is wrong is named: here a transaction that does not know of the misplaced chain.
        let unaware = nft::Listed { misplaced: Vec::new(), ..found };
        let error = socket.transact(table.replace(&unaware)).unwrap_err().to_string();
        assert!(error.starts_with("set chain postrouting of table inet ours: "), "{error}");
        assert!(read(&mut socket, &moved).is(&moved), "a refused transaction changes nothing");
        socket.transact(table.delete()).unwrap();
        assert!(read(&mut socket, &table).table.chains.is_empty());
    });
}

/// A table with everything that a rule can look at, and a set of every sort.
pub(super) fn everything() -> Table {
    use Type::{Address, Port, Protocol};
    let both = |make: &dyn Fn(IpVersion, char) -> Vec<Set>| {
        IpVersion::BOTH.into_iter().flat_map(|version| make(version, version.digit())).collect()
    };
    let sets = both(&|version, digit| {
        let name = |name: &str| format!("{name}{digit}");
        let address = Address(version);
        let value = Content::Values(vec![address, Port]);
        vec![
            Set { name: name("pairs"), key: vec![address, address], content: Content::Nothing },
            Set { name: name("ports"), key: vec![Protocol, address, Port], content: value },
            Set { name: name("roads"), key: vec![address], content: Content::Verdicts },
            Set { name: name("carried"), key: vec![address, Type::CarriedSource(version)], content: Content::Nothing },
            Set {
                name: name("seen"),
                key: vec![address, Type::CarriedSource(version)],
                content: Content::Recorded(Bounds { size: 64, timeout: Duration::from_secs(600) }),
            },
        ]
    });
    let of_each = |version: IpVersion| {
        let name = |name: &str| format!("{name}{}", version.digit());
        let (from, to) = (PacketField::Source(version), PacketField::Destination(version));
        let whole = if version == IpVersion::V4 { 32 } else { 128 };
        [
            Rule::new().of(version).dnat(
                version,
                &name("ports"),
                &[PacketField::Protocol, to, PacketField::DestinationPort],
            ),
            Rule::new().of(version).dnatted().in_set(&name("pairs"), &[from, to]).return_(),
            Rule::new().of(version).vmap(&name("roads"), &[from]),
            Rule::new().to_port(17, 8472).of(version).carries(5, version).return_(),
            Rule::new()
                .of(version)
                .in_set(&name("carried"), &[from, PacketField::CarriedSource(version, 24)])
                .count("met")
                .return_(),
            Rule::new()
                .of(version)
                .in_set(&name("carried"), &[from, PacketField::CarriedSource(version, whole)])
                .count("met")
                .return_(),
            Rule::new().of(version).record(&name("seen"), &[from, PacketField::CarriedSource(version, whole)]),
        ]
    };
    let chain = |name: &str, chain_type, hook, priority, rules| Chain {
        name: name.into(),
        base: Some(Base { chain_type, hook, priority }),
        rules,
    };
    let called =
        Chain { name: "called".into(), base: None, rules: IpVersion::BOTH.into_iter().flat_map(of_each).collect() };
    let drop = Rule::new().to("127.0.0.0/8".parse().unwrap()).iifname("pw").drop();
    let spoofed = Rule::new().of(IpVersion::V6).without_reverse_route().drop();
    Table {
        name: "ours".into(),
        counters: vec!["met".into()],
        sets,
        chains: vec![
            chain("raw", ChainType::Filter, ChainHook::Prerouting, -300, vec![drop, spoofed, Rule::new().notrack()]),
            chain("for-us", ChainType::Filter, ChainHook::Input, 0, vec![Rule::new().count("met")]),
            chain("for-others", ChainType::Filter, ChainHook::Forward, -5, vec![]),
            chain("in", ChainType::Nat, ChainHook::Prerouting, -100, vec![Rule::new().to_local().jump("called")]),
            chain("own", ChainType::Nat, ChainHook::Output, -100, vec![Rule::new().to_local().jump("called")]),
            chain("out", ChainType::Nat, ChainHook::Postrouting, 100, vec![Rule::new().oifname("pw").masquerade()]),
            called,
            Chain { name: "road".into(), base: None, rules: vec![Rule::new().accept()] },
        ],
    }
}

/// An element of each of the sets of [`everything`], of both families.
pub(super) fn elements(number: u16, owner: &str) -> Vec<Element> {
    let of_each = |version: IpVersion| {
        let address: IpAddr = match version {
            IpVersion::V4 => format!("10.0.{}.{}", number / 256, number % 256).parse().unwrap(),
            IpVersion::V6 => format!("fd00::{number:x}").parse().unwrap(),
        };
        let address = Field::Address(address);
        let element = |set: &str, key: &[Field], data| Element {
            set: format!("{set}{}", version.digit()),
            key: key.to_vec(),
            data,
            owner: Some(owner.into()),
        };
        [
            element("pairs", &[address, address], Data::Nothing),
            element(
                "ports",
                &[Field::Protocol(132), address, Field::Port(number)],
                Data::Value(vec![address, Field::Port(80)]),
            ),
            element("roads", &[address], Data::Jump("road".into())),
        ]
    };
    IpVersion::BOTH.into_iter().flat_map(of_each).collect()
}

/// All elements of the table, sorted as values are.
pub(super) fn listed(socket: &mut Socket, table: &Table) -> Vec<Element> {
    let list = |set| nft::elements(socket, &table.name, set).unwrap();
    let mut elements: Vec<_> = table.sets.iter().flat_map(list).collect();
    elements.sort();
    elements
}

pub(super) fn sorted(mut elements: Vec<Element>) -> Vec<Element> {
    elements.sort();
    elements
}

/// Waits until a set is found to have these keys. The kernel makes room in a set after it was filled, and a list that is made
/// meanwhile may lack some (lib/rhashtable.c).
#[track_caller]
fn settled(socket: &mut Socket, wanted: &Entries) {
    let same = eventually(SOON, || {
        let found = nft::entries(socket, "ours", wanted).unwrap();
        if found == *wanted { Ok(()) } else { Err(format!("other keys than the wanted in {}", wanted.set().name)) }
    });
    same.unwrap();
}

#[test]
fn elements_are_compared_as_a_whole_and_changed_by_their_difference() {
    let host = host();
    host.enter(|| {
        let mut socket = socket_of_nftables();
        let table = everything();
        nft::ensure(&mut socket, &table, &[]).unwrap();
        for (set, digit) in [(&table.sets[0], 4), (&table.sets[5], 6)] {
            assert_eq!(set.name, format!("pairs{digit}"));
            // More than go into one message, and more bytes than the usual send buffer has.
            let pair = |number: u32| {
                let address = Field::Address(match digit {
                    4 => std::net::Ipv4Addr::from(number).into(),
                    _ => std::net::Ipv6Addr::from(u128::from(number)).into(),
                });
                [address, address]
            };
            let many = Entries::keys(set.clone(), (1..12_000).map(pair));
            let other = Entries::keys(set.clone(), (6_000..13_000).map(pair));
            assert!(nft::entries(&mut socket, "ours", &many).unwrap().is_empty());
            socket.transact(many.add("ours")).unwrap();
            settled(&mut socket, &many);
            let found = nft::entries(&mut socket, "ours", &many).unwrap();
            let changes = [found.without(&other).remove("ours"), other.without(&found).add("ours")].concat();
            socket.transact(changes).unwrap();
            settled(&mut socket, &other);
            let gone = socket.transact(many.remove("ours")).unwrap_err();
            assert!(gone.is_gone(), "{gone}");
        }
        let nobodys = Entries::keys(table.sets[0].clone(), std::iter::empty::<[Field; 2]>());
        assert_eq!(nft::entries(&mut socket, "nobody's", &nobodys).unwrap().len(), 0);
    });
}

#[test]
fn every_transaction_raises_the_generation_by_one() {
    let host = host();
    host.enter(|| {
        let (mut socket, table) = (socket_of_nftables(), everything());
        nft::ensure(&mut socket, &table, &[]).unwrap();
        let before = nft::current_generation(&mut socket).unwrap();
        assert_eq!(nft::current_generation(&mut socket).unwrap(), before);
        // One without requests is none.
        socket.transact(Vec::new()).unwrap();
        assert_eq!(nft::current_generation(&mut socket).unwrap(), before);
        let found = nft::read(&mut socket, &table).unwrap();
        socket.transact(table.replace(&found)).unwrap();
        assert_eq!(nft::current_generation(&mut socket).unwrap(), before + 1);
        host.run("nft", &["add", "table", "ip", "foreign"]).unwrap();
        assert_eq!(nft::current_generation(&mut socket).unwrap(), before + 2);
    });
}

#[test]
fn a_counter_survives_the_replacement_of_its_rules() {
    let host = host();
    host.run("ip", &["link", "set", "lo", "up"]).unwrap();
    host.enter(|| {
        let (mut socket, table) = (socket_of_nftables(), everything());
        assert_eq!(nft::counted(&mut socket, "ours", &["met"]).unwrap(), [None]);
        nft::ensure(&mut socket, &table, &[]).unwrap();
        assert_eq!(nft::counted(&mut socket, "ours", &["met", "odd"]).unwrap(), [Some(0), None]);
        let say = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"?", "127.0.0.2:9").unwrap();
        say();
        // The datagram, and the answer that nobody is there.
        let met = nft::counted(&mut socket, "ours", &["met"]).unwrap();
        assert_eq!(met, [Some(2)]);
        let found = nft::read(&mut socket, &table).unwrap();
        assert!(found.is(&table));
        socket.transact(table.replace(&found)).unwrap();
        say();
        assert_eq!(nft::counted(&mut socket, "ours", &["met"]).unwrap(), [Some(4)]);
        let names = nft::names(&mut socket, "ours").unwrap();
        assert_eq!((names.chains.len(), names.sets.len()), (table.chains.len(), table.sets.len()));
        assert_eq!(nft::names(&mut socket, "nobody's").unwrap(), nft::Names::default());
    });
}

/// Nothing had to be made.
const NOTHING: Ensured = Ensured { table: false, elements: 0 };

#[test]
fn sets_and_rules_of_every_kind_read_back_as_written() {
    let host = host();
    host.enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = everything();
        let mine = elements(5, "pwmine");
        assert_eq!(nft::missing(&mut socket, &table, &mine).unwrap(), mine);
        assert_eq!(listed(&mut socket, &table), []);
        let done = nft::ensure(&mut socket, &table, &mine).unwrap();
        assert_eq!(done, Ensured { table: true, elements: 6 });
        let found = nft::read(&mut socket, &table).unwrap();
        assert_eq!(found.table, table);
        assert_eq!(listed(&mut socket, &table), sorted(mine.clone()));
        assert_eq!(nft::missing(&mut socket, &table, &mine).unwrap(), []);
        assert_eq!(nft::ensure(&mut socket, &table, &mine).unwrap(), NOTHING);
    });
    // In the words of a program that knows nothing of ours.
    let list = host.run("nft", &["list", "table", "inet", "ours"]).unwrap();
    for line in [
        "type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service",
        "elements = { sctp . fd00::5 . 5 comment \"pwmine\" : fd00::5 . 80 }",
        "elements = { 10.0.0.5 . 10.0.0.5 comment \"pwmine\" }",
        "elements = { fd00::5 comment \"pwmine\" : jump road }",
        "type filter hook prerouting priority raw; policy accept;",
        "ip daddr 127.0.0.0/8 iifname \"pw*\" drop",
        "type nat hook output priority -100; policy accept;",
        "fib daddr type local jump called",
        "dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6",
        "ct status dnat ip saddr . ip daddr @pairs4 return",
        "ip6 saddr vmap @roads6",
        "typeof ip6 saddr . @th,304,128",
        "meta nfproto ipv6 fib saddr . iif oif missing drop",
        "notrack",
        "counter met {",
        "counter name \"met\"",
        "type filter hook input priority filter; policy accept;",
        "type filter hook forward priority filter - 5; policy accept;",
        "udp dport 8472 meta nfproto ipv4 @th,96,24 0x5 @th,224,16 0x800 return",
        "ip saddr . @th,336,32 & 0xffffff00 @carried4 counter name \"met\" return",
        "ip6 saddr . @th,304,128 @carried6 counter name \"met\" return",
        "oifname \"pw*\" masquerade fully-random",
    ] {
        assert!(list.lines().any(|found| found.trim() == line), "{line} is not in\n{list}");
    }
}

pub(super) fn socket_of_nftables() -> Socket {
    Socket::netfilter().unwrap()
}
