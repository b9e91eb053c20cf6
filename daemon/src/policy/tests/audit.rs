//! Policies that are not enforced: nothing passes or is refused by them, and what they would refuse is known.

use crate::policy::changes::Changes;
use crate::policy::compiler::Compiler;
use crate::policy::explanation::End;
use crate::policy::network_policy::Direction;
use crate::policy::tests::cases::packet;
use crate::policy::tests::world::{Compile, World};

const PODS: &str = "\
---\nkind: Pod\nmetadata: {name: web, namespace: default, labels: {app: web}}
spec: {nodeName: here}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}
---\nkind: Pod\nmetadata: {name: db, namespace: default, labels: {app: db}}
spec: {nodeName: here}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: 'fd00::2'}]}
---\nkind: Pod\nmetadata: {name: far, namespace: default, labels: {app: far}}
spec: {nodeName: there}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.3}, {ip: 'fd00::3'}]}
";

/// A policy for ingress of pods by labels, enforced or not.
fn policy(name: &str, audit: bool, app: &str, ingress: &str) -> String {
    format!(
        "---\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: default, annotations: {{podwire.dev/audit: '{audit}'}}}}\n\
         spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, policyTypes: [Ingress], ingress: [{ingress}]}}\n"
    )
}

#[test]
fn what_a_policy_would_refuse_that_is_not_enforced_passes_and_is_said() {
    let from_far = "{from: [{podSelector: {matchLabels: {app: far}}}], ports: [{port: 80}]}";
    let policies = policy("a", true, "web", from_far) + &policy("b", true, "web", "{ports: [{port: 443}]}");
    let world = World::of(&(PODS.to_owned() + &policies));
    let compiled = world.compile(&mut Compiler::default());
    for [from, far, to] in [["10.1.0.2", "10.1.0.3", "10.1.0.1"], ["fd00::2", "fd00::3", "fd00::1"]] {
        let says = |from: &str, port: &str| {
            let packet = packet(from, to, port);
            assert!(compiled.verdict(&packet).passes(), "{packet:?}");
            match compiled.explain(&packet).ingress {
                End::WouldDeny { policies, .. } => policies.iter().map(ToString::to_string).collect(),
                End::NotIsolated => Vec::new(),
                other => panic!("{packet:?}: {other:?}"),
            }
        };
        assert_eq!(says(far, "TCP/80"), [""; 0]);
        assert_eq!(says(from, "TCP/443"), [""; 0]);
        assert_eq!(says(from, "TCP/80"), ["default/a", "default/b"]);
        assert_eq!(says(far, "ICMP"), ["default/a", "default/b"]);
        assert!(compiled.isolating(Direction::Ingress, to.parse().unwrap()).is_empty());
    }
}

#[test]
fn a_pod_that_is_isolated_is_not_audited_and_a_policy_is_enforced_once_the_annotation_goes() {
    let world = |audit: bool, more: &str| World::of(&(PODS.to_owned() + &policy("a", audit, "web", "") + more));
    let audited = |compiled: &crate::policy::compiled::Compiled| compiled.ingress.audited.len();
    let mut compiler = Compiler::default();
    let before = world(true, "").compile(&mut compiler);
    assert_eq!(audited(&before), 2);
    // What is enforced for it allows it all that it allows, as without the other.
    let isolated = world(true, &policy("b", false, "web", "{ports: [{port: 443}]}")).compile(&mut compiler);
    assert_eq!(audited(&isolated), 0);
    let passes = |port: &str| isolated.verdict(&packet("10.1.0.2", "10.1.0.1", port)).passes();
    assert!(passes("TCP/443") && !passes("TCP/80"));
    // The same numbers, and yet a change.
    let audited_again = world(true, "").compile(&mut compiler);
    let enforced = world(false, "").compile(&mut compiler);
    assert_eq!(audited(&enforced), 0);
    assert!(!enforced.verdict(&packet("fd00::2", "fd00::1", "TCP/80")).passes());
    let changes = Changes::between(&audited_again, &enforced);
    assert_eq!((changes.ingress.audited.removed.len(), changes.ingress.audited.added.len()), (2, 0));
}
