//! Random policies in the kernel against what the API documents: what arrives of many first packets, by TCP, UDP and SCTP, on one
//! node and across nodes, at pods' addresses and at Services', and what becomes of flows that have begun before.
//!
//! Each scene has clusters of its own. The seed is printed when one fails; PODWIRE_SEED in the environment plays it first.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::policies;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, eventually};
use policy_model::evaluator;
use policy_model::packet::{Direction, PROTOCOLS, Packet};
use policy_model::random::Random;
use policy_model::stored::typed;
use policy_model::world::World;
use serde_json::{Value, json};

use super::attempts::{Answering, Attempt, otherwise};
use super::flows::Flow;
use super::services::{Mode, ServicePort, translate};

/// Pods of both nodes end with numbers from 0 to 15, as the blocks of random clusters do.
const FOUR: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 0);
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0);

/// The namespaces of the pods of a node: of the five addresses that it has, one is for the sign.
const NAMESPACES: [&str; 4] = ["a", "a", "b", "unknown"];

/// Packets of one cluster.
const PACKETS: usize = 80;

/// How long clusters are played, and how many there are at least.
const TIME: Duration = Duration::from_secs(12);
const CLUSTERS: u64 = 5;

/// The port of each Service, and of its endpoint.
const SERVICE_PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;

/// The settings of each node.
const SETTINGS: &str = "/run/settings.toml";

/// A pod of the lab.
struct Place {
    node: usize,
    name: String,
    addresses: Vec<IpAddr>,
}

fn seed() -> u64 {
    let random = || {
        let mut bytes = [0; 4];
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).unwrap();
        u32::from_ne_bytes(bytes).into()
    };
    std::env::var("PODWIRE_SEED").map_or_else(|_| random(), |seed| seed.parse().unwrap())
}

/// The address of a pod's Service.
fn service(pod: usize, like: IpAddr) -> IpAddr {
    let last = u16::try_from(pod + 1).unwrap();
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + u32::from(last)).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, last).into(),
    }
}

fn play(mode: Mode, settings: &str) {
    scene(2, |lab| {
        let cidr = |number: u32| -> [IpNetwork; 2] {
            let four = Ipv4Addr::from(u32::from(FOUR) + number);
            let six = Ipv6Addr::from(u128::from(SIX) + u128::from(number));
            [IpNetwork::new(four.into(), 29).unwrap(), IpNetwork::new(six.into(), 125).unwrap()]
        };
        let mut membership = Membership::of(1..=2);
        for (node, number) in membership.nodes.iter_mut().zip([0, 8]) {
            node.2 = cidr(number).to_vec();
        }
        lab.write(&membership)?;
        policies::follow(lab)?;
        for node in &mut lab.nodes {
            let written = node.host.enter(|| std::fs::write(SETTINGS, settings));
            written.map_err(|error| format!("write {SETTINGS}: {error}"))?;
            node.arguments.extend(["--settings", SETTINGS].map(Into::into));
        }
        lab.start()?;
        let mut places = Vec::new();
        for node in 0..2 {
            for (number, namespace) in NAMESPACES.iter().enumerate() {
                let name = format!("pod-{}", node * NAMESPACES.len() + number);
                let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
                let pod = lab.nodes[node].add_pod_as(&name, |call| call.with("CNI_ARGS", &arguments))?;
                places.push(Place { node, name, addresses: pod.addresses.clone() });
            }
            // One that the sign of each cluster isolates.
            let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=signs;K8S_POD_NAME=sign";
            lab.nodes[node].add_pod_as("sign", |call| call.with("CNI_ARGS", arguments))?;
        }
        let services = places.iter().enumerate().flat_map(|(number, place)| {
            PROTOCOLS.into_iter().flat_map(move |protocol| {
                place.addresses.iter().map(move |address| {
                    let at = (service(number, *address), SERVICE_PORT).into();
                    ServicePort::new(protocol, at, (*address, TARGET_PORT).into())
                })
            })
        });
        let services: Vec<_> = services.collect();
        lab.nodes.iter().try_for_each(|node| translate(&node.host, mode, &services))?;
        rounds(lab, &places)
    });
}

#[expect(clippy::print_stdout, reason = "how much was compared is part of what a play is worth")]
fn rounds(lab: &Lab, places: &[Place]) -> Outcome {
    let host = |place: usize| &lab.nodes[places[place].node].pod(&places[place].name).host;
    let mut answering = (0..places.len()).map(|place| Answering::start(host(place))).collect::<Outcome<Vec<_>>>()?;
    let first = seed();
    let mut flows = flows(lab, places, first)?;
    let (start, mut arrived, mut refused, mut played) = (Instant::now(), 0, 0, 0);
    while start.elapsed() < TIME || played < CLUSTERS {
        let seed = first + played;
        let mut random = Random(seed);
        let world = cluster(&mut random, places);
        put_in_force(lab, &world, played)?;
        let mut packets = Vec::new();
        let attempts: Vec<_> = (0..PACKETS)
            .map(|_| {
                let (packet, attempt) = attempt(&mut random, &world, places, host);
                packets.push(packet);
                attempt
            })
            .collect();
        let differ = otherwise(&mut answering, &attempts, SOON)?;
        let explain = |place: &usize| explained(&world, &attempts[*place], &packets[*place]);
        let differ: Vec<_> = differ.iter().map(explain).collect();
        let text = || {
            serde_json::to_string_pretty(&json!([world.policies, world.cluster_policies, world.pods, world.namespaces]))
                .unwrap()
        };
        check(differ.is_empty(), || format!("PODWIRE_SEED={seed}: {}\n{}", differ.join("\n"), text()))?;
        arrived += attempts.iter().filter(|attempt| attempt.arrives).count();
        refused += attempts.iter().filter(|attempt| !attempt.arrives).count();
        for flow in &mut flows {
            let passes = evaluator::passes(&world, &flow.packet);
            flow.becomes(passes).map_err(|why| format!("PODWIRE_SEED={seed}: {}: {why}\n{}", flow.packet, text()))?;
        }
        played += 1;
    }
    println!("{played} clusters from PODWIRE_SEED={first} on: {arrived} packets arrived, {refused} were refused");
    // Neither is rare.
    check(arrived.min(refused) * 10 > arrived + refused, || format!("{arrived} arrived, {refused} were refused"))
}

/// A random cluster of the lab's pods.
fn cluster(random: &mut Random, places: &[Place]) -> World {
    let nodes = ["node-1", "node-2"];
    let pods: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(number, place)| (NAMESPACES[number % NAMESPACES.len()], nodes[place.node], place.addresses.clone()))
        .collect();
    let mut world = random.cluster_of(&pods);
    // Every second one has ClusterNetworkPolicies, too.
    if random.once_in(2) {
        random.add_tiers(&mut world);
    }
    world.cluster_policies.retain(is_whole);
    world.move_blocks(FOUR, SIX);
    world
}

/// Whether a ClusterNetworkPolicy is one that files take: no peer or protocol of it is empty, as one is that a newer API has filled.
fn is_whole(policy: &Value) -> bool {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let rules = ["ingress", "egress"].into_iter().flat_map(|direction| items(&policy["spec"][direction]));
    let mut parts = rules.flat_map(|rule| ["from", "to", "protocols"].map(|part| items(&rule[part])).concat());
    parts.all(|part| part != json!({}))
}

/// Writes a cluster into the policy directory, and waits until every node has it in force: a block of a policy for everybody
/// has the number of the cluster in it, and is looked for in the kernel.
fn put_in_force(lab: &Lab, world: &World, number: u64) -> Outcome {
    // Other segments may begin or end beside it: not where the next cluster looks.
    let sign = format!("203.0.113.{}", number * 3 % 250);
    let typed = typed(world);
    let mut items = [typed.namespaces, typed.pods, typed.policies, typed.cluster_policies].concat();
    // Of a namespace that no pod is asked in: it isolates a pod that only it means.
    items.push(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "sign", "namespace": "signs"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": format!("{sign}/32")}}]}]},
    }));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    policies::write(lab, "cluster.json", &list.to_string())?;
    for node in &lab.nodes {
        eventually(SOON, || {
            let blocks = node.host.run("nft", &["list", "map", "inet", "podwire-policy", "blocks4"])?;
            check(blocks.contains(&sign), || format!("{} does not have {sign} in force: {blocks}", node.host.name))
        })?;
    }
    Ok(())
}

/// A first packet from one pod to another, or to its Service, and what policies see of it.
fn attempt<'a>(
    random: &mut Random,
    world: &World,
    places: &[Place],
    host: impl Fn(usize) -> &'a podwire_tests::lab::host::Host,
) -> (Packet, Attempt<'a>) {
    let count = places.len() as u64;
    let from = random.below(count);
    let to = (from + 1 + random.below(count - 1)) % count;
    let [from, at] = [from, to].map(|place| usize::try_from(place).unwrap());
    let family = usize::try_from(random.below(2)).unwrap();
    let protocol = random.of(&PROTOCOLS);
    let [source, destination] = [from, at].map(|place| {
        *places[place].addresses.iter().find(|address| address.is_ipv4() == FAMILIES[family].is_ipv4()).unwrap()
    });
    let (port, to) = match random.once_in(3) {
        true => (TARGET_PORT, SocketAddr::new(service(at, destination), SERVICE_PORT)),
        false => {
            let port = random.port();
            (port, (destination, port).into())
        }
    };
    let packet = Packet { source, destination, port: Some((protocol, port)) };
    let arrives = evaluator::passes(world, &packet);
    (packet, Attempt { from: host(from), protocol, to, at, arrives })
}

fn explained(world: &World, attempt: &Attempt<'_>, packet: &Packet) -> String {
    let ends = Direction::BOTH.map(|direction| {
        let rule = evaluator::first_rule(world, direction, packet);
        let isolating = evaluator::isolating(world, direction, packet.ends(direction).0).len();
        let rule = rule.map(|(policy, rule)| format!("{}[{rule}]", policy["metadata"]["name"]));
        format!("{direction:?}: isolated by {isolating}, allowed by {}", rule.unwrap_or_default())
    });
    let became = if attempt.arrives { "does not arrive" } else { "arrives" };
    format!("{packet} (sent to {}) {became}; {}", attempt.to, ends.join(", "))
}

/// Flows that begin while nothing is refused: between pods of one node and of two.
fn flows(lab: &Lab, places: &[Place], seed: u64) -> Outcome<Vec<Flow>> {
    let mut random = Random(seed);
    let host = |place: usize| &lab.nodes[places[place].node].pod(&places[place].name).host;
    let mut flows = Vec::new();
    for number in 0..12 {
        let nobody = cluster(&mut random, places);
        let (packet, attempt) = attempt(&mut random, &nobody, places, host);
        let to = SocketAddr::new(packet.destination, [80, 8080, 81][number % 3]);
        flows.push(Flow::begin(attempt.from, packet.source, to)?);
    }
    Ok(flows)
}

#[test]
fn what_policies_allow_arrives_and_nothing_else_beside_the_fast_path() {
    play(Mode::Nftables, "");
}

#[test]
fn what_policies_allow_arrives_and_nothing_else_without_the_fast_path() {
    play(Mode::Iptables, "fast_path = false\n");
}
