//! Nodes that come, change and go by the API.

use std::net::IpAddr;

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::membership::{pod_cidrs, underlay};
use podwire_tests::lab::scene::{FAMILIES, check, reaches, same, state};
use podwire_tests::lab::{SOON, eventually};
use serde_json::json;

use crate::api::NODES;
use crate::stage::{STATE, arrive, cluster, kubernetes, node, node_with, start};

#[test]
fn nodes_of_the_api_become_routes_and_their_pods_reach_one_another() {
    cluster(2, |lab, api| {
        lab.nodes[0].add_pod("one")?;
        lab.nodes[1].add_pod("two")?;
        let (one, two) = (lab.nodes[0].pod("one"), lab.nodes[1].pod("two"));
        let _responder = Responder::start(&two.host)?;
        FAMILIES.into_iter().try_for_each(|like| reaches(&one.host, one.address(like), two.address(like)))?;
        for number in [3, 4] {
            api.create(NODES, &node(number))?;
        }
        lab.nodes.iter().zip([[2, 3, 4], [1, 3, 4]]).try_for_each(|(node, peers)| arrive(node, &peers))?;
        api.delete(&format!("{NODES}/node-3"))?;
        lab.nodes.iter().zip([[2, 4], [1, 4]]).try_for_each(|(node, peers)| arrive(node, &peers))?;
        // The stage's account may read, and nothing else.
        let token = api.token()?;
        let (code, _) = api.request("GET", NODES, &token, None)?;
        check(code == 200, || format!("the daemons' account cannot read nodes: {code}"))?;
        for (method, path) in [("DELETE", "/api/v1/nodes/node-4"), ("GET", "/api/v1/pods"), ("GET", "/api/v1/secrets")]
        {
            let (code, _) = api.request(method, path, &token, None)?;
            check(code == 403, || format!("{method} {path} by the daemons' account: {code}"))?;
        }
        // A start on a healthy node changes nothing, although the cached nodes are older than what the kernel has.
        let before = state(&lab.nodes[0].host)?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        let alone = json!({"name": "node-1", "address": "192.168.50.1", "pod_cidrs": ["10.244.1.0/24"]});
        let older = json!({"cluster_cidrs": ["10.244.0.0/16"], "node": [alone]});
        lab.nodes[0].host.run("sh", &["-c", &format!("printf %s '{older}' > {STATE}/membership.json")])?;
        start(&mut lab.nodes[0])?;
        lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for("node list synced from the Kubernetes API", SOON)?;
        same("the node after a start", &before, &state(&lab.nodes[0].host)?)?;
        let said = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.said();
        let changes: Vec<_> =
            said.iter().filter(|line| [" add ", " set ", "remove "].iter().any(|verb| line.contains(verb))).collect();
        check(changes.is_empty(), || format!("it changed {changes:?}"))
    });
}

#[test]
fn a_node_that_changes_its_address_keeps_its_nexthop() {
    cluster(1, |lab, api| {
        api.create(NODES, &node(2))?;
        arrive(&lab.nodes[0], &[2])?;
        let host = lab.nodes[0].host.clone();
        let id = host.run("ip", &["nexthop"])?.split(' ').nth(1).map(str::to_owned).ok_or("no nexthop")?;
        let addresses = json!([{"type": "InternalIP", "address": "192.168.50.22"}]);
        api.patch(&format!("{NODES}/node-2/status"), &json!({"status": {"addresses": addresses}}))?;
        eventually(SOON, || {
            let nexthops = host.run("ip", &["nexthop"])?;
            check(nexthops.contains(&format!("id {id} ")) && nexthops.contains("dst 192.168.50.22 "), || nexthops)
        })
    });
}

#[test]
fn a_recreated_node_of_the_same_name_leaves_nothing_of_the_old_one() {
    cluster(1, |lab, api| {
        let again = |number| node_with("again", &[underlay(number)[0].ip()], &pod_cidrs(number));
        api.create(NODES, &again(3))?;
        arrive(&lab.nodes[0], &[3])?;
        // Made again while the daemon looks, and while none runs.
        api.delete(&format!("{NODES}/again"))?;
        api.create(NODES, &again(4))?;
        arrive(&lab.nodes[0], &[4])?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        api.delete(&format!("{NODES}/again"))?;
        api.create(NODES, &again(5))?;
        start(&mut lab.nodes[0])?;
        arrive(&lab.nodes[0], &[5])?;
        let host = &lab.nodes[0].host;
        let nexthops = host.run("ip", &["nexthop"])?;
        check(nexthops.lines().count() == 1 && nexthops.contains("dst 192.168.50.5 "), || nexthops.clone())?;
        let neighbours = host.run("ip", &["neighbour", "show", "dev", "podwire.1", "nud", "permanent"])?;
        check(neighbours.lines().count() == 1, || format!("neighbours are left: {neighbours}"))
    });
}

#[test]
fn a_node_without_a_pod_cidr_joins_once_it_has_one_and_is_no_warning_before() {
    kubernetes(1, |lab, api| {
        let addresses = underlay(1).iter().map(ipnetwork::IpNetwork::ip).collect::<Vec<_>>();
        api.create(NODES, &node_with("node-1", &addresses, &[]))?;
        let none: [IpAddr; 0] = [];
        api.create(NODES, &node_with("node-2", &none, &pod_cidrs(2)))?;
        start(&mut lab.nodes[0])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("node node-1 has no pod CIDR in Kubernetes yet", SOON)?;
        api.patch(
            &format!("{NODES}/node-1"),
            &json!({"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": pod_cidrs(1)}}),
        )?;
        lab.nodes[0].wait_ready()?;
        arrive(&lab.nodes[0], &[])?;
        let addresses = json!([{"type": "InternalIP", "address": "192.168.50.2"}]);
        api.patch(&format!("{NODES}/node-2/status"), &json!({"status": {"addresses": addresses}}))?;
        arrive(&lab.nodes[0], &[2])?;
        let said = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.said();
        let warnings: Vec<_> = said.iter().filter(|line| line.contains("WARN")).collect();
        check(warnings.len() == 1, || format!("it warns: {warnings:?}"))
    });
}

#[test]
fn nodes_of_the_api_are_validated_and_of_two_in_conflict_the_older_one_is_used() {
    cluster(1, |lab, api| {
        let older = api.create(NODES, &node(3))?;
        arrive(&lab.nodes[0], &[3])?;
        // Its name comes first, and it came later. The API tells times by the second: who comes in the same one is not.
        eventually(SOON, || {
            let now = lab.outside.run("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?;
            let made = older["metadata"]["creationTimestamp"].as_str().ok_or_else(|| older.to_string())?;
            check(now.as_str() > made, || format!("it is still {now}"))
        })?;
        api.create(NODES, &node_with("a", &[underlay(7)[0].ip()], &pod_cidrs(3)))?;
        api.create(NODES, &node_with("b", &[underlay(1)[0].ip()], &pod_cidrs(8)))?;
        api.create(NODES, &node_with("c", &[[127, 0, 0, 1].into()], &pod_cidrs(9)))?;
        let outside = "10.99.0.0/24".parse().map_err(|error| format!("{error}"))?;
        api.create(NODES, &node_with("d", &[underlay(10)[0].ip()], &[outside]))?;
        api.create(NODES, &node(11))?;
        arrive(&lab.nodes[0], &[3, 11])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        for refused in ["node a: pod CIDR", "node b: address", "node c: address", "node d: pod CIDR"] {
            daemon.wait_for(refused, SOON)?;
        }
        Ok(())
    });
}
