//! A cluster in turmoil: 500 nodes report, come, go, and change their addresses, all at once and for a minute. At its end
//! the kernel has exactly what it has on a node that started with the outcome.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{Membership, underlay};
use podwire_tests::lab::scene::{Outcome, check, json as look, same, scene};
use podwire_tests::lab::{Lab, eventually};
use serde_json::{Value, json};

use crate::api::{Api, NODES};
use crate::stage::{beat, node_with, share, start};

/// How many nodes there can be beside the one that is looked at.
const NODES_AT_MOST: u16 = 500;

/// How many do things to them at a time.
const HANDS: u16 = 4;

/// How long the turmoil lasts, in seconds; another number may be in the environment.
const LASTS: (&str, u64) = ("PODWIRE_CHURN_SECONDS", 60);

/// The ranges of so many pods.
const CLUSTER: &str = "cluster_cidrs = [\"10.128.0.0/9\", \"fd00:10:244::/48\"]\n";

/// How long the last changes may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// A node that does not exist but in the API: its address changes, its pod CIDRs follow from its number and from how often
/// it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    address: Ipv4Addr,
    generation: u8,
}

fn prefixes(number: u16, peer: Peer) -> Vec<IpNetwork> {
    // Made again it has the other half of what its number stands for.
    let [high, low] = number.to_be_bytes();
    let half = peer.generation % 2;
    let four = Ipv4Addr::new(10, 128 | high | half << 6, low, 0);
    let six = Ipv6Addr::new(0xfd00, 0x10, 0x244, number | u16::from(half) << 15, 0, 0, 0, 0);
    let networks = [IpNetwork::new(four.into(), 24), IpNetwork::new(six.into(), 64)];
    networks.into_iter().filter_map(Result::ok).collect()
}

fn name(number: u16) -> String {
    format!("peer-{number:03}")
}

/// Numbers by chance that are the same in every run (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u16) -> u16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u16::try_from(self.0 % u64::from(limit)).unwrap_or_default()
    }
}

/// Changes Node objects from several threads, each of which owns a disjoint set of them: all are created first, and then
/// changed for the given time. Returns the peers that remain at the end, and the number of changes.
fn turmoil(api: &Api, lasts: Duration) -> Outcome<(BTreeMap<u16, Peer>, usize)> {
    let done = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|hand| scope.spawn(move || Hand::new(api, hand).work(lasts))).collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect::<Outcome<Vec<_>>>()
    })?;
    let happened = done.iter().map(|hand| hand.happened).sum();
    Ok((done.into_iter().flat_map(|hand| hand.peers).collect(), happened))
}

/// One of those who do things to the nodes.
struct Hand<'a> {
    api: &'a Api,
    hand: u16,
    chance: Chance,
    peers: BTreeMap<u16, Peer>,
    generations: BTreeMap<u16, u8>,
    happened: usize,
}

impl<'a> Hand<'a> {
    fn new(api: &'a Api, hand: u16) -> Self {
        let chance = Chance(0x5eed_0004 + u64::from(hand));
        Self { api, hand, chance, peers: BTreeMap::new(), generations: BTreeMap::new(), happened: 0 }
    }

    fn work(mut self, lasts: Duration) -> Outcome<Self> {
        let own = NODES_AT_MOST / HANDS;
        for number in 0..own {
            self.happens(number * HANDS + self.hand)?;
        }
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            let number = self.chance.below(own) * HANDS + self.hand;
            self.happens(number)?;
        }
        Ok(self)
    }

    /// One thing that happens to a node.
    fn happens(&mut self, number: u16) -> Outcome {
        let (api, path) = (self.api, format!("{NODES}/{}", name(number)));
        let address = Ipv4Addr::from(0x0a00_0000 | u32::from(number) << 8 | u32::from(self.chance.below(250)));
        match (self.peers.get(&number).copied(), self.chance.below(10)) {
            (None, _) => {
                let generation = self.generations.entry(number).and_modify(|generation| *generation ^= 1).or_default();
                let peer = Peer { address, generation: *generation };
                api.create(NODES, &node_with(&name(number), &[peer.address.into()], &prefixes(number, peer)))?;
                self.peers.insert(number, peer);
            }
            (Some(_), 0) => {
                api.delete(&path)?;
                self.peers.remove(&number);
            }
            (Some(peer), 1..=2) => {
                let addresses = json!([{"type": "InternalIP", "address": address}]);
                api.patch(&format!("{path}/status"), &json!({"status": {"addresses": addresses}}))?;
                self.peers.insert(number, Peer { address, ..peer });
            }
            (Some(_), _) => {
                let conditions = json!([beat(self.happened as u64)]);
                api.patch(&format!("{path}/status"), &json!({"status": {"conditions": conditions}}))?;
            }
        }
        self.happened += 1;
        Ok(())
    }
}

/// The overlay in the kernel, whole, without the ids of nexthops, which depend on who came first: what an id stands for is
/// in each line beside it.
fn overlay(host: &Host) -> Outcome<Value> {
    let looks: [(&str, &[&str]); 7] = [
        ("addresses", &["-o", "address", "show", "dev", "podwire.1"]),
        ("neighbours", &["neighbour", "show", "dev", "podwire.1", "nud", "permanent"]),
        ("nexthops", &["-d", "nexthop"]),
        ("routes", &["-d", "route", "show", "table", "all", "proto", "112"]),
        ("routes6", &["-d", "-6", "route", "show", "table", "all", "proto", "112"]),
        ("rules", &["rule"]),
        ("rules6", &["-6", "rule"]),
    ];
    let mut whole = json!({});
    for (name, arguments) in looks {
        let text = host.run("ip", arguments)?;
        let mut lines: Vec<_> = text.lines().map(without_numbers).collect();
        lines.sort();
        whole[name] = lines.into();
    }
    let mut device = look(host, "ip", &["-d", "-j", "link", "show", "dev", "podwire.1"])?;
    device[0]["ifindex"].take();
    whole["device"] = device;
    whole["networks"] = look(host, "bridge", &["-j", "vni"])?;
    whole["firewall"] = host.run("nft", &["-s", "list", "ruleset"])?.into();
    Ok(whole)
}

/// A line of `ip` without the index of a device and the id of a nexthop.
fn without_numbers(line: &str) -> String {
    let mut words: Vec<_> = line.split_whitespace().collect();
    words.retain(|word| word.strip_suffix(':').is_none_or(|index| index.parse::<u32>().is_err()));
    while let Some(place) = words.windows(2).position(|pair| ["id", "nhid"].contains(&pair[0]) && pair[1].len() == 8) {
        words.drain(place..place + 2);
    }
    words.join(" ")
}

#[test]
fn after_a_minute_of_churn_among_500_nodes_the_kernel_is_exactly_right() {
    let (variable, usual) = LASTS;
    let lasts = std::env::var(variable).map_or(Ok(usual), |text| text.parse()).expect("a number of seconds");
    scene(1, |lab| {
        let api = Api::start(&lab.outside)?;
        api.allow()?;
        share(lab, "kubeconfig", &api.kubeconfig(&api.token()?))?;
        share(lab, "podwired.toml", CLUSTER)?;
        let own =
            [IpNetwork::new([10, 255, 0, 0].into(), 24), IpNetwork::new("fd00:10:244:ffff::".parse().unwrap(), 64)];
        let own: Vec<_> = own.into_iter().filter_map(Result::ok).collect();
        api.create(NODES, &node_with("node-1", &[underlay(1)[0].ip()], &own))?;
        start(&mut lab.nodes[0])?;
        lab.nodes[0].wait_ready()?;
        // Foreign routes and nexthops among them.
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["route", "add", "198.51.100.0/24", "via", "192.168.50.254", "proto", "static"])?;
        host.run("ip", &["nexthop", "add", "id", "7", "via", "192.168.50.254", "dev", "eth0"])?;
        let foreign = || {
            Ok([
                host.run("ip", &["route", "show", "proto", "static"])?,
                host.run("ip", &["nexthop", "get", "id", "7"])?,
            ])
        };
        let before: Outcome<_> = foreign();
        let (peers, happened) = turmoil(&api, Duration::from_secs(lasts))?;
        eprintln!("{happened} things have happened in {lasts} s; {} nodes are there", peers.len());
        // The outcome, by a file, to a node of the same name in a world of its own.
        let mut twin = Lab::new(1)?;
        let entry = |(number, peer): (&u16, &Peer)| (name(*number), IpAddr::V4(peer.address), prefixes(*number, *peer));
        let nodes = [("node-1".into(), underlay(1)[0].ip(), own)].into_iter().chain(peers.iter().map(entry)).collect();
        let (_, listed) = Membership { nodes, ..Membership::of([]) }
            .text()
            .split_once('\n')
            .map(|(first, rest)| (first.to_owned(), rest.to_owned()))
            .ok_or("no text")?;
        share(&twin, "nodes.toml", &format!("{CLUSTER}{listed}"))?;
        twin.start()?;
        twin.nodes[0].host.run("ip", &["nexthop", "add", "id", "7", "via", "192.168.50.254", "dev", "eth0"])?;
        let wanted = overlay(&twin.nodes[0].host)?;
        let complete = wanted["nexthops"].as_array().map(Vec::len) == Some(peers.len() + 1);
        check(complete && wanted["routes"].as_array().map(Vec::len) > Some(peers.len()), || wanted.to_string())?;
        eventually(ARRIVAL, || same("the overlay", &wanted, &overlay(&host)?))?;
        check(foreign() == before, || "the foreign route or nexthop has changed".into())
    });
}
