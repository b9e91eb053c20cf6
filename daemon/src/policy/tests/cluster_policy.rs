//! ClusterNetworkPolicies as they are decoded: validation, and rules that fail closed.

use crate::policy::cluster_policy::{self, ClusterPolicy};
use crate::policy::compiler::Compiler;
use crate::policy::documents::Objects;
use crate::policy::network_policy::Direction;
use crate::policy::port::{Protocol, Which};
use crate::policy::tests::cases::packet;
use crate::policy::tests::world::{Compile, World};
use crate::policy::tier::{Action, Tier};
use crate::policy::unsupported::Unknown;

fn text(spec: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: all}}\nspec: {spec}\n"
    )
}

fn read(spec: &str) -> Result<ClusterPolicy, String> {
    let shown = |rejected: Vec<_>| rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Objects::read(&text(spec)).map(|mut objects| objects.cluster_policies.remove(0)).map_err(shown)
}

fn egress(rule: &str) -> Result<ClusterPolicy, String> {
    read(&format!("{{tier: Admin, priority: 0, subject: {{namespaces: {{}}}}, egress: [{rule}]}}"))
}

/// As the API hands it out, which may be newer.
fn of_api(spec: &str) -> ClusterPolicy {
    let document = serde_saphyr::from_str::<serde_json::Value>(&text(spec)).unwrap();
    serde_json::from_value::<cluster_policy::Wire>(document).unwrap().try_into().unwrap()
}

#[test]
fn a_policy_has_its_tier_and_rules_in_order_and_both_versions_are_the_same() {
    let spec = "{tier: Baseline, priority: 1000, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}},
        ingress: [{name: first, action: Pass, from: [{namespaces: {}}]},
          {action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {}}}], protocols: [{tcp: {destinationPort: {number: 80}}},
            {sctp: {destinationPort: {range: {start: 1, end: 9}}}}, {destinationNamedPort: http}]}]}";
    let policy = read(spec).unwrap();
    assert_eq!(
        (policy.tier, policy.priority, policy.egress.len(), policy.unsupported.len()),
        (Tier::Baseline, 1000, 0, 0)
    );
    let rules = policy.rules(Direction::Ingress);
    assert_eq!((&*rules[0].name, rules[0].action, rules[1].action), ("first", Action::Pass, Action::Deny));
    assert_eq!(rules[0].matches.ports, None);
    let ports: Vec<_> =
        rules[1].matches.ports.iter().flatten().map(|ports| (ports.protocol, ports.which.clone())).collect();
    let named = |protocol| (protocol, Which::Named("http".into()));
    let mut expected = vec![(Protocol::Tcp, Which::Number(80)), (Protocol::Sctp, Which::Range(1, 9))];
    expected.extend(Protocol::ALL.map(named));
    assert_eq!(ports, expected, "a name is one of whatever protocol");
    let newer = text(spec).replace("v1alpha2", "v1beta1");
    assert_eq!(Objects::read(&newer).unwrap().cluster_policies, [policy]);
}

#[test]
fn pods_without_a_selector_of_namespaces_are_those_of_all_namespaces() {
    let of = |selector: &str| {
        let pods = format!("{{pods: {{{selector}podSelector: {{matchLabels: {{a: b}}}}}}}}");
        let rules = format!("ingress: [{{action: Deny, from: [{pods}]}}], egress: [{{action: Deny, to: [{pods}]}}]");
        read(&format!("{{tier: Admin, priority: 0, subject: {pods}, {rules}}}"))
    };
    assert_eq!(of("").unwrap(), of("namespaceSelector: {}, ").unwrap());
}

#[test]
fn what_is_wrong_with_a_policy_is_named() {
    let spec = |fields: &str| read(&format!("{{{fields}, ingress: []}}")).unwrap_err();
    let subject = "subject: {namespaces: {}}";
    for (error, expected) in [
        (spec(&format!("tier: Other, priority: 0, {subject}")), "spec.tier: \"Other\" is not valid: Admin or Baseline"),
        (
            spec(&format!("tier: Admin, priority: 1001, {subject}")),
            "spec.priority: 1001 is not valid: 0, which is asked first, to 1000",
        ),
        (
            spec("tier: Admin, priority: 0, subject: {}"),
            "spec.subject: is missing: a subject has either namespaces or pods",
        ),
        (
            spec("tier: Admin, priority: 0, subject: {pods: {namespaceSelector: {}}}"),
            "spec.subject.pods.podSelector: is missing: write {} for all of them",
        ),
        (
            egress("{action: Allow, to: [{namespaces: {}}]}").unwrap_err(),
            "spec.egress[0].action: \"Allow\" is not valid: Accept, Deny or Pass",
        ),
        (egress("{action: Deny, to: []}").unwrap_err(), "spec.egress[0].to: is missing: a rule has a peer at least"),
        (egress("{action: Deny, to: [{}]}").unwrap_err(), "spec.egress[0].to[0]: is missing: one of its fields has to be there"),
        (
            egress("{action: Deny, to: [{namespaces: {}, networks: [10.0.0.0/8]}]}").unwrap_err(),
            "spec.egress[0].to[0]: cannot be used: a peer has one of namespaces, pods, networks, nodes and domainNames",
        ),
        (
            egress("{action: Deny, to: [{networks: [10.0.0.0]}]}").unwrap_err(),
            "spec.egress[0].to[0].networks[0]: \"10.0.0.0\" is not a prefix; use ADDRESS/LENGTH with at most /32 (IPv4) or /128 \
             (IPv6)",
        ),
        (
            egress("{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]}").unwrap_err(),
            "spec.egress[0].protocols[0].tcp.destinationPort.number: 0 is no port; use 1 to 65535",
        ),
        (
            egress("{action: Deny, to: [{namespaces: {}}], protocols: [{udp: {destinationPort: {range: {start: 9, end: 9}}}}]}")
                .unwrap_err(),
            "spec.egress[0].protocols[0].udp.destinationPort.range.end: 9 is not valid: more than start",
        ),
        (
            egress("{action: Deny, to: [{namespaces: {}}], ports: [{}]}").unwrap_err(),
            "spec.egress[0].ports: is not known; there is name, action, to, protocols",
        ),
        (
            read("{tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{networks: ['::/0']}]}]}")
                .unwrap_err(),
            "spec.ingress[0].from[0].networks: is not known; there is namespaces, pods",
        ),
    ] {
        assert_eq!(error, format!("ClusterNetworkPolicy all: {expected}"));
    }
}

#[test]
fn a_rule_with_something_that_is_not_supported_fails_closed_and_says_so() {
    for (what, unknown) in [
        ("to: [{namespaces: {}}, {nodes: {}}]", Unknown::Named("nodes")),
        ("to: [{domainNames: [example.com]}]", Unknown::Named("domainNames")),
        ("to: [{newer: {}}]", Unknown::Newer),
        ("to: [{namespaces: {}}], protocols: [{newer: {}}]", Unknown::Newer),
        ("to: [{namespaces: {}}], protocols: [{tcp: {newer: {}}}]", Unknown::Newer),
        ("to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {newer: {}}}}]", Unknown::Newer),
    ] {
        for action in ["Accept", "Deny", "Pass"] {
            let spec = |action: &str| {
                format!(
                    "{{tier: Admin, priority: 0, subject: {{namespaces: {{}}}}, egress: [{{action: {action}, {what}}}]}}"
                )
            };
            let policy = of_api(&spec(action));
            let found: Vec<_> = policy.unsupported.iter().map(|found| (found.what, found.accepts)).collect();
            assert_eq!(found, [(unknown, action == "Accept")], "{what}");
            let world = |specs: &[&str]| {
                let policies = specs.iter().enumerate().map(|(number, action)| {
                    format!("---\nkind: ClusterNetworkPolicy\nmetadata: {{name: c{number}}}\nspec: {}\n", spec(action))
                });
                World::of(&(PODS.to_owned() + &policies.collect::<String>()))
            };
            let passes = |specs: &[&str]| {
                let compiled = world(specs).compile(&mut Compiler::default());
                compiled.verdict(&packet("10.1.0.1", "10.1.0.2", "TCP/80")).passes()
            };
            // One that accepts matches nothing: what comes behind it decides.
            assert_eq!(passes(&[action]), action == "Accept", "{what} {action}");
            assert!(!passes(&["Accept", "Deny"]), "{what}");
        }
    }
}

const PODS: &str = "\
---\nkind: Namespace\nmetadata: {name: default}
---\nkind: Pod\nmetadata: {name: web, namespace: default, labels: {app: web}}
spec: {nodeName: here}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.1}]}
---\nkind: Pod\nmetadata: {name: far, namespace: default, labels: {app: far}}
spec: {nodeName: there}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.2}]}
";
