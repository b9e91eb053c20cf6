//! A machine in a pod (KubeVirt's bridge, Kata): it has the pod's address and link-layer address, knows nothing of the
//! pod's neighbours, and asks for its gateways. The node answers for them, and for them only.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, field, json as look, reaches};
use podwire_tests::lab::{SOON, eventually};
use serde_json::Value;

use super::guards::refused;

const GATEWAYS: [&str; 2] = ["169.254.1.1", "fe80::1"];

fn ip(host: &Host, line: &str) -> Outcome {
    host.run("ip", &line.split(' ').collect::<Vec<_>>()).map(drop)
}

/// The device of a pod on the host, and its link-layer address.
fn host_device(node: &Node) -> Outcome<(String, String)> {
    let links = look(&node.host, "ip", &["-j", "link"])?;
    let found = links
        .as_array()
        .into_iter()
        .flatten()
        .find(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with("pw")));
    let text = |key: &str| found.and_then(|link| link[key].as_str()).unwrap_or_default().to_owned();
    Ok((text("ifname"), text("address")))
}

/// Puts a machine behind the pod's interface. The pod itself has no address any more.
fn move_in(node: &Node, pod: &str) -> Outcome<Host> {
    let (guest, path) = node.host.pod("guest")?;
    let pod = node.pod(pod);
    let links = look(&pod.host, "ip", &["-j", "link", "show", "eth0"])?;
    let mac = links[0]["address"].as_str().unwrap_or_default();
    ip(&pod.host, "link add k6t type bridge")?;
    ip(&pod.host, "link set k6t up")?;
    ip(&pod.host, &format!("link add tap0 type veth peer name ens3 netns {}", path.display()))?;
    ip(&pod.host, "address flush dev eth0")?;
    ip(&pod.host, "link set eth0 address 02:00:00:00:00:99")?;
    for device in ["eth0", "tap0"] {
        ip(&pod.host, &format!("link set {device} master k6t"))?;
        ip(&pod.host, &format!("link set {device} up"))?;
    }
    ip(&guest, "link set lo up")?;
    ip(&guest, &format!("link set ens3 address {mac} mtu 1450"))?;
    ip(&guest, "link set ens3 up")?;
    for (number, like) in FAMILIES.into_iter().enumerate() {
        let address = pod.address(like);
        // With duplicate address detection, as machines do it: nobody may answer for the pod's own address.
        ip(&guest, &format!("address add {address} dev ens3"))?;
        let (all, gateway) = (if like.is_ipv6() { "::/0" } else { "0.0.0.0/0" }, GATEWAYS[number]);
        ip(&guest, &format!("route add {all} via {gateway} dev ens3 onlink"))?;
    }
    eventually(SOON, || {
        let addresses = look(&guest, "ip", &["-j", "-6", "address", "show", "ens3"])?[0]["addr_info"].clone();
        let text = addresses.to_string();
        check(!text.contains("tentative") && !text.contains("dadfailed"), || text)
    })?;
    Ok(guest)
}

/// The link-layer address that a machine knows of a neighbour, if it was answered.
fn answered(guest: &Host, address: &str) -> Outcome<Option<String>> {
    let neighbours = look(guest, "ip", &["-j", "neighbour", "show", address])?;
    Ok(neighbours[0]["lladdr"].as_str().map(str::to_owned))
}

fn forgets(guest: &Host) -> Outcome {
    ip(guest, "-4 neighbour flush all")?;
    ip(guest, "-6 neighbour flush all")
}

/// A machine assures itself of a neighbour from its link-local address, without a word of another packet (RFC 4861, section 7.2.2
/// leaves the choice to it), and some ask so from the first.
fn asks_from_link_local(guest: &Host, mac: &str) -> Outcome {
    forgets(guest)?;
    // The device answers for its address, and drops the echo request itself.
    guest.run("sh", &["-c", "ping -c 1 -W 1 -I ens3 fe80::1 || true"])?;
    let found = answered(guest, "fe80::1")?;
    check(found.as_deref() == Some(mac), || format!("asked from a link-local address, fe80::1 is at {found:?}"))?;
    ip(guest, &format!("neighbour replace fe80::1 lladdr {mac} dev ens3 nud probe"))?;
    eventually(SOON, || {
        let neighbours = look(guest, "ip", &["-j", "neighbour", "show", "fe80::1"])?;
        let state = neighbours[0]["state"].to_string();
        check(state.contains("REACHABLE"), || format!("the guest's neighbour fe80::1 is {state}"))
    })
}

/// That programs of the node which listen at every address are not reached at the gateway, under neither of a guest's addresses.
fn nothing_of_the_node_is_at_its_gateway(node: &Node, guest: &Host, own: IpAddr) -> Outcome {
    const PORT: u16 = 7600;
    let listener = node.host.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)));
    let _listener = listener.map_err(|error| format!("listen on the node: {error}"))?;
    let to_node = underlay_address(1, own);
    let reached = guest.enter(|| TcpStream::connect_timeout(&(to_node, PORT).into(), SOON));
    reached.map_err(|error| format!("the guest to {to_node}: {error}"))?;
    let before = refused(&node.host, "pod-destinations")?;
    let gateway: Ipv6Addr = GATEWAYS[1].parse().unwrap();
    let reached = guest.enter(|| {
        let scope = if_nametoindex("ens3").unwrap_or(0);
        TcpStream::connect_timeout(&SocketAddrV6::new(gateway, PORT, 0, scope).into(), Duration::from_millis(300))
    });
    check(reached.is_err(), || "a program of the node is reached at fe80::1".into())?;
    for source in [own.to_string(), "ens3".into()] {
        let ping = format!("ping -c 1 -W 1 -I {source} fe80::1%ens3");
        check(guest.run("sh", &["-c", &ping]).is_err(), || format!("{ping} is answered"))?;
    }
    let dropped = refused(&node.host, "pod-destinations")? - before;
    check(dropped >= 3, || format!("{dropped} packets to the gateway were dropped"))
}

#[test]
fn a_machine_in_a_pod_is_answered_for_its_gateways_only() {
    cluster(2, |lab| {
        lab.nodes[0].add_pod("launcher")?;
        let far = lab.nodes[1].add_pod("far")?;
        let _far = Responder::start(&far.host)?;
        let (node, far) = (&lab.nodes[0], lab.nodes[1].pod("far"));
        let (device, mac) = host_device(node)?;
        let guest = move_in(node, "launcher")?;
        let addresses = FAMILIES.map(|like| (node.pod("launcher").address(like), far.address(like)));
        let talks = || -> Outcome {
            forgets(&guest)?;
            for ((own, to), gateway) in addresses.into_iter().zip(GATEWAYS) {
                reaches(&guest, own, to)?;
                let found = answered(&guest, gateway)?;
                check(found.as_ref() == Some(&mac), || format!("{gateway} is at {found:?}, not at {mac}"))?;
            }
            Ok(())
        };
        talks()?;
        asks_from_link_local(&guest, &mac)?;
        nothing_of_the_node_is_at_its_gateway(node, &guest, addresses.map(|(own, _)| own)[1])?;

        // Addresses of other pods, of nobody, of another link-local host, of the machine itself.
        for other in ["10.244.1.99", "10.244.2.2", "169.254.1.2", "fd00:10:244:1::99", "fe80::2", "192.0.2.1"] {
            if !other.starts_with("fe80") {
                ip(&guest, &format!("route add {other} dev ens3"))?;
            }
            let ping =
                format!("ping -c 1 -W 1 {other}{} || true", if other.starts_with("fe80") { "%ens3" } else { "" });
            guest.run("sh", &["-c", &ping])?;
            let found = answered(&guest, other)?;
            check(found.is_none(), || format!("the node answers for {other}: {found:?}"))?;
            if !other.starts_with("fe80") {
                ip(&guest, &format!("route del {other} dev ens3"))?;
            }
        }

        // Whatever is taken away comes back.
        for broken in [
            // The kernel does not notify of the first by itself.
            format!("ip neighbour del proxy 169.254.1.1 dev {device}; ip route del 169.254.1.1"),
            format!("ip -6 address flush dev {device}"),
            format!("ip link set {device} down"),
            "ip route del 169.254.1.1".to_owned(),
            format!("echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6"),
        ] {
            node.host.run("sh", &["-c", &broken])?;
            eventually(SOON, || {
                let proxies = field(&look(&node.host, "ip", &["-j", "neighbour", "show", "proxy"])?, "dst");
                check(proxies == GATEWAYS[..1], || format!("{proxies:?}"))?;
                talks()?;
                asks_from_link_local(&guest, &mac)
            })
            .map_err(|why| format!("after {broken}: {why}"))?;
        }
        Ok(())
    });
}

#[test]
fn check_reports_a_gateway_that_is_not_answered_for() {
    cluster(1, |lab| {
        let node = &mut lab.nodes[0];
        let (pod, netns) = node.host.pod("pod")?;
        ip(&pod, "link set lo up")?;
        let configuration = node.configuration()?;
        let add = Call::new("ADD", "pod", &netns, &configuration);
        let result = add.execute(&node.host)?.result()?;
        drop(node.daemon.take());
        let mut compared: Value = configuration;
        compared["prevResult"] = result;
        let checks = || add.clone().configured(&compared).verb("CHECK").execute(&node.host);
        checks()?.silent()?;
        let (device, _) = host_device(node)?;
        for (broken, why) in [
            (format!("ip neighbour del proxy 169.254.1.1 dev {device}"), "does not answer for 169.254.1.1"),
            (format!("ip address del fe80::1/128 dev {device}"), "does not answer for fe80::1"),
            (format!("echo 80 >/proc/sys/net/ipv4/neigh/{device}/proxy_delay"), "proxy_delay is not 0"),
        ] {
            node.host.run("sh", &["-c", &broken])?;
            let (code, message) = checks()?.failure()?;
            check(code == 106, || format!("{code} {message}"))?;
            let said = checks()?.output;
            check(said.contains(why), || format!("after {broken}: {said}"))?;
        }
        Ok(())
    });
}
