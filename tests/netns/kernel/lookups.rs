//! Maps of numbers and of ranges, and rules that look up a key by what such maps have: what is written is what is listed, and
//! changes within one transaction.

use podwire_kernel::Socket;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{
    self, Base, Chain, ChainHook, ChainType, Content, Entries, Field, KeyPart, NUMBER, PacketField, Rule, Set, Table,
    Type,
};

use super::objects::host;

fn set(name: &str, version: IpVersion, key: &[Type], content: Content) -> Set {
    Set { name: format!("{name}{}", version.digit()), key: key.to_vec(), content }
}

fn numbers() -> Content {
    Content::Values(NUMBER.into())
}

/// Classes of addresses, ranges of addresses and of ports, the allowed combinations of them, and lists of ports for pairs of classes.
fn table() -> Table {
    let sets = |version| {
        let address = [Type::Address(version)];
        let allowed = [Type::Number, Type::Number, Type::Protocol, Type::Port];
        let in_range = [Type::Number, Type::Number, Type::Protocol, Type::Number];
        [
            set("class", version, &address, numbers()),
            set("block", version, &address, Content::Ranges(NUMBER.into())),
            set("ports", version, &[Type::Port], Content::Ranges(NUMBER.into())),
            set("allowed", version, &allowed, Content::Nothing),
            set("in-range", version, &in_range, Content::Nothing),
            set("judged", version, &address, Content::Verdicts),
            set("counted", version, &address, Content::Counted),
            set("list", version, &[Type::Number, Type::Number], numbers()),
            set("listed", version, &[Type::Number, Type::Protocol, Type::Port], numbers()),
            set("listed-range", version, &[Type::Number, Type::Protocol, Type::Number], Content::Nothing),
            set("verdicts", version, &[Type::Number], Content::Verdicts),
        ]
    };
    let rules = |version: IpVersion| {
        let digit = version.digit();
        let name = |name: &str| format!("{name}{digit}");
        let (from, to) = (PacketField::Source(version), PacketField::Destination(version));
        let (port, protocol) = (PacketField::DestinationPort, KeyPart::Field(PacketField::Protocol));
        let (class, block, ports) = (name("class"), name("block"), name("ports"));
        let peers = [KeyPart::Number(&class, to), KeyPart::Number(&block, from)];
        let allowed = [&peers[..], &[protocol, KeyPart::Field(port)]].concat();
        let in_range = [&peers[..], &[protocol, KeyPart::Number(&ports, port)]].concat();
        let lists = name("list");
        let list = KeyPart::Found(&lists, &peers);
        let listed = [list, protocol, KeyPart::Field(port)];
        let listed_range = [list, protocol, KeyPart::Number(&ports, port)];
        [
            Rule::new().of(version).unmarked(0x2000_0000).in_connection().accept(),
            Rule::new().of(version).marked(0x2000_0000).is_reply().drop(),
            Rule::new().of(version).in_set_by(&name("allowed"), &allowed).return_(),
            Rule::new().of(version).in_set_by(&name("in-range"), &in_range).return_(),
            Rule::new().of(version).vmap(&name("judged"), &[from]),
            Rule::new().of(version).in_set(&name("counted"), &[to]),
            Rule::new().of(version).in_set_by(&name("listed-range"), &listed_range).return_(),
            Rule::new().of(version).vmap_by(&name("listed"), &listed, &name("verdicts")),
        ]
    };
    let base = Base { chain_type: ChainType::Filter, hook: ChainHook::Forward, priority: -10 };
    let forward = Chain {
        name: "forward".into(),
        base: Some(base),
        rules: IpVersion::BOTH.into_iter().flat_map(rules).collect(),
    };
    let judge = Chain { name: "judge".into(), base: None, rules: vec![Rule::new().drop()] };
    let sets = IpVersion::BOTH.into_iter().flat_map(sets).collect();
    Table { name: "ours".into(), counters: Vec::new(), sets, chains: vec![forward, judge] }
}

fn address(version: IpVersion, number: u8) -> Field {
    Field::Address(match version {
        IpVersion::V4 => std::net::Ipv4Addr::new(10, 0, 0, number).into(),
        IpVersion::V6 => std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
    })
}

/// Entries of every kind of set: with these values, ranges and members.
fn entries(version: IpVersion, value: u32) -> Vec<Entries> {
    let at = |number| address(version, number);
    let (of_address, tcp) = ([Type::Address(version)], Field::Protocol(6));
    let all = Field::Address(match version {
        IpVersion::V4 => std::net::Ipv4Addr::BROADCAST.into(),
        IpVersion::V6 => std::net::Ipv6Addr::from(u128::MAX).into(),
    });
    let last = Field::Address(match version {
        IpVersion::V4 => std::net::Ipv4Addr::new(240, 0, 0, 0).into(),
        IpVersion::V6 => std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(),
    });
    let sets = table().sets;
    let like = |name: &str| sets.iter().find(|set| set.name == format!("{name}{}", version.digit())).unwrap().clone();
    assert_eq!(like("class").key, of_address);
    vec![
        Entries::numbers(like("class"), [([at(1)], value), ([at(2)], 2)]),
        // Two ranges that touch, and one that ends where addresses end.
        Entries::ranges(like("block"), [(at(16), at(31), value), (at(32), at(32), 4), (last, all, 5)]),
        Entries::ranges(
            like("ports"),
            [(Field::Port(80), Field::Port(89), value), (Field::Port(90), Field::Port(u16::MAX), 2)],
        ),
        Entries::keys(like("allowed"), [[Field::Number(value), Field::Number(4), tcp, Field::Port(80)]]),
        Entries::keys(like("in-range"), [[Field::Number(value), Field::Number(4), tcp, Field::Number(1)]]),
        Entries::jumps(like("judged"), "judge", [[at(1)], [at(u8::try_from(value).unwrap())]]),
        Entries::keys(like("counted"), [[at(1)], [at(u8::try_from(value).unwrap())]]),
        Entries::numbers(like("list"), [([Field::Number(value), Field::Number(4)], value)]),
        Entries::numbers(like("listed"), [([Field::Number(value), tcp, Field::Port(80)], 1)]),
        Entries::keys(like("listed-range"), [[Field::Number(value), tcp, Field::Number(1)]]),
        Entries::jumps(like("verdicts"), "judge", [[Field::Number(value)]]),
    ]
}

fn has(socket: &mut Socket, wanted: &[Entries]) {
    for entries in wanted {
        assert_eq!(nft::entries(socket, "ours", entries).unwrap(), *entries, "{}", entries.set().name);
    }
}

#[test]
fn maps_of_numbers_and_of_ranges_read_back_as_written_and_values_are_replaced_in_one_transaction() {
    let host = host();
    host.enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = table();
        nft::ensure(&mut socket, &table, &[]).unwrap();
        assert!(nft::read(&mut socket, &table).unwrap().is(&table), "{:#?}", nft::read(&mut socket, &table));
        for version in IpVersion::BOTH {
            let (first, then) = (entries(version, 7), entries(version, 9));
            socket.transact(first.iter().flat_map(|entries| entries.add("ours")).collect()).unwrap();
            has(&mut socket, &first);
            let fewer = first.iter().zip(&then).flat_map(|(first, then)| first.without(then).remove("ours"));
            let more = first.iter().zip(&then).flat_map(|(first, then)| then.without(first).add("ours"));
            socket.transact(fewer.chain(more).collect()).unwrap();
            has(&mut socket, &then);
        }
        // A jump to another chain than the desired is a difference.
        let jumps = entries(IpVersion::V4, 9).swap_remove(5);
        let elsewhere = Entries::jumps(jumps.set().clone(), "elsewhere", [[address(IpVersion::V4, 1)]]);
        assert_eq!(elsewhere.without(&nft::entries(&mut socket, "ours", &elsewhere).unwrap()), elsewhere);
    });
    // `nft` shows all of it, and takes back what it has shown.
    let listed = host.run("nft", &["list", "ruleset"]).unwrap();
    for text in [
        "10.0.0.16/28 : ",
        "80-89 : ",
        "10.0.0.1 : jump judge",
        "10.0.0.2 : 0x00000000 . 0x00000002",
        "meta mark . meta mark . meta l4proto . th dport @allowed4",
        "10.0.0.9 counter packets 0 bytes 0",
        "0x00000009 . 0x00000004 : 0x00000000 . 0x00000009",
        "meta mark . meta l4proto . meta mark @listed-range4",
    ] {
        assert!(listed.contains(text), "no {text} in {listed}");
    }
    host.enter(|| std::fs::write("/run/saved.nft", &listed)).unwrap();
    host.run("nft", &["flush", "ruleset"]).unwrap();
    host.run("nft", &["-f", "/run/saved.nft"]).unwrap();
    host.enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        for version in IpVersion::BOTH {
            // The value of a range comes back in another order of bytes (1.0.6), and so does a number that is a key of its own.
            let wanted = entries(version, 9);
            let wanted: Vec<_> = [0, 3, 4, 5, 6, 7, 8, 9].into_iter().map(|place| wanted[place].clone()).collect();
            has(&mut socket, &wanted);
        }
    });
}

#[test]
fn elements_count_the_packets_that_a_rule_finds_them_for_and_go_on_when_others_change() {
    let host = host();
    let set = |version: IpVersion| set("counted", version, &[Type::Address(version)], Content::Counted);
    let base = Base { chain_type: ChainType::Filter, hook: ChainHook::Output, priority: 0 };
    let rule =
        |version: IpVersion| Rule::new().of(version).in_set(&set(version).name, &[PacketField::Destination(version)]);
    let chain = Chain { name: "output".into(), base: Some(base), rules: IpVersion::BOTH.map(rule).into() };
    let sets = IpVersion::BOTH.map(set).into();
    let table = Table { name: "ours".into(), counters: Vec::new(), sets, chains: vec![chain] };
    let local = |version| match version {
        IpVersion::V4 => std::net::Ipv4Addr::LOCALHOST.into(),
        IpVersion::V6 => std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    };
    let with = |version, more: &[Field]| {
        let keys = [&[Field::Address(local(version))], more].concat();
        Entries::keys(set(version), keys.into_iter().map(|key| [key]))
    };
    let send = |version| {
        let socket = std::net::UdpSocket::bind((local(version), 0)).unwrap();
        (0..3).for_each(|_| _ = socket.send_to(b"x", (local(version), socket.local_addr().unwrap().port())).unwrap());
    };
    let counted = |socket: &mut Socket, version| {
        let tallies = nft::tallies(socket, "ours", &set(version)).unwrap();
        let of = |tally: nft::Tally| (tally.key == [Field::Address(local(version))]).then_some(tally.packets);
        tallies.into_iter().filter_map(of).collect::<Vec<_>>()
    };
    host.run("ip", &["link", "set", "dev", "lo", "up"]).unwrap();
    host.enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        for version in IpVersion::BOTH {
            assert_eq!(nft::tallies(&mut socket, "ours", &set(version)).unwrap(), []);
        }
        nft::ensure(&mut socket, &table, &[]).unwrap();
        for version in IpVersion::BOTH {
            let (first, then) = (with(version, &[]), with(version, &[address(version, 9)]));
            socket.transact(first.add("ours")).unwrap();
            assert_eq!(counted(&mut socket, version), [0]);
            send(version);
            assert_eq!(counted(&mut socket, version), [3]);
            // What it has counted is no difference.
            has(&mut socket, std::slice::from_ref(&first));
            socket.transact(then.without(&first).add("ours")).unwrap();
            send(version);
            has(&mut socket, &[then]);
            assert_eq!(counted(&mut socket, version), [6]);
        }
        assert!(nft::read(&mut socket, &table).unwrap().is(&table));
        // A set that does not count is another one.
        let plain = |set: &Set| Set { content: Content::Nothing, ..set.clone() };
        let plain = Table { sets: table.sets.iter().map(plain).collect(), ..table.clone() };
        assert_eq!(nft::read(&mut socket, &plain).unwrap().mistyped, ["counted4", "counted6"]);
    });
    // `nft` shows what was counted, and takes it back.
    let listed = host.run("nft", &["list", "ruleset"]).unwrap();
    assert!(listed.contains("127.0.0.1 counter packets 6 bytes"), "{listed}");
    host.enter(|| std::fs::write("/run/saved.nft", &listed)).unwrap();
    host.run("nft", &["flush", "ruleset"]).unwrap();
    host.run("nft", &["-f", "/run/saved.nft"]).unwrap();
    host.enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        assert!(nft::read(&mut socket, &table).unwrap().is(&table), "{:#?}", nft::read(&mut socket, &table));
        IpVersion::BOTH.into_iter().for_each(|version| assert_eq!(counted(&mut socket, version), [6]));
    });
}

#[test]
fn ranges_are_replaced_by_others_with_the_same_beginning_or_end_in_one_transaction() {
    host().enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        nft::ensure(&mut socket, &table(), &[]).unwrap();
        for version in IpVersion::BOTH {
            let map = entries(version, 1)[1].set().clone();
            // All ways of cutting eight addresses, with holes: whatever is neighbour of what.
            let ranges = |cuts: u8, holes: u8| {
                let edges: Vec<u8> = (0..8).filter(|place| cuts >> place & 1 == 1).chain([8]).collect();
                let ranges = edges.windows(2).filter(|pair| holes >> pair[0] & 1 == 0);
                let ranges =
                    ranges.map(|pair| (address(version, pair[0]), address(version, pair[1] - 1), pair[1].into()));
                Entries::ranges(map.clone(), ranges)
            };
            let mut before = Entries::ranges(map.clone(), []);
            for number in (0..=u8::MAX).step_by(7) {
                let after = ranges(number.wrapping_mul(37), number.wrapping_mul(11) & number.wrapping_mul(5));
                let requests = [before.without(&after).remove("ours"), after.without(&before).add("ours")].concat();
                // Nothing to change is nothing that the kernel would answer to.
                if requests.is_empty() {
                    continue;
                }
                socket.transact(requests).unwrap_or_else(|error| panic!("{error}: from {before:?} to {after:?}"));
                has(&mut socket, std::slice::from_ref(&after));
                before = after;
            }
        }
    });
}
