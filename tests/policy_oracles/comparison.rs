//! 100,000 packets in random clusters, judged by the compiler, the evaluator and both oracles; and as many beside
//! ClusterNetworkPolicies, which one of the oracles knows.

use std::fmt;

use podwired::policy::compiled::Compiled;
use podwired::policy::compiler::Compiler;
use policy_model::evaluator;
use policy_model::packet::{Direction, Packet};
use policy_model::random::Random;
use policy_model::tiers;
use policy_model::world::{HERE, World, is_peer};

use crate::errors::{CYCLONUS, ENGINE, ENGINE_WITH_TIERS};
use crate::oracle::{Case, Oracle, Said, Scratch};
use crate::world::{Compile, packet_of};

const CLUSTERS: usize = 2_000;
const PACKETS: usize = 50;

/// So many clusters are asked for at once: each question is a start of a program.
const AT_ONCE: usize = 100;

/// The nodes that the pods of random clusters are on.
const NODES: [&str; 3] = [HERE, "there", "elsewhere"];

/// What is said of the two ends of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    egress: bool,
    ingress: bool,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |allowed: bool| if allowed { "allow" } else { "deny" };
        write!(f, "egress {}, ingress {}", word(self.egress), word(self.ingress))
    }
}

impl Ends {
    /// By the evaluator, of pods on every node.
    fn evaluated(world: &World, packet: &Packet) -> Self {
        let [ingress, egress] = Direction::BOTH.map(|direction| evaluator::allows(world, direction, packet));
        Self { egress, ingress }
    }

    /// By what each node has compiled: the others let everything pass that is not theirs.
    fn compiled(nodes: &[Compiled], packet: &Packet) -> Self {
        let verdicts: Vec<_> = nodes.iter().map(|compiled| compiled.verdict(&packet_of(*packet))).collect();
        let (egress, ingress) = (|| verdicts.iter(), || verdicts.iter());
        Self { egress: egress().all(|one| one.egress), ingress: ingress().all(|one| one.ingress) }
    }

    fn is(self, said: Said) -> bool {
        match said {
            Said::Ends { egress, ingress } => self == Self { egress, ingress },
            Said::Both(passes) => passes == (self.egress && self.ingress),
        }
    }
}

/// What has been compared with one oracle.
struct Tally {
    oracle: &'static Oracle,
    packets: usize,
    /// Those of which its errors decide.
    excluded: usize,
    /// Those of which each error by itself decides.
    by_error: Vec<usize>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { oracle, packets, excluded, by_error } = self;
        write!(f, "{}: {} packets compared, {excluded} excluded:", oracle.name, packets - excluded)?;
        oracle.errors.iter().zip(by_error).try_for_each(|(error, count)| write!(f, "\n  {count:6} it {}", error.why))
    }
}

/// A cluster as the oracle takes it, and with each of its errors alone.
struct Taken {
    all: World,
    each: Vec<World>,
}

impl Taken {
    fn of(oracle: &Oracle, world: &World) -> Self {
        let (mut all, mut each) = (world.clone(), Vec::new());
        for error in oracle.errors {
            let mut alone = world.clone();
            (error.reads_as)(&mut alone);
            (error.reads_as)(&mut all);
            each.push(held_by_pods(alone));
        }
        Self { all: held_by_pods(all), each }
    }
}

/// As if all pods that live were on one node.
fn held_by_pods(mut world: World) -> World {
    world.hold(is_peer);
    world
}

fn case(seed: u64) -> Case {
    case_of(&mut Random(seed), seed, |_, _| ())
}

/// A case with ClusterNetworkPolicies whose rules have nothing that is not supported: how such a rule fails is podwire's own.
fn case_with_tiers(seed: u64) -> Case {
    case_of(&mut Random(seed), seed, |random, world| {
        random.add_tiers(world);
        for policy in &mut world.cluster_policies {
            for direction in [Direction::Ingress, Direction::Egress] {
                let name = if direction == Direction::Ingress { "ingress" } else { "egress" };
                if let Some(rules) = policy["spec"][name].as_array_mut() {
                    rules.retain(|rule| tiers::rule_is_known(rule, direction));
                }
            }
        }
    })
}

fn case_of(random: &mut Random, seed: u64, add: impl FnOnce(&mut Random, &mut World)) -> Case {
    let mut world = random.settled();
    add(random, &mut world);
    let held = held_by_pods(world.clone());
    let mut packets = Vec::new();
    while packets.len() < PACKETS {
        // That a pod reaches itself neither oracle knows: the packet does not leave the pod.
        let packet = random.packet(&held);
        packets.extend((packet.source != packet.destination).then_some(packet));
    }
    Case { seed, world, packets }
}

#[test]
fn compiler_and_evaluator_agree_with_both_oracles_on_100_000_packets() {
    compare([&CYCLONUS, &ENGINE], case);
}

#[test]
fn compiler_and_evaluator_agree_with_the_engine_on_100_000_packets_beside_cluster_network_policies() {
    compare([&ENGINE_WITH_TIERS], case_with_tiers);
}

#[expect(clippy::print_stdout, reason = "how much was compared is part of what a play is worth")]
fn compare<const N: usize>(oracles: [&'static Oracle; N], case: fn(u64) -> Case) {
    let first: u64 = std::env::var("PODWIRE_SEED").map_or(0, |seed| seed.parse().unwrap());
    let scratch = Scratch::new();
    let tally =
        |oracle: &'static Oracle| Tally { oracle, packets: 0, excluded: 0, by_error: vec![0; oracle.errors.len()] };
    let mut tallies = oracles.map(tally);
    let (mut pass, mut total) = (0, 0);
    let seeds: Vec<u64> = (first..).take(CLUSTERS).collect();
    for seeds in seeds.chunks(AT_ONCE) {
        let cases: Vec<_> = seeds.iter().copied().map(case).collect();
        let mut said = tallies.each_ref().map(|tally| {
            let said = (tally.oracle.judge)(&scratch.0, &cases);
            assert_eq!(said.len(), cases.len() * PACKETS, "answers of {}", tally.oracle.name);
            said.into_iter()
        });
        for Case { seed, world, packets } in &cases {
            let nodes = NODES.map(|node| world.seen_from(node).compile(&mut Compiler::default()));
            let held = held_by_pods(world.clone());
            let taken = tallies.each_ref().map(|tally| Taken::of(tally.oracle, world));
            for packet in packets {
                let (compiled, evaluated) = (Ends::compiled(&nodes, packet), Ends::evaluated(&held, packet));
                let mut agree = compiled == evaluated;
                let mut heard = format!("the compiler:  {compiled}\nthe evaluator: {evaluated}\n");
                for ((tally, said), taken) in tallies.iter_mut().zip(&mut said).zip(&taken) {
                    let (said, expected) = (said.next().unwrap(), Ends::evaluated(&taken.all, packet));
                    agree &= expected.is(said);
                    heard += &format!("{}: {said:?}, with its known errors expected: {expected}\n", tally.oracle.name);
                    tally.packets += 1;
                    if expected != evaluated {
                        tally.excluded += 1;
                        for (count, world) in tally.by_error.iter_mut().zip(&taken.each) {
                            *count += usize::from(Ends::evaluated(world, packet) != evaluated);
                        }
                    }
                }
                assert!(agree, "PODWIRE_SEED={seed}: they differ about {packet}\n{heard}{world:#?}");
                total += 1;
                pass += usize::from(compiled.egress && compiled.ingress);
            }
        }
    }
    println!("{total} packets from PODWIRE_SEED={first} on, {pass} of them pass");
    for tally in &tallies {
        println!("{tally}");
        assert!(tally.excluded < total / 10, "too much is excluded to say that anything was compared");
        for (error, count) in tally.oracle.errors.iter().zip(&tally.by_error) {
            assert!(*count > 0, "{} {}: seen no more, so take it off the list", tally.oracle.name, error.why);
        }
    }
    // Neither answer is rare.
    assert!(pass > total / 4 && total - pass > total / 10, "{pass} of {total} pass");
}
