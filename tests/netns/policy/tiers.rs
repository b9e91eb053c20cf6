//! ClusterNetworkPolicies beside NetworkPolicies: the tiers in their order, for packets of every protocol, for connections that have
//! begun before, and as podwired explains and counts them.

use podwire_tests::lab::daemon::{json as json_of, podwired};
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::policies::{
    in_force, pods_of as pods, policed, put, put_audited, put_tier, remove, soon as reach_soon, take,
};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::{Value, json};

use super::stage::{Answerers, add_pod, app, of, port_called};

/// All pods of a namespace.
fn namespace(name: &str) -> Value {
    json!({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

fn tcp(port: u16) -> Value {
    json!({"tcp": {"destinationPort": {"number": port}}})
}

/// The words of a line of what `podwired policy explain` says on the first node.
fn explained(lab: &Lab, question: &str, line: &str) -> Outcome {
    let arguments: Vec<_> = ["policy", "explain"].into_iter().chain(question.split(' ')).collect();
    eventually(SOON, || {
        let answer = podwired(&lab.nodes[0].host, &arguments)?;
        check(answer.said.contains(line), || format!("{question}: {}{}", answer.said, answer.complaint))
    })
}

#[test]
fn the_admin_tier_comes_before_network_policies_and_the_baseline_only_where_none_isolates() {
    policed(2, |lab| {
        add_pod(lab, 0, "server", &app("server"), &json!({}))?;
        add_pod(lab, 0, "near", &app("client"), &json!({}))?;
        add_pod(lab, 1, "far", &app("other"), &json!({}))?;
        add_pod(lab, 1, "monitoring/probe", &app("probe"), &json!({}))?;
        let mut answerers = Answerers::of(lab, |name| name == "server" || name == "far")?;
        let to_server = |near, far, probe| {
            let ports = ["TCP/80", "UDP/80", "SCTP/80"];
            let from = [("near", near), ("far", far), ("probe", probe)];
            from.into_iter().flat_map(move |(name, passes)| ports.map(|port| (name, "server", port, passes))).collect()
        };
        let soon = |lab: &Lab, answerers: &mut Answerers, expected: Vec<_>| {
            answerers.soon(lab, &expected)?;
            answerers.now(lab, &expected)
        };
        soon(lab, &mut answerers, to_server(true, true, true))?;
        // The baseline: of nobody but one namespace.
        let (accept, deny) = ("Accept", "Deny");
        let nobody = json!({"ingress": [
            {"action": accept, "from": [namespace("monitoring")]}, {"action": deny, "from": [{"namespaces": {}}]},
        ]});
        put_tier(lab, "baseline", ("Baseline", 10), &pods("server"), &nobody)?;
        soon(lab, &mut answerers, to_server(false, false, true))?;
        explained(
            lab,
            "default/near default/server 80",
            "ingress  default/server: denied by baseline (Baseline, priority 10) ingress[1]",
        )?;
        // A NetworkPolicy isolates: it decides, and the baseline is not asked.
        let clients = json!({"ingress": [{"from": [{"podSelector": {"matchLabels": app("client")}}]}]});
        put(lab, "clients", &of("server", &clients))?;
        soon(lab, &mut answerers, to_server(true, false, false))?;
        explained(lab, "monitoring/probe default/server 80", "denied: isolated by default/clients")?;
        // The tier before it: one port is denied, one namespace accepted, and the rest passes on, whatever comes behind.
        let admin = json!({"ingress": [
            {"action": accept, "from": [namespace("monitoring")], "name": "monitoring"},
            {"action": deny, "from": [{"namespaces": {}}], "protocols": [tcp(80)]},
            {"action": "Pass", "from": [namespace("default")]},
            {"action": deny, "from": [{"namespaces": {}}]},
        ]});
        put_tier(lab, "admin", ("Admin", 5), &pods("server"), &admin)?;
        let expected = vec![
            ("near", "server", "TCP/80", false),
            ("near", "server", "TCP/81", true),
            ("near", "server", "UDP/80", true),
            ("far", "server", "TCP/81", false),
            ("probe", "server", "TCP/80", true),
            ("probe", "server", "SCTP/80", true),
        ];
        soon(lab, &mut answerers, expected)?;
        explained(
            lab,
            "monitoring/probe default/server 80",
            "allowed by admin (Admin, priority 5) ingress[0] \"monitoring\"",
        )?;
        explained(
            lab,
            "default/near default/server 81",
            "ingress  default/server: passed on by admin (Admin, priority 5) ingress[2]\n  \
             ingress  default/server: allowed by default/clients ingress[0]",
        )?;
        // A lower priority number is asked first, whatever the names.
        let open = json!({"ingress": [{"action": accept, "from": [{"namespaces": {}}], "protocols": [tcp(80)]}]});
        put_tier(lab, "open", ("Admin", 4), &pods("server"), &open)?;
        soon(lab, &mut answerers, vec![("near", "server", "TCP/80", true), ("far", "server", "TCP/80", true)])?;
        put_tier(lab, "open", ("Admin", 6), &pods("server"), &open)?;
        soon(lab, &mut answerers, vec![("near", "server", "TCP/80", false), ("far", "server", "TCP/80", false)])?;
        is_listed(lab)?;
        for name in ["open", "admin", "clients", "baseline"] {
            remove(lab, &format!("{name}.json"))?;
        }
        soon(lab, &mut answerers, to_server(true, true, true))?;
        lab.nodes.iter().try_for_each(in_force)?;
        let table = lab.nodes[0].host.run("nft", &["-j", "list", "table", "inet", "podwire-policy"])?;
        let table: Value = serde_json::from_str(&table).map_err(|error| error.to_string())?;
        let left: Vec<_> =
            table["nftables"].as_array().into_iter().flatten().flat_map(|one| one.as_object()).flatten().collect();
        let left: Vec<_> = left.into_iter().filter(|(_, set)| !set["elem"].is_null()).collect();
        // What numbers of decisions mean is always there.
        let others = left.iter().filter(|(_, set)| !set["name"].to_string().contains("-verdicts"));
        check(others.clone().count() == 0 && left.len() == 4, || format!("something is left in force: {left:?}"))
    });
}

/// `nft` shows the table, and `podwired policy list` the policies in the order in which they are asked.
fn is_listed(lab: &Lab) -> Outcome {
    lab.nodes[0].host.run("nft", &["list", "ruleset"])?;
    let list = json_of(&lab.nodes[0].host, &["policy", "list", "--json"])?;
    let found: Vec<_> = list["cluster_policies"].as_array().into_iter().flatten().collect();
    let expected = [("admin", "Admin", 5), ("open", "Admin", 6), ("baseline", "Baseline", 10)];
    let expected = expected.map(|(name, tier, priority)| {
        json!({
            "policy": name, "tier": tier, "priority": priority, "audit": false, "ingress": ["default/server"], "egress": [],
            "unsupported": [],
        })
    });
    check(found.iter().copied().eq(&expected), || format!("{list:#}"))
}

#[test]
fn a_pod_is_not_denied_for_the_network_that_its_address_is_in_where_a_rule_before_accepts_the_pod() {
    policed(2, |lab| {
        add_pod(lab, 0, "client", &app("client"), &json!({}))?;
        add_pod(lab, 0, "a", &app("a"), &port_called("http", 8080))?;
        add_pod(lab, 1, "b", &app("b"), &port_called("http", 9090))?;
        let outside = lab.outside.clone();
        let mut answerers = Answerers::pods(lab)?.and(&outside, 8080)?;
        // The pod a on whatever port but one of its range, the others by the name of a port; and of all addresses one port.
        let rules = json!({"egress": [
            {"action": "Deny", "to": [{"pods": pods("a")}],
             "protocols": [{"tcp": {"destinationPort": {"range": {"start": 80, "end": 82}}}}]},
            {"action": "Accept", "to": [{"pods": pods("a")}]},
            {"action": "Accept", "to": [{"pods": pods("b")}], "protocols": [{"destinationNamedPort": "http"}]},
            {"action": "Accept", "to": [{"networks": ["0.0.0.0/0", "::/0"]}], "protocols": [tcp(8080)]},
            {"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]},
        ]});
        put_tier(lab, "egress", ("Admin", 1), &pods("client"), &rules)?;
        let expected = [
            ("client", "a", "TCP/79", true),
            ("client", "a", "TCP/80", false),
            ("client", "a", "TCP/81", false),
            ("client", "a", "TCP/83", true),
            ("client", "a", "UDP/81", true),
            ("client", "a", "SCTP/81", true),
            ("client", "b", "TCP/9090", true),
            ("client", "b", "TCP/9091", false),
            ("client", "b", "TCP/8080", true),
            ("client", "b", "UDP/9090", false),
            ("client", "outside", "TCP/8080", true),
            ("a", "b", "TCP/9091", true),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)?;
        // Without the rule that lets the network through, the outside is not reached.
        let mut fewer = rules.clone();
        fewer["egress"].as_array_mut().ok_or("no list")?.remove(3);
        put_tier(lab, "egress", ("Admin", 1), &pods("client"), &fewer)?;
        let expected = [
            ("client", "a", "TCP/83", true),
            ("client", "b", "TCP/9090", true),
            ("client", "b", "TCP/8080", false),
            ("client", "outside", "TCP/8080", false),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)
    });
}

#[test]
fn connections_are_cut_by_a_rule_that_denies_them_and_what_is_refused_is_counted() {
    policed(2, |lab| {
        add_pod(lab, 0, "server", &app("server"), &json!({}))?;
        add_pod(lab, 0, "near", &app("client"), &json!({}))?;
        add_pod(lab, 1, "far", &app("client"), &json!({}))?;
        let _responder = Responder::start(&lab.nodes[0].pod("server").host)?;
        let server = lab.nodes[0].pod("server");
        let mut streams = Vec::new();
        for like in FAMILIES {
            for client in [lab.nodes[0].pod("near"), lab.nodes[1].pod("far")] {
                streams.push(Stream::start(&client.host, &server.host, server.address(like))?);
            }
        }
        let deny = json!({"ingress": [{"action": "Deny", "from": [{"pods": pods("client")}]}]});
        streams.iter().try_for_each(Stream::flows)?;
        // Not enforced it is counted only.
        put_audited(lab, "deny", ("Admin", 1), &pods("server"), &deny)?;
        let to_server = |passes| [((0, "near"), (0, "server"), passes), ((1, "far"), (0, "server"), passes)];
        explained(lab, "default/near default/server 80", "allowed: deny (Admin, priority 1) ingress[0] would deny it")?;
        reach_soon(lab, &to_server(true))?;
        is_counted(lab, "audited_pods")?;
        streams.iter().try_for_each(Stream::flows)?;
        put_tier(lab, "deny", ("Admin", 1), &pods("server"), &deny)?;
        streams.iter().try_for_each(Stream::is_cut)?;
        reach_soon(lab, &to_server(false))?;
        is_counted(lab, "refused_pods")?;
        // A label more than a rule denies by.
        let mut other = deny.clone();
        other["ingress"][0]["from"] = json!([{"pods": pods("none")}]);
        put_tier(lab, "deny", ("Admin", 1), &pods("server"), &other)?;
        streams.iter().try_for_each(Stream::flows)?;
        let announced = |lab: &Lab, (node, name): (usize, &str), label: &str| {
            podwire_tests::lab::policies::announce(lab, (node, name), &app(label))
        };
        announced(lab, (0, "near"), "none")?;
        announced(lab, (1, "far"), "none")?;
        streams.iter().try_for_each(Stream::is_cut)?;
        // NetworkPolicies come behind it.
        put(lab, "everybody", &of("server", &json!({"ingress": [{}]})))?;
        streams.iter().try_for_each(Stream::is_cut)?;
        take(lab, "everybody")?;
        remove(lab, "deny.json")?;
        streams.iter().try_for_each(Stream::flows)
    });
}

/// Packets of the server are counted in a list of the status.
fn is_counted(lab: &Lab, list: &str) -> Outcome {
    eventually(SOON, || {
        let status = json_of(&lab.nodes[0].host, &["status", "--json"])?;
        let pods = status["network_policy"][list].as_array().cloned().unwrap_or_default();
        let is_server = |pod: &Value| pod["pod"] == "server" && pod["to_pod"].as_u64() > Some(0);
        check(pods.iter().any(is_server), || format!("{list}: {status:#}"))
    })
}

#[test]
fn a_rule_with_a_peer_that_is_not_supported_denies_and_status_names_it() {
    policed(1, |lab| {
        add_pod(lab, 0, "client", &app("client"), &json!({}))?;
        add_pod(lab, 0, "server", &app("server"), &json!({}))?;
        let mut answerers = Answerers::of(lab, |name| name == "server")?;
        let rules = |action: &str, to: Value| json!({"egress": [{"action": action, "to": [to]}]});
        let (nodes, domains) = (json!({"nodes": {}}), json!({"domainNames": ["example.com"]}));
        for (action, to, passes, said) in [
            ("Accept", &domains, true, "domainNames are not supported: the rule accepts nothing"),
            ("Deny", &nodes, false, "nodes are not supported: the rule denies everything"),
            ("Pass", &nodes, false, "nodes are not supported: the rule denies everything"),
        ] {
            put_tier(lab, "odd", ("Admin", 1), &pods("client"), &rules(action, to.clone()))?;
            eventually(SOON, || {
                let status = json_of(&lab.nodes[0].host, &["status", "--json"])?;
                let problem = &status["problems"][0];
                let is_named = problem["kind"] == "policy-unsupported" && problem["subject"] == "odd";
                let is_said = problem["text"].as_str().is_some_and(|text| text.ends_with(said));
                check(is_named && is_said, || format!("{status:#}"))
            })?;
            answerers.soon(lab, &[("client", "server", "TCP/80", passes)])?;
        }
        remove(lab, "odd.json")?;
        in_force(&lab.nodes[0])?;
        answerers.soon(lab, &[("client", "server", "TCP/80", true)])
    });
}
