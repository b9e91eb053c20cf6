//! The compiled form, its changes and its explanations against the naive evaluator, on random clusters.

use policy_model::evaluator;
use policy_model::packet::{Direction, Packet};
use policy_model::random::Random;
use policy_model::tiers::{self, Decision};

use crate::policy::compiled::Compiled;
use crate::policy::compiler::Compiler;
use crate::policy::explanation::{ByCluster, End};
use crate::policy::tests::world::{Compile, World, packet_of};

/// Clusters without ClusterNetworkPolicies and as many with them, and packets in each: 100,000 packets of both.
const CLUSTERS: u64 = 2_000;
const PACKETS: u64 = 50;

#[test]
fn the_compiled_form_agrees_with_the_evaluator_on_random_clusters() {
    compare(Random::world);
}

#[test]
fn the_compiled_form_agrees_with_the_evaluator_on_random_clusters_with_tiers() {
    compare(Random::tiered_world);
}

fn compare(cluster: fn(&mut Random) -> World) {
    let mut kept = Compiler::default();
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..CLUSTERS {
        let mut random = Random(seed);
        let world = cluster(&mut random);
        let fresh = world.compile(&mut Compiler::default());
        let compiled = world.compile(&mut kept);
        for _ in 0..PACKETS {
            let packet = random.packet(&world);
            let verdict = compiled.verdict(&packet_of(packet));
            assert_eq!(
                verdict,
                fresh.verdict(&packet_of(packet)),
                "seed {seed}: numbers given before matter for {packet}"
            );
            for (direction, said) in [(Direction::Ingress, verdict.ingress), (Direction::Egress, verdict.egress)] {
                let expected = evaluator::allows(&world, direction, &packet);
                assert_eq!(said, expected, "seed {seed}: {direction:?} of {packet}\n{world:#?}\n{compiled:#?}");
                explains(&world, &compiled, direction, &packet, said, seed);
                if said && world.holder(packet.ends(direction).0).is_some() {
                    allowed += 1;
                } else if !said {
                    denied += 1;
                }
            }
        }
    }
    // Neither answer is rare.
    assert!(allowed > 10_000 && denied > 10_000, "{allowed} allowed, {denied} denied");
}

/// The explanation names the first rule that allows, or all policies that isolate.
fn explains(world: &World, compiled: &Compiled, direction: Direction, packet: &Packet, said: bool, seed: u64) {
    let explanation = compiled.explain(&packet_of(*packet));
    let end = if direction == Direction::Ingress { explanation.ingress } else { explanation.egress };
    assert_eq!(end.allows(), said, "seed {seed}: {direction:?} of {packet} is explained by {end:?}");
    let (own, peer) = packet.ends(direction);
    let isolating = evaluator::isolating(world, direction, own);
    let name = |policy: &serde_json::Value| {
        let metadata = &policy["metadata"];
        format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap())
    };
    let would_refuse = evaluator::would_refuse(world, direction, packet);
    assert_eq!(
        matches!(end, End::WouldDeny { .. } | End::WouldRefuse(_)),
        would_refuse,
        "seed {seed}: {direction:?} of {packet}: {end:?}\n{world:#?}"
    );
    let tier = |tier: &str| tiers::decide(world, tier, direction, packet, false);
    let (admin, baseline) = (tier("Admin"), tier("Baseline"));
    let by = |found: &ByCluster| (found.policy.to_string(), found.rule);
    let rule =
        |(policy, rule): (&serde_json::Value, usize)| (policy["metadata"]["name"].as_str().unwrap().to_owned(), rule);
    // Whoever passes it on is named, as far as it is asked.
    let mut passing: Vec<_> = match admin {
        Decision::Pass(found) => vec![rule(found)],
        _ => Vec::new(),
    };
    let admin_decides = matches!(admin, Decision::Accept(_) | Decision::Deny(_));
    if let (Decision::Pass(found), false, true) = (baseline, admin_decides, isolating.is_empty()) {
        passing.push(rule(found));
    }
    let passed = if direction == Direction::Ingress { &explanation.ingress_passed } else { &explanation.egress_passed };
    if own != peer {
        assert_eq!(passed.iter().map(by).collect::<Vec<_>>(), passing, "seed {seed}: {direction:?} of {packet}");
    }
    let decides = if admin_decides { admin } else { baseline };
    match end {
        End::NotIsolated => assert!(isolating.is_empty() && !admin_decides, "seed {seed}: {packet}"),
        End::Unknown => panic!("seed {seed}: every pod of {packet} is known"),
        End::WouldDeny { policies, .. } => assert!(!policies.is_empty(), "seed {seed}: {packet}"),
        End::WouldRefuse(_) => {}
        End::Itself => assert_eq!(own, peer),
        End::Accepted(found) => match decides {
            Decision::Accept(expected) => assert_eq!(by(&found), rule(expected), "seed {seed}: {packet}"),
            other => panic!("seed {seed}: {packet}: {found:?}, not {other:?}"),
        },
        End::Refused(found) => match decides {
            Decision::Deny(expected) => assert_eq!(by(&found), rule(expected), "seed {seed}: {packet}"),
            other => panic!("seed {seed}: {packet}: {found:?}, not {other:?}"),
        },
        End::Denied { policies, .. } => {
            let said: Vec<_> = policies.iter().map(ToString::to_string).collect();
            let mut expected: Vec<_> = isolating.into_iter().map(name).collect();
            expected.sort();
            assert_eq!(said, expected, "seed {seed}: {direction:?} of {packet}");
        }
        End::Allowed { policy, rule } => {
            let first = evaluator::first_rule(world, direction, packet).map(|(policy, rule)| (name(policy), rule));
            assert_eq!(Some((policy.to_string(), rule)), first, "seed {seed}: {direction:?} of {packet}");
        }
    }
}
