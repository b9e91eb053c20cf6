//! The compiled form, its changes and its explanations against the naive evaluator, on random clusters.

use crate::policy::compiled::{Compiled, Packet};
use crate::policy::compiler::Compiler;
use crate::policy::explanation::End;
use crate::policy::network_policy::Direction;
use crate::policy::tests::evaluator;
use crate::policy::tests::random::Random;
use crate::policy::tests::world::World;

/// Clusters, and packets in each: 100,000 packets.
const CLUSTERS: u64 = 2_000;
const PACKETS: u64 = 50;

#[test]
fn the_compiled_form_agrees_with_the_evaluator_on_random_clusters() {
    let mut kept = Compiler::default();
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..CLUSTERS {
        let mut random = Random(seed);
        let world = random.world();
        let fresh = world.compile(&mut Compiler::default());
        let compiled = world.compile(&mut kept);
        for _ in 0..PACKETS {
            let packet = random.packet(&world);
            let verdict = compiled.verdict(&packet);
            assert_eq!(verdict, fresh.verdict(&packet), "seed {seed}: numbers given before matter for {packet:?}");
            for (direction, said) in [(Direction::Ingress, verdict.ingress), (Direction::Egress, verdict.egress)] {
                let (own, peer) = packet.ends(direction);
                let expected = evaluator::allows(&world, direction, own, peer, packet.port);
                assert_eq!(said, expected, "seed {seed}: {direction:?} of {packet:?}\n{world:#?}\n{compiled:#?}");
                explains(&world, &compiled, direction, &packet, said, seed);
                if said && world.held.iter().any(|(held, _)| *held == own) {
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

/// The explanation names a rule that allows, or all policies that isolate.
fn explains(world: &World, compiled: &Compiled, direction: Direction, packet: &Packet, said: bool, seed: u64) {
    let explanation = compiled.explain(packet);
    let end = if direction == Direction::Ingress { explanation.ingress } else { explanation.egress };
    assert_eq!(end.allows(), said, "seed {seed}: {direction:?} of {packet:?} is explained by {end:?}");
    let (own, peer) = packet.ends(direction);
    let isolating = evaluator::isolating(world, direction, own);
    let name = |policy: &serde_json::Value| {
        let metadata = &policy["metadata"];
        format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap())
    };
    match end {
        End::NotIsolated => assert!(isolating.is_empty(), "seed {seed}: {packet:?}"),
        End::Itself => assert_eq!(own, peer),
        End::Denied { policies } => {
            let said: Vec<_> = policies.iter().map(ToString::to_string).collect();
            let mut expected: Vec<_> = isolating.into_iter().map(name).collect();
            expected.sort();
            assert_eq!(said, expected, "seed {seed}: {direction:?} of {packet:?}");
        }
        End::Allowed { policy, rule } => {
            let found = isolating.into_iter().find(|other| name(other) == policy.to_string());
            let found = found.unwrap_or_else(|| panic!("seed {seed}: {policy} does not isolate, {packet:?}"));
            let allows = evaluator::rule_allows(world, direction, found, rule, (own, peer), packet.port);
            assert!(allows, "seed {seed}: rule {rule} of {policy} does not allow {direction:?} of {packet:?}");
        }
    }
}
