//! Cases that real implementations got wrong, as far as they are a matter of the compiler.

use crate::policy::compiled::Packet;
use crate::policy::compiler::Compiler;
use crate::policy::explanation::End;
use crate::policy::tests::world::{Compile, World, packet_of};

/// Asks for single packets.
trait Passes {
    /// Whether a packet passes both ends, by a fresh compiler.
    fn passes(&self, source: &str, destination: &str, port: &str) -> bool;
}

impl Passes for World {
    fn passes(&self, source: &str, destination: &str, port: &str) -> bool {
        self.compile(&mut Compiler::default()).verdict(&packet(source, destination, port)).passes()
    }
}

/// A packet, as in `TCP/80`.
pub(super) fn packet(source: &str, destination: &str, port: &str) -> Packet {
    packet_of(policy_model::packet::Packet::of(source, destination, port))
}

/// A pod of this node or another one, with two addresses that end with a number.
fn pod(name: &str, labels: &str, node: &str, number: u8, rest: &str) -> String {
    format!(
        "---\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{{labels}}}}}\n\
         status: {{phase: Running, podIPs: [{{ip: 10.1.0.{number}}}, {{ip: 'fd00::{number}'}}]}}\n\
         spec: {{nodeName: {node}, {rest}}}\n"
    )
}

/// A policy that selects pods by labels.
fn policy(name: &str, labels: &str, spec: &str) -> String {
    format!(
        "---\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{podSelector: {{matchLabels: {{{labels}}}}}, {spec}}}\n"
    )
}

/// Containers that have a name for a port.
fn named(number: u16) -> String {
    format!("containers: [{{ports: [{{name: http, containerPort: {number}}}]}}]")
}

/// Whether packets from one pod to another pass, by both families.
fn passes(world: &World, from: u8, to: u8, port: &str) -> bool {
    let four = world.passes(&format!("10.1.0.{from}"), &format!("10.1.0.{to}"), port);
    let six = world.passes(&format!("fd00::{from}"), &format!("fd00::{to}"), port);
    assert_eq!(four, six, "from {from} to {to}, {port}");
    four
}

#[test]
fn case_1_a_finished_pod_whose_address_another_pod_has_touches_nobody() {
    let pods = [
        pod("job", "app: job", "here", 1, ""),
        pod("web", "app: web", "here", 1, ""),
        pod("far-job", "app: job", "there", 2, ""),
        pod("far-web", "app: web", "there", 2, ""),
        pod("db", "app: db", "here", 3, ""),
    ];
    let finish = |pod: &String| {
        if pod.contains("app: job") { pod.replace("Running", "Succeeded") } else { pod.clone() }
    };
    let as_subject = policy("a", "app: job", "policyTypes: [Ingress, Egress]");
    let as_peer = policy("b", "app: db", "ingress: [{from: [{podSelector: {matchLabels: {app: job}}}]}]");
    let text: String = pods.iter().map(finish).chain([as_subject, as_peer]).collect();
    let mut world = World::of(&text);
    // By the ledger, the address is that of the pod that runs.
    world.held.retain(|(_, place)| *place != 0);
    assert!(passes(&world, 2, 1, "TCP/80") && passes(&world, 1, 2, "TCP/80"), "as a subject");
    assert!(!passes(&world, 1, 3, "TCP/80") && !passes(&world, 2, 3, "TCP/80"), "as a peer");
}

#[test]
fn case_2_a_terminating_pod_is_judged_until_its_del() {
    let terminating = pod("web", "app: web", "here", 1, "").replace("name: web", "deletionTimestamp: now, name: web");
    let rule = "ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]";
    let text = terminating + &pod("db", "app: db", "there", 2, "") + &policy("a", "app: web", rule);
    let world = World::of(&text);
    assert!(passes(&world, 2, 1, "TCP/80"));
    assert!(!passes(&world, 3, 1, "TCP/80"));
}

#[test]
fn case_3_a_port_name_of_an_egress_rule_is_the_number_of_each_destination() {
    let rule = "egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]";
    let text = pod("c", "app: c", "here", 1, &named(70))
        + &pod("a", "app: a", "there", 2, &named(8080))
        + &pod("b", "app: b", "there", 3, &named(9090))
        + &policy("a", "app: c", rule);
    let world = World::of(&text);
    let passing: Vec<_> = [2, 3]
        .into_iter()
        .flat_map(|to| [70, 8080, 9090].map(|port| (to, port)))
        .filter(|(to, port)| passes(&world, 1, *to, &format!("TCP/{port}")))
        .collect();
    assert_eq!(passing, [(2, 8080), (3, 9090)]);
    assert!(!passes(&world, 1, 2, "UDP/8080"), "the name is one of TCP");
}

#[test]
fn case_4_a_port_name_of_an_ingress_rule_is_the_number_of_the_server() {
    let rule = "ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]";
    let text = pod("server", "app: s", "here", 1, &named(8080))
        + &pod("client", "app: c", "here", 2, &named(9090))
        + &policy("a", "app: s", rule);
    let world = World::of(&text);
    assert!(passes(&world, 2, 1, "TCP/8080"));
    assert!(!passes(&world, 2, 1, "TCP/9090"));
}

#[test]
fn case_5_egress_by_a_named_port_without_to_is_each_pods_own_number_and_nothing_outside() {
    let rule = "egress: [{ports: [{port: http}]}]";
    let text = pod("c", "app: c", "here", 1, "")
        + &pod("a", "app: a", "there", 2, &named(8080))
        + &pod("b", "app: b", "there", 3, &named(9090))
        + &policy("a", "app: c", rule);
    let world = World::of(&text);
    assert!(passes(&world, 1, 2, "TCP/8080") && passes(&world, 1, 3, "TCP/9090"));
    assert!(!passes(&world, 1, 2, "TCP/9090") && !passes(&world, 1, 3, "TCP/8080"));
    assert!(!passes(&world, 1, 9, "TCP/8080") && !passes(&world, 1, 9, "TCP/9090"), "outside of the cluster");
}

#[test]
fn a_port_name_of_two_protocols_is_two_ports() {
    let rule = "egress: [{to: [{podSelector: {}}], ports: [{port: dns, protocol: TCP}, {port: dns, protocol: UDP}]}]";
    let dns =
        "containers: [{ports: [{name: dns, containerPort: 53}, {name: dns, containerPort: 5353, protocol: UDP}]}]";
    let text = pod("c", "app: c", "here", 1, "") + &pod("s", "app: s", "there", 2, dns) + &policy("a", "app: c", rule);
    let world = World::of(&text);
    let passing = |port: &&str| passes(&world, 1, 2, port);
    let ports = ["TCP/53", "UDP/5353", "TCP/5353", "UDP/53", "SCTP/53"];
    assert_eq!(ports.iter().filter(|port| passing(port)).collect::<Vec<_>>(), [&"TCP/53", &"UDP/5353"]);
}

#[test]
fn what_everybody_is_allowed_leaves_the_same_port_of_another_protocol_to_other_rules() {
    for (everybody, some) in [
        ("{port: 80}", "{port: 80, protocol: UDP}"),
        ("{port: 80, endPort: 81}", "{port: 80, endPort: 81, protocol: UDP}"),
    ] {
        let rules = format!(
            "ingress: [{{ports: [{everybody}]}}, {{from: [{{podSelector: {{matchLabels: {{app: c}}}}}}], ports: [{some}]}}]"
        );
        let text = pod("s", "app: s", "here", 1, "")
            + &pod("c", "app: c", "there", 2, "")
            + &pod("d", "app: d", "there", 3, "")
            + &policy("a", "app: s", &rules);
        let world = World::of(&text);
        assert!(passes(&world, 2, 1, "TCP/80") && passes(&world, 3, 1, "TCP/80"), "{everybody}");
        assert!(passes(&world, 2, 1, "UDP/80") && !passes(&world, 3, 1, "UDP/80"), "{some}");
    }
}

#[test]
fn an_explanation_names_the_first_rule_of_the_first_policy_that_allows() {
    let of_all = "{ports: [{port: 80}]}";
    let of_some = "{from: [{podSelector: {}}], ports: [{port: 80}]}";
    let text = pod("s", "app: s", "here", 1, "")
        + &pod("c", "app: c", "there", 2, "")
        // Their order in the cluster is not that of their names.
        + &policy("b", "app: s", &format!("ingress: [{of_all}, {of_some}]"))
        + &policy("a", "app: s", &format!("ingress: [{{ports: [{{port: 81}}]}}, {of_some}, {of_all}]"));
    let compiled = World::of(&text).compile(&mut Compiler::default());
    let decides = |source: &str| match compiled.explain(&packet(source, "10.1.0.1", "TCP/80")).ingress {
        End::Allowed { policy, rule } => format!("{policy}[{rule}]"),
        other => panic!("{other:?}"),
    };
    assert_eq!(decides("10.1.0.2"), "default/a[1]", "the rule that everybody has comes after it");
    assert_eq!(decides("10.9.0.1"), "default/a[2]");
}

#[test]
fn case_6_an_exception_of_one_rule_does_not_deny_what_another_rule_allows() {
    let block = |family: &str| match family {
        "4" => "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}",
        _ => "{ipBlock: {cidr: 'fd00::/8', except: ['fd00::/64']}}",
    };
    let blocks = format!("[{}, {}]", block("4"), block("6"));
    let selector = "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}]";
    for (first, second) in [(blocks.as_str(), selector), (selector, blocks.as_str())] {
        let rules = format!(
            "ingress: [{{from: {first}}}, {{from: {second}}}], egress: [{{to: {first}}}, {{to: {second}}}], \
             policyTypes: [Ingress, Egress]"
        );
        let text = "kind: Namespace\nmetadata: {name: default}\n".to_owned()
            + &pod("web", "app: web", "here", 1, "")
            + &pod("db", "app: db", "there", 2, "")
            + &policy("a", "app: web", &rules);
        let world = World::of(&text);
        assert!(passes(&world, 1, 2, "TCP/80") && passes(&world, 2, 1, "TCP/80"));
        assert!(!passes(&world, 1, 3, "TCP/80") && !passes(&world, 3, 1, "TCP/80"), "no pod has this exception");
        assert!(world.passes("10.1.0.1", "10.2.0.1", "TCP/80") && world.passes("fd00:0:1::1", "fd00::1", "TCP/80"));
    }
}

#[test]
fn case_7_a_host_network_pod_isolates_no_node_and_lets_no_node_in() {
    let text = pod("host", "app: host", "here", 1, "hostNetwork: true")
        + &pod("far-host", "app: host", "there", 2, "hostNetwork: true")
        + &pod("web", "app: web", "here", 3, "")
        + "---\nkind: NetworkPolicy\nmetadata: {name: a, namespace: default}\n\
           spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}], policyTypes: [Ingress, Egress]}\n";
    let world = World::of(&text);
    assert!(passes(&world, 9, 1, "TCP/6443") && passes(&world, 1, 9, "TCP/6443"), "no node address is isolated");
    assert!(!passes(&world, 1, 3, "TCP/80") && !passes(&world, 2, 3, "TCP/80"), "no node address is let in");
}

#[test]
fn case_8_a_pod_isolated_both_ways_reaches_itself_and_not_its_sibling() {
    let text = pod("one", "app: web", "here", 1, "")
        + &pod("two", "app: web", "here", 2, "")
        + &policy("a", "app: web", "policyTypes: [Ingress, Egress]");
    let world = World::of(&text);
    assert!(passes(&world, 1, 1, "TCP/80") && passes(&world, 1, 1, "ICMP"));
    assert!(!passes(&world, 1, 2, "TCP/80"));
    let compiled = world.compile(&mut Compiler::default());
    let explanation = compiled.explain(&packet("10.1.0.1", "10.1.0.1", "TCP/80"));
    assert_eq!([explanation.egress, explanation.ingress], [End::Itself, End::Itself]);
}

#[test]
fn case_10_of_two_policies_both_are_in_force_in_one_compiled_form() {
    let rule = |port| format!("ingress: [{{ports: [{{port: {port}}}]}}]");
    let both = policy("a", "app: web", &rule(80)) + &policy("b", "app: web", &rule(81));
    let before = World::of(&both);
    let mut compiler = Compiler::default();
    assert!(before.compile(&mut compiler).ingress.subjects.is_empty());
    let compiled = World::of(&(both + &pod("web", "app: web", "here", 1, ""))).compile(&mut compiler);
    let passing = |port: u16| compiled.verdict(&packet("10.1.0.9", "10.1.0.1", &format!("TCP/{port}"))).passes();
    assert_eq!([79, 80, 81].map(passing), [false, true, true]);
}

#[test]
fn case_14_a_nodes_overlay_address_is_judged_as_its_internal_address() {
    let rule = "ingress: [{from: [{ipBlock: {cidr: 192.168.50.2/32}}, {ipBlock: {cidr: 'fd50::2/128'}}]}]";
    let mut world = World::of(&(pod("web", "app: web", "here", 1, "") + &policy("a", "app: web", rule)));
    let pairs = [
        ("10.244.2.0", "192.168.50.2"),
        ("fd00:2::", "fd50::2"),
        ("10.244.3.0", "192.168.50.3"),
        ("fd00:3::", "fd50::3"),
    ];
    world.judged_as = pairs.map(|(one, other)| (one.parse().unwrap(), other.parse().unwrap())).into();
    let passing = |source: &str| {
        let destination = if source.contains(':') { "fd00::1" } else { "10.1.0.1" };
        world.passes(source, destination, "TCP/80")
    };
    assert_eq!(["192.168.50.2", "10.244.2.0", "fd50::2", "fd00:2::"].map(passing), [true; 4]);
    assert_eq!(["192.168.50.3", "10.244.3.0", "fd50::3", "fd00:3::"].map(passing), [false; 4]);
}

#[test]
fn case_15_egress_is_judged_by_the_endpoint_and_its_port() {
    let allows = |rule: &str| {
        let world = World::of(
            &(pod("c", "app: c", "here", 1, "") + &pod("s", "app: s", "there", 2, "") + &policy("a", "app: c", rule)),
        );
        passes(&world, 1, 2, "TCP/8080")
    };
    assert!(!allows("egress: [{ports: [{port: 80}]}]"), "the Service's port");
    assert!(!allows("egress: [{to: [{ipBlock: {cidr: 10.96.0.0/12}}, {ipBlock: {cidr: 'fd96::/112'}}]}]"));
    assert!(allows("egress: [{to: [{podSelector: {matchLabels: {app: s}}}], ports: [{port: 8080}]}]"));
}
