//! The answers for people. Pure.

use std::fmt::Write;

use crate::observe::policies::document::{
    Allowing, ClusterRule, End, Endpoint, Explanation, List, Packet, ServiceBlock, UndeclaredPort,
};
use crate::observe::status::table::{Cell, Paint, table};
use crate::report::named::Documented;

/// Pods that are named in a cell; the others are counted.
const NAMED: usize = 8;

/// The policies that are in force. Texts are expected to be shown as they are.
pub fn render_list(list: &List, paint: Paint) -> String {
    let mut text = String::new();
    let others = match list.others {
        0 => String::new(),
        1 => "; 1 other selects none of its pods".into(),
        others => format!("; {others} others select none of its pods"),
    };
    let state = state(list.in_force, paint);
    let line = match list.policies.len() {
        0 => format!("No policy selects a pod of node {}{others}{state}.", list.node),
        1 => format!("1 policy selects pods of node {}{others}{state}.", list.node),
        count => format!("{count} policies select pods of node {}{others}{state}.", list.node),
    };
    text.push_str(&line);
    text.push('\n');
    let rows = list.policies.iter().map(|listed| {
        let audit = if listed.audit { " (audit: not enforced)" } else { "" };
        [format!("{}{audit}", listed.policy), pods(&listed.ingress), pods(&listed.egress)].map(Cell::last).into()
    });
    table(&mut text, &["policy", "isolates for ingress", "isolates for egress"], rows.collect(), paint);
    if !list.cluster_policies.is_empty() {
        text.push('\n');
    }
    let rows = list.cluster_policies.iter().map(|listed| {
        let audit = if listed.audit { " (audit: not enforced)" } else { "" };
        let name = format!("{}{audit}", listed.policy);
        let (tier, priority) = (listed.tier.clone(), listed.priority.to_string());
        [name, tier, priority, pods(&listed.ingress), pods(&listed.egress)].map(Cell::last).into()
    });
    let head = ["cluster policy", "tier", "priority", "judges ingress of", "judges egress of"];
    table(&mut text, &head, rows.collect(), paint);
    let unsupported = list.cluster_policies.iter().flat_map(|listed| {
        listed
            .unsupported
            .iter()
            .map(|field| format!("{} {field} is not supported: the rule fails closed", listed.policy))
    });
    for (place, sentence) in unsupported.enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}{}  {sentence}", if place == 0 { "\n" } else { "" }, paint.bad("fails closed"));
    }
    let none = list.selecting_none.iter().map(|policy| format!("{policy} selects no pod of the cluster"));
    let undeclared = list.undeclared_ports.iter().map(|UndeclaredPort { policy, rule, port }| {
        format!("{policy} {rule}: no pod that could be meant declares the port {port}")
    });
    let blocks = list.service_blocks.iter().map(|ServiceBlock { policy, rule, block }| {
        format!("{policy} {rule}: the block {block} has addresses of Services only, and matches nothing")
    });
    for (place, sentence) in none.chain(undeclared).chain(blocks).enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}{}  {sentence}", if place == 0 { "\n" } else { "" }, paint.bad("without effect"));
    }
    text
}

fn pods(names: &[String]) -> String {
    match names {
        [] => "-".into(),
        names if names.len() > NAMED => {
            format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED)
        }
        names => names.join(", "),
    }
}

fn state(in_force: bool, paint: Paint) -> String {
    let changed = || paint.bad("not in force as they are: `podwired status` says why; this is what the kernel has");
    if in_force { String::new() } else { format!(". The policies are {}", changed()) }
}

/// Why a packet passes or not. Texts are expected to be shown as they are.
pub fn render_explanation(explanation: &Explanation, paint: Paint) -> String {
    let mut text = String::new();
    let Explanation { node, source, destination, protocol, port, .. } = explanation;
    let port = match (protocol, port) {
        (Some(protocol), Some(port)) => format!("{protocol} {port}"),
        _ => "every protocol and port".into(),
    };
    let elsewhere = |packet: &Packet| [&packet.egress, &packet.ingress].into_iter().any(|end| judged_by(end).is_some());
    let verdict = match explanation.allowed {
        false => paint.bad("denied"),
        true if explanation.packets.iter().any(elsewhere) => paint.good(&format!("allowed as far as {node} judges")),
        true => paint.good("allowed"),
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "{} -> {}, {port}: {verdict}", source.asked, destination.asked);
    if !explanation.in_force {
        let _ = writeln!(text, "{}", state(false, paint).trim_start_matches(". "));
    }
    let mut shown: Vec<(&Packet, Vec<String>)> = Vec::new();
    for packet in &explanation.packets {
        let addresses = format!("{} -> {}", packet.source, packet.destination);
        let same =
            |(other, _): &&mut (&Packet, _)| (&other.egress, &other.ingress) == (&packet.egress, &packet.ingress);
        match shown.iter_mut().find(same) {
            Some((_, listed)) => listed.push(addresses),
            None => shown.push((packet, vec![addresses])),
        }
    }
    for (packet, addresses) in shown {
        let _ = writeln!(text, "\n{}", paint.head(&addresses.join(", ")));
        for (direction, end, endpoint, passed) in [
            ("egress", &packet.egress, source, &packet.egress_passed),
            ("ingress", &packet.ingress, destination, &packet.ingress_passed),
        ] {
            let name = endpoint.pod.as_ref().unwrap_or(&endpoint.asked);
            let passed_on = |by| _ = writeln!(text, "  {direction:<8} {name}: passed on by {}", cluster_rule(by));
            passed.iter().for_each(passed_on);
            let _ = writeln!(text, "  {direction:<8} {name}: {}", said(end, endpoint, explanation, paint));
            if let Documented::Known(End::Denied { others, .. } | End::WouldDeny { others, .. }) = end {
                others.iter().for_each(|other| _ = writeln!(text, "           {}", instead(other)));
            }
        }
        text.push_str(&ways_out(packet, explanation, &port));
    }
    text
}

/// The node that judges an end instead of this one.
fn judged_by(end: &Documented<End>) -> Option<&str> {
    if let Documented::Known(End::Elsewhere { node }) = end { Some(node) } else { None }
}

fn said(end: &Documented<End>, endpoint: &Endpoint, explanation: &Explanation, paint: Paint) -> String {
    let node = &explanation.node;
    match end {
        Documented::Known(End::Allowed { policy, rule }) => {
            format!("{} by {policy} {rule}", paint.good("allowed"))
        }
        Documented::Known(End::Accepted(by)) => format!("{} by {}", paint.good("allowed"), cluster_rule(by)),
        Documented::Known(End::Refused(by)) => format!("{} by {}", paint.bad("denied"), cluster_rule(by)),
        Documented::Known(End::WouldRefuse(by)) => {
            format!("{}: {} would deny it if enforced (audit)", paint.good("allowed"), cluster_rule(by))
        }
        Documented::Known(End::Denied { policies, .. }) => format!(
            "{}: isolated by {}, and no rule of {} allows this",
            paint.bad("denied"),
            policies.join(", "),
            if policies.len() == 1 { "it" } else { "theirs" }
        ),
        Documented::Known(End::WouldDeny { policies, .. }) => {
            let would = format!("{} would deny it if enforced (audit)", policies.join(", "));
            format!("{}: no policy isolates it on {node}; {would}", paint.good("not isolated"))
        }
        Documented::Known(End::NotIsolated) => {
            format!("{}: no policy isolates it on {node}", paint.good("not isolated"))
        }
        Documented::Known(End::UnknownPod) => format!(
            "{}: it is attached to {node}, and podwired has no object of it; `podwired status` says why",
            paint.bad("denied")
        ),
        Documented::Known(End::Itself) => format!("{}: a pod reaches itself", paint.good("allowed")),
        Documented::Known(End::OwnNode) => {
            format!("{}: policies do not judge what goes between a pod and its own node", paint.good("allowed"))
        }
        Documented::Known(End::NoPod) => match (&endpoint.pod, &endpoint.node) {
            (Some(_), _) => "not judged: it has the network of its node, and policies isolate other pods only".into(),
            (None, Some(node)) => format!("not judged: an address of node {node}, no pod"),
            (None, None) => "not judged: no pod of the cluster has this address".into(),
        },
        Documented::Known(End::Elsewhere { node }) => format!("on node {node}, which judges this end: ask there"),
        Documented::Unknown(newer) => newer.to_string(),
    }
}

/// A rule of a ClusterNetworkPolicy: `deny-all (Admin, priority 10) ingress[0] "name"`.
fn cluster_rule(ClusterRule { policy, tier, priority, rule, name }: &ClusterRule) -> String {
    let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    format!("{policy} ({tier}, priority {priority}) {rule}{named}")
}

fn instead(Allowing { policy, rule, ports }: &Allowing) -> String {
    format!("allowed is {} by {policy} {rule}", ports.join(", "))
}

/// What would have to change so that the packet passes.
fn ways_out(packet: &Packet, explanation: &Explanation, port: &str) -> String {
    let mut changes = Vec::new();
    let Explanation { source, destination, .. } = explanation;
    let sides = [
        ("egress", &packet.egress, source, format!("to {}", destination.asked)),
        ("ingress", &packet.ingress, destination, format!("from {}", source.asked)),
    ];
    for (direction, end, endpoint, peer) in &sides {
        let name = endpoint.pod.as_ref().unwrap_or(&endpoint.asked);
        match end {
            Documented::Known(End::Denied { .. }) => {
                changes.push(format!("a policy that selects {name} has to allow {direction} {peer}, {port}"));
            }
            Documented::Known(End::Refused(ClusterRule { policy, tier, rule, .. })) => {
                changes.push(format!(
                    "{policy} {rule} must not match it, or a rule of the tier {tier} that is asked before has to accept {direction} \
                     of {name} {peer}, {port}"
                ));
            }
            Documented::Known(End::Elsewhere { node }) => {
                changes.push(format!("node {node} has to allow {direction} of {name} as well"));
            }
            _ => {}
        }
    }
    let denied =
        sides.iter().any(|(_, end, ..)| matches!(end, Documented::Known(End::Denied { .. } | End::Refused(_))));
    if denied { format!("  So that it passes, {}.\n", changes.join("; and ")) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(egress: End, ingress: End) -> Explanation {
        let endpoint =
            |pod: &str, node: &str| Endpoint { asked: pod.into(), pod: Some(pod.into()), node: Some(node.into()) };
        let packet = |source: &str, destination: &str| Packet {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            egress: egress.clone().into(),
            ingress: ingress.clone().into(),
            egress_passed: Vec::new(),
            ingress_passed: Vec::new(),
        };
        Explanation {
            node: "node-1".into(),
            in_force: true,
            allowed: !matches!(ingress, End::Denied { .. }),
            source: endpoint("default/far", "node-2"),
            destination: endpoint("default/web", "node-1"),
            protocol: Some("TCP".into()),
            port: Some(80),
            packets: vec![packet("10.244.2.2", "10.244.1.2"), packet("fd00::2:2", "fd00::1:2")],
        }
    }

    #[test]
    fn a_denied_packet_is_explained_with_what_has_to_change_at_both_ends() {
        let others =
            vec![Allowing { policy: "default/web".into(), rule: "ingress[1]".into(), ports: vec!["TCP 443".into()] }];
        let denied = End::Denied { policies: vec!["default/deny".into(), "default/web".into()], others };
        let text = render_explanation(&explanation(End::Elsewhere { node: "node-2".into() }, denied), Paint(false));
        let expected = "\
default/far -> default/web, TCP 80: denied

10.244.2.2 -> 10.244.1.2, fd00::2:2 -> fd00::1:2
  egress   default/far: on node node-2, which judges this end: ask there
  ingress  default/web: denied: isolated by default/deny, default/web, and no rule of theirs allows this
           allowed is TCP 443 by default/web ingress[1]
  So that it passes, node node-2 has to allow egress of default/far as well; and a policy that selects default/web has to allow \
ingress from default/far, TCP 80.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_allowed_packet_says_who_else_judges_and_families_that_differ_stand_apart() {
        let allowed = End::Allowed { policy: "default/web".into(), rule: "ingress[0]".into() };
        let mut explanation = explanation(End::Elsewhere { node: "node-2".into() }, allowed);
        let text = render_explanation(&explanation, Paint(false));
        assert!(text.starts_with("default/far -> default/web, TCP 80: allowed as far as node-1 judges\n"), "{text}");
        assert!(text.contains("  ingress  default/web: allowed by default/web ingress[0]\n"), "{text}");
        explanation.packets[1].ingress = End::NotIsolated.into();
        explanation.packets.iter_mut().for_each(|packet| packet.egress = End::NoPod.into());
        (explanation.protocol, explanation.port, explanation.in_force) = (None, None, false);
        let text = render_explanation(&explanation, Paint(false));
        assert!(
            text.starts_with("default/far -> default/web, every protocol and port: allowed\nThe policies are not"),
            "{text}"
        );
        assert!(text.contains("\n10.244.2.2 -> 10.244.1.2\n") && text.contains("\nfd00::2:2 -> fd00::1:2\n"), "{text}");
        assert!(text.contains("  ingress  default/web: not isolated: no policy isolates it on node-1\n"), "{text}");
    }

    #[test]
    fn a_list_names_a_few_pods_of_each_policy_and_marks_those_that_are_not_enforced() {
        let listed = |policy: &str, audit, pods: usize| crate::observe::policies::document::Listed {
            policy: policy.into(),
            audit,
            ingress: (0..pods).map(|pod| format!("default/{pod}")).collect(),
            egress: Vec::new(),
        };
        let policies = vec![listed("default/deny", false, 10), listed("default/try", true, 1)];
        let mut list = List { node: "node-1".into(), in_force: true, policies, others: 3, ..List::default() };
        let text = render_list(&list, Paint(false));
        let first = "2 policies select pods of node node-1; 3 others select none of its pods.\n\npolicy  ";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("default/7 and 2 more  -\n"), "{text}");
        assert!(text.contains("default/try (audit: not enforced)  default/0"), "{text}");
        list.policies.clear();
        list.selecting_none.push("default/none".into());
        let (policy, rule, port) = ("default/web".into(), "egress[1]".into(), "TCP smtp".into());
        list.undeclared_ports.push(UndeclaredPort { policy, rule, port });
        let (policy, rule, block) = ("default/dns".into(), "egress[0]".into(), "10.96.0.10/32".into());
        list.service_blocks.push(ServiceBlock { policy, rule, block });
        assert_eq!(
            render_list(&list, Paint(false)),
            "No policy selects a pod of node node-1; 3 others select none of its pods.\n\n\
             without effect  default/none selects no pod of the cluster\n\
             without effect  default/web egress[1]: no pod that could be meant declares the port TCP smtp\n\
             without effect  default/dns egress[0]: the block 10.96.0.10/32 has addresses of Services only, and matches nothing\n"
        );
    }
}
