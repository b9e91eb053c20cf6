//! Cases that real implementations got wrong: what a rule allows. Named ports, exceptions of blocks, addresses of nodes and of
//! outside clients, and Services.

use std::net::{IpAddr, SocketAddr};

use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::policies::{policed, put, write};
use podwire_tests::lab::scene::{FAMILIES, Outcome};
use podwire_tests::lab::{Lab, outside_address};
use serde_json::{Value, json};

use super::services::{Mode, ServicePort, translate};
use super::stage::{Answerers, add_pod, address, app, of, port_called};

/// The address of a Service of each family.
fn cluster_ip() -> [IpAddr; 2] {
    ["10.96.0.1", "fd00:96::1"].map(|address| address.parse().unwrap())
}

/// One block for each family.
fn blocks(prefixes: [&str; 2]) -> Value {
    prefixes.map(|cidr| json!({"ipBlock": {"cidr": cidr}})).into()
}

#[test]
fn case_3_a_port_name_that_is_8080_in_one_pod_and_9090_in_another_lets_each_be_reached_at_its_own() {
    policed(2, |lab| {
        add_pod(lab, 0, "client", &app("client"), &port_called("http", 70))?;
        add_pod(lab, 1, "a", &app("a"), &port_called("http", 8080))?;
        add_pod(lab, 0, "b", &app("b"), &port_called("http", 9090))?;
        let mut answerers = Answerers::pods(lab)?;
        let rule =
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}]});
        put(lab, "client", &of("client", &rule))?;
        let expected = [
            ("client", "a", "TCP/8080", true),
            ("client", "a", "TCP/9090", false),
            ("client", "a", "TCP/70", false),
            ("client", "a", "UDP/8080", false),
            ("client", "b", "TCP/9090", true),
            ("client", "b", "TCP/8080", false),
            ("client", "b", "SCTP/9090", false),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)
    });
}

#[test]
fn case_4_client_and_server_declare_the_name_with_different_numbers_and_the_servers_counts() {
    policed(2, |lab| {
        add_pod(lab, 0, "server", &app("server"), &port_called("http", 8080))?;
        add_pod(lab, 0, "near", &app("client"), &port_called("http", 9090))?;
        add_pod(lab, 1, "far", &app("client"), &port_called("http", 9090))?;
        let mut answerers = Answerers::pods(lab)?;
        let rule = json!({"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}]});
        put(lab, "server", &of("server", &rule))?;
        let expected = [
            ("near", "server", "TCP/8080", true),
            ("near", "server", "TCP/9090", false),
            ("far", "server", "TCP/8080", true),
            ("far", "server", "TCP/9090", false),
            ("far", "server", "UDP/8080", false),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)
    });
}

#[test]
fn case_5_egress_by_a_named_port_without_to_is_each_pods_own_number_and_nothing_outside_the_cluster() {
    policed(2, |lab| {
        add_pod(lab, 0, "client", &app("client"), &json!({}))?;
        add_pod(lab, 1, "a", &app("a"), &port_called("http", 8080))?;
        add_pod(lab, 0, "b", &app("b"), &port_called("http", 9090))?;
        let (outside, far) = (lab.outside.clone(), lab.nodes[1].host.clone());
        let mut answerers = Answerers::pods(lab)?.and(&outside, 8080)?.and(&far, 9090)?;
        answerers.now(lab, &[("client", "outside", "TCP/8080", true), ("client", "node-2", "TCP/9090", true)])?;
        let rule = json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]});
        put(lab, "client", &of("client", &rule))?;
        let expected = [
            ("client", "a", "TCP/8080", true),
            ("client", "a", "TCP/9090", false),
            ("client", "b", "TCP/9090", true),
            ("client", "b", "TCP/8080", false),
            ("client", "outside", "TCP/8080", false),
            ("client", "node-2", "TCP/9090", false),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)
    });
}

#[test]
fn case_6_a_pod_in_an_exception_passes_by_the_selector_of_another_rule_in_both_directions_and_either_order() {
    policed(2, |lab| {
        for (node, name, app_of_it) in
            [(0, "web", "web"), (1, "friend", "friend"), (0, "a/near", "near"), (1, "a/far", "far")]
        {
            add_pod(lab, node, name, &app(app_of_it), &json!({}))?;
        }
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {"is": "own"}}});
        write(lab, "namespace.json", &namespace.to_string())?;
        let mut answerers = Answerers::pods(lab)?;
        let except = [("10.0.0.0/8", "10.244.2.0/24"), ("fd00::/8", "fd00:10:244:2::/64")];
        let excepting: Value =
            except.iter().map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": [except]}})).collect();
        let selecting = json!([{"namespaceSelector": {"matchLabels": {"is": "own"}}}]);
        for [one, other] in [[&excepting, &selecting], [&selecting, &excepting]] {
            let rules = json!({
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": one}, {"from": other}], "egress": [{"to": one}, {"to": other}],
            });
            put(lab, "web", &of("web", &rules))?;
            let expected = [
                ("friend", "web", "TCP/80", true),
                ("web", "friend", "TCP/80", true),
                // In the block, and not in its exception.
                ("near", "web", "UDP/80", true),
                ("web", "near", "UDP/80", true),
                // In its exception, and not in the namespace.
                ("far", "web", "TCP/80", false),
                ("web", "far", "TCP/80", false),
            ];
            answerers.soon(lab, &expected)?;
            answerers.now(lab, &expected)?;
            put(lab, "web", &of("web", &json!({"policyTypes": ["Ingress", "Egress"]})))?;
            answerers.soon(lab, &[("friend", "web", "TCP/80", false), ("web", "near", "TCP/80", false)])?;
        }
        Ok(())
    });
}

/// A Service with a port of the first node: that of a pod there.
fn node_port(lab: &Lab, mode: Mode, masqueraded: bool) -> Outcome {
    let mut ports = Vec::new();
    for like in FAMILIES {
        let own: SocketAddr = (underlay_address(1, like), 30_080).into();
        let endpoint = (address(lab, "web", like)?, 8080).into();
        let port = |protocol| ServicePort { masqueraded, ..ServicePort::new(protocol, own, endpoint) };
        ports.extend(["TCP", "UDP"].map(port));
    }
    translate(&lab.nodes[0].host, mode, &ports)
}

#[test]
fn case_14_a_block_of_an_outside_client_lets_it_in_by_a_node_port_and_that_of_a_node_over_the_overlay_too() {
    for mode in [Mode::Nftables, Mode::Iptables] {
        policed(2, |lab| {
            add_pod(lab, 0, "web", &app("web"), &json!({}))?;
            let mut answerers = Answerers::pods(lab)?;
            answerers.service("node-port", FAMILIES.map(|like| underlay_address(1, like)), "web");
            let client =
                FAMILIES.map(|like| outside_address(like).to_string() + if like.is_ipv4() { "/32" } else { "/128" });
            let client = blocks([&client[0], &client[1]]);
            let node = blocks(["192.168.50.2/32", "fd00:192:168:50::2/128"]);
            // With the policies Local and Cluster: the latter masquerades.
            for masqueraded in [false, true] {
                node_port(lab, mode, masqueraded)?;
                for (from, outside, second) in [(&client, true, false), (&node, false, true)] {
                    put(lab, "web", &of("web", &json!({"ingress": [{"from": from}]})))?;
                    let expected = [
                        ("outside", "node-port", "TCP/30080", outside),
                        ("outside", "node-port", "UDP/30080", outside),
                        ("node-2", "node-port", "TCP/30080", second),
                        // Over the overlay, from the node's address there.
                        ("node-2", "web", "TCP/8080", second),
                        ("node-2", "web", "UDP/8080", second),
                    ];
                    answerers.soon(lab, &expected)?;
                    answerers.now(lab, &expected)?;
                }
            }
            Ok(())
        });
    }
}

#[test]
fn case_15_egress_behind_a_service_is_judged_by_the_endpoint_and_its_port() {
    for mode in [Mode::Nftables, Mode::Iptables] {
        policed(2, |lab| {
            add_pod(lab, 0, "client", &app("client"), &json!({}))?;
            add_pod(lab, 1, "far", &app("server"), &json!({}))?;
            add_pod(lab, 0, "near", &app("server"), &json!({}))?;
            let mut answerers = Answerers::pods(lab)?;
            let (port_of_service, of_endpoint) = (json!([{"port": 80}]), json!([{"port": 8080}]));
            let servers = json!([{"podSelector": {"matchLabels": {"app": "server"}}}]);
            let rules = [
                (json!({"ports": port_of_service}), false),
                (json!({"to": blocks(["10.96.0.0/12", "fd00:96::/112"])}), false),
                (json!({"to": servers, "ports": of_endpoint}), true),
            ];
            for endpoint in ["far", "near"] {
                let mut ports = Vec::new();
                for (like, own) in FAMILIES.into_iter().zip(cluster_ip()) {
                    ports.push(ServicePort::new("TCP", (own, 80).into(), (address(lab, endpoint, like)?, 8080).into()));
                }
                translate(&lab.nodes[0].host, mode, &ports)?;
                answerers.service("service", cluster_ip(), endpoint);
                for (rule, passes) in &rules {
                    put(lab, "client", &of("client", &json!({"policyTypes": ["Egress"], "egress": [rule]})))?;
                    let by_80 = rule["ports"] == port_of_service;
                    let expected = [
                        ("client", "service", "TCP/80", *passes),
                        ("client", endpoint, "TCP/80", by_80),
                        ("client", endpoint, "TCP/8080", *passes),
                    ];
                    answerers.soon(lab, &expected)?;
                    answerers.now(lab, &expected)?;
                }
            }
            Ok(())
        });
    }
}
