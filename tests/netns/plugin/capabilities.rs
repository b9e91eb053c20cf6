//! What a runtime requests for one pod: host ports, bandwidth, masquerade, addresses of its choice; by the plugin alone, with
//! no daemon on the host.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use podwire_tests::lab::exchange::{PORT, Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, field, json as look, same, scene, state};
use podwire_tests::lab::{SOON, eventually, outside_address, wire};
use serde_json::{Value, json};

/// A configuration without a daemon, with requests for the pod that is attached.
fn configuration(requests: &Value) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "podwire",
        "ipam": {
            "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
        "runtimeConfig": requests,
    })
}

fn port(host_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": PORT, "protocol": "tcp"})
}

/// A pod with its namespace's path.
fn pod(host: &Host, name: &str) -> Outcome<(Host, PathBuf)> {
    let (pod, path) = host.pod(name)?;
    wire::set_up(&pod, "lo")?;
    Ok((pod, path))
}

fn refusal(answer: &Answer) -> Outcome<(u64, String)> {
    let error: Value = serde_json::from_str(&answer.output).map_err(|error| format!("{error}: {answer:?}"))?;
    Ok((error["code"].as_u64().unwrap_or_default(), error["msg"].as_str().unwrap_or_default().to_owned()))
}

/// The pod's addresses, IPv4 first.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let addresses = field(&result["ips"], "address");
    addresses.iter().filter_map(|text| text.split('/').next()?.parse().ok()).collect()
}

/// The elements that the table has: what differs from pod to pod.
fn elements(host: &Host) -> Outcome<Vec<String>> {
    let table = look(host, "nft", &["-j", "list", "ruleset"])?;
    let sets = table["nftables"].as_array().into_iter().flatten();
    let of = |set: &Value, kind: &str| set[kind]["elem"].as_array().cloned().unwrap_or_default();
    Ok(sets.flat_map(|set| [of(set, "set"), of(set, "map")].concat()).map(|element| element.to_string()).collect())
}

#[test]
fn f4_b15_a_host_port_leads_to_the_pod_from_everywhere_until_del() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (inside, path) = pod(&host, "p1")?;
        let _responder = Responder::start(&inside)?;
        let add = Call::new("ADD", "p1", &path, &configuration(&json!({"portMappings": [port(PORT)]})));
        // What the first of all makes for all: forwarding, and the table.
        let warm =
            Call::new("ADD", "warm", &pod(&host, "warm")?.1, &configuration(&json!({"portMappings": [port(9)]})));
        warm.execute(&host)?.result()?;
        warm.with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
        let before = state(&host)?;
        let result = add.execute(&host)?.result()?;
        let own = addresses(&result);
        for (place, like) in FAMILIES.into_iter().enumerate() {
            let (node, outside) = (underlay_address(1, like), outside_address(like));
            let seen = exchange(&lab.outside, node)?.seen;
            check(seen == outside, || format!("from outside, the pod saw {seen}"))?;
            let seen = exchange(&host, node)?.seen;
            check(seen == node, || format!("from the node, the pod saw {seen}"))?;
            let seen = exchange(&inside, node)?.seen;
            check(seen == node, || format!("from the pod to itself, it saw {seen}"))?;
            exchange(&host, own[place])?;
        }
        let seen = exchange(&host, Ipv4Addr::LOCALHOST.into())?.seen;
        check(seen == underlay_address(1, seen), || format!("from 127.0.0.1, the pod saw {seen}"))?;
        let check_call = with_result(&add, "CHECK", &result);
        check_call.execute(&host)?.result()?;

        add.clone().with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
        same("the host after DEL", &before, &state(&host)?)?;
        check(exchange(&lab.outside, underlay_address(1, FAMILIES[0])).is_err(), || "the port still answers".into())?;
        let held = host.enter(|| std::fs::read_dir("/run/podwire/.ports").unwrap().count());
        check(held == 1, || format!("{held} files beside the ports' lock"))
    });
}

/// The call with a verb and the result that ADD gave.
fn with_result(add: &Call, verb: &str, result: &Value) -> Call {
    let mut call = add.clone().with("CNI_COMMAND", verb);
    let mut input: Value = serde_json::from_str(&call.input).unwrap();
    input["prevResult"] = result.clone();
    call.input = input.to_string();
    call
}

#[test]
fn a_host_port_leads_to_the_pods_first_address_of_a_family() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (inside, path) = pod(&host, "p1")?;
        let _responder = Responder::start(&inside)?;
        let mut two = configuration(&json!({"portMappings": [port(PORT)]}));
        two["ipam"]["ranges"] = json!([[{"subnet": "10.7.0.0/24"}], [{"subnet": "10.8.0.0/24"}]]);
        two["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        let add = Call::new("ADD", "p1", &path, &two);
        let result = add.execute(&host)?.result()?;
        exchange(&lab.outside, underlay_address(1, FAMILIES[0]))?;
        let elements = elements(&host)?;
        check(!elements.is_empty() && elements.iter().all(|element| !element.contains("10.8.0.2")), || {
            format!("{elements:?}")
        })?;
        with_result(&add, "CHECK", &result).execute(&host)?.result()?;
        add.with("CNI_COMMAND", "DEL").execute(&host)?.result().map(drop)
    });
}

#[test]
fn a_host_port_in_use_fails_by_name_and_changes_nothing() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let ports = |ports: Value| configuration(&json!({"portMappings": ports}));
        let first = Call::new("ADD", "p1", &pod(&host, "p1")?.1, &ports(json!([port(80)])));
        first.execute(&host)?.result()?;
        let (inside, path) = pod(&host, "p2")?;
        let before = (state(&host)?, state(&inside)?);
        let specific = json!([port(81), {"hostPort": 80, "containerPort": 8, "hostIP": "192.168.50.1"}]);
        let second = Call::new("ADD", "p2", &path, &ports(specific));
        let (code, message) = refusal(&second.execute(&host)?)?;
        check(
            code == 105 && message == "host port 80/tcp on every address is taken by container p1 of network net",
            || format!("{code} {message}"),
        )?;
        same("the host", &before.0, &state(&host)?)?;
        same("the pod", &before.1, &state(&inside)?)?;
        // A dead pod holds nothing: its namespace ended without a DEL.
        let names = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        let outer = names.into_iter().find(|name| name.starts_with("pw")).unwrap_or_default();
        host.run("ip", &["link", "delete", &outer])?;
        second.execute(&host)?.result()?;
        let elements = elements(&host)?;
        check(elements.len() == 5 && elements.iter().all(|element| !element.contains("10.7.0.2")), || {
            format!("{elements:?}")
        })
    });
}

#[test]
fn b17_a_flushed_firewall_is_restored_for_every_pod() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mut masquerading = configuration(&json!({}));
        masquerading["ipMasq"] = true.into();
        masquerading["name"] = "other".into();
        masquerading["ipam"]["ranges"] = json!([[{"subnet": "10.8.0.0/24"}], [{"subnet": "fd00:8::/64"}]]);
        let adds = [
            Call::new("ADD", "p1", &pod(&host, "p1")?.1, &configuration(&json!({"portMappings": [port(80)]}))),
            Call::new("ADD", "p2", &pod(&host, "p2")?.1, &masquerading),
        ];
        let results = [adds[0].execute(&host)?.result()?, adds[1].execute(&host)?.result()?];
        let whole = elements(&host)?;
        check(whole.len() == 6, || format!("{whole:?}"))?;
        host.run("nft", &["flush", "ruleset"])?;
        for (add, result) in adds.iter().zip(&results) {
            let (code, message) = refusal(&with_result(add, "CHECK", result).execute(&host)?)?;
            check(code == 106 && message.contains("table inet podwire"), || format!("{code} {message}"))?;
        }
        let third = Call::new("ADD", "p3", &pod(&host, "p3")?.1, &configuration(&json!({"portMappings": [port(81)]})));
        third.execute(&host)?.result()?;
        third.with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
        let mut after = elements(&host)?;
        after.sort();
        let mut whole = whole;
        whole.sort();
        check(after == whole, || format!("before {whole:?}, after {after:?}"))?;
        for (add, result) in adds.iter().zip(&results) {
            with_result(add, "CHECK", result).execute(&host)?.result()?;
            add.clone().with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
        }
        check(elements(&host)?.is_empty(), || "elements are left".into())
    });
}

#[test]
fn f8_b16_only_traffic_that_leaves_the_network_is_masqueraded() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mut masquerading = configuration(&json!({}));
        masquerading["ipMasq"] = true.into();
        let mut pods = Vec::new();
        for (name, configuration) in [("p1", &masquerading), ("p2", &masquerading)] {
            let (inside, path) = pod(&host, name)?;
            let result = Call::new("ADD", name, &path, configuration).execute(&host)?.result()?;
            pods.push((Responder::start(&inside)?, inside, addresses(&result)));
        }
        let _outside = Responder::start(&lab.outside)?;
        let [(_, first, from), (_, _, to)] = &pods[..] else { return Err("two pods".into()) };
        for (place, like) in FAMILIES.into_iter().enumerate() {
            let seen = exchange(first, to[place])?.seen;
            check(seen == from[place], || format!("another pod saw {seen}"))?;
            let seen = exchange(first, outside_address(like))?.seen;
            check(seen == underlay_address(1, like), || format!("the outside saw {seen}"))?;
        }
        Ok(())
    });
}

#[test]
fn f7_h7_a_pod_is_shaped_as_requested_and_check_reports_when_it_is_not() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let qdiscs = || look(&host, "tc", &["-j", "qdisc", "show"]);
        let before = (qdiscs()?, field(&look(&host, "ip", &["-j", "link"])?, "ifname"));
        let limits = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 34_359_738_359_u64});
        let add = Call::new("ADD", "p1", &pod(&host, "p1")?.1, &configuration(&json!({"bandwidth": limits})));
        let result = add.execute(&host)?.result()?;
        let names = field(&result["interfaces"], "name");
        check(names.len() == 3 && names[2].starts_with("ps"), || format!("{names:?}"))?;
        let found = qdiscs()?;
        let tbf: Vec<_> = found.as_array().into_iter().flatten().filter(|qdisc| qdisc["kind"] == "tbf").collect();
        let rates: std::collections::BTreeMap<_, _> =
            tbf.iter().map(|qdisc| (qdisc["dev"].to_string(), qdisc["options"]["rate"].to_string())).collect();
        let expected =
            [(format!("{:?}", names[0]), "1000000".to_owned()), (format!("{:?}", names[2]), "500000".to_owned())];
        check(rates == expected.into(), || format!("{rates:?} of {found}"))?;
        let call = with_result(&add, "CHECK", &result);
        call.execute(&host)?.result()?;
        host.run(
            "tc",
            &["qdisc", "replace", "dev", &names[0], "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "25ms"],
        )?;
        let (code, message) = refusal(&call.execute(&host)?)?;
        check(code == 106 && message.starts_with("bandwidth towards the pod"), || format!("{code} {message}"))?;
        add.clone().with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
        check((qdiscs()?, field(&look(&host, "ip", &["-j", "link"])?, "ifname")) == before, || {
            "something is left".into()
        })
    });
}

#[test]
fn i7_a10_a11_addresses_are_those_that_the_runtime_requests() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (inside, path) = pod(&host, "p1")?;
        let requests = json!({"ips": ["10.7.0.77", "fd00:7::77/64"], "mac": "02:00:00:00:00:77"});
        let add = Call::new("ADD", "p1", &path, &configuration(&requests));
        let result = add.execute(&host)?.result()?;
        let given = field(&result["ips"], "address");
        check(given == ["10.7.0.77/32", "fd00:7::77/128"], || format!("{given:?}"))?;
        let link = &look(&inside, "ip", &["-j", "link", "show", "eth0"])?[0];
        check(link["address"] == "02:00:00:00:00:77" && result["interfaces"][1]["mac"] == link["address"], || {
            link.to_string()
        })?;
        let _responder = Responder::start(&inside)?;
        for address in addresses(&result) {
            exchange(&host, address)?;
        }
        let (code, message) =
            refusal(&Call::new("ADD", "p2", &pod(&host, "p2")?.1, &configuration(&requests)).execute(&host)?)?;
        check(code == 104 && message.contains("10.7.0.77: it is held by container p1"), || {
            format!("{code} {message}")
        })?;
        let arguments = Call::new("ADD", "p3", &pod(&host, "p3")?.1, &configuration(&json!({})));
        let result = arguments.with("CNI_ARGS", "IP=10.7.0.78/24;MAC=02:00:00:00:00:78").execute(&host)?.result()?;
        check(result["ips"][0]["address"] == "10.7.0.78/32", || result.to_string())?;
        check(result["interfaces"][1]["mac"] == "02:00:00:00:00:78", || result.to_string())
    });
}

#[test]
fn f5_d21_datagrams_go_to_the_new_owner_of_a_port() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let node = underlay_address(1, FAMILIES[0]);
        let requests = json!({"portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "UDP"}]});
        let open = |at: &Host, port: u16| {
            let bind = || std::net::UdpSocket::bind(("0.0.0.0", port));
            at.enter(bind).map_err(|error| format!("udp of {}: {error}", at.name))
        };
        // One socket all the time: the kernel remembers where its datagrams went.
        let client = open(&lab.outside, 0)?;
        for name in ["p1", "p2"] {
            let (inside, path) = pod(&host, name)?;
            let server = open(&inside, 53)?;
            server.set_nonblocking(true).map_err(|error| error.to_string())?;
            let add = Call::new("ADD", name, &path, &configuration(&requests));
            add.execute(&host)?.result()?;
            eventually(SOON, || {
                client.send_to(name.as_bytes(), (node, 5353)).map_err(|error| error.to_string())?;
                let mut buffer = [0; 16];
                let (length, _) = server.recv_from(&mut buffer).map_err(|error| format!("{name}: {error}"))?;
                check(&buffer[..length] == name.as_bytes(), || format!("{name} received {buffer:?}"))
            })?;
            add.with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
            // To nobody: whatever is remembered of this is of no use to the next one.
            client.send_to(b"nobody", (node, 5353)).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
}
