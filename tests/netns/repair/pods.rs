//! Pods whose place on the host somebody has broken: the daemon puts it back out of the plugin's ledger, and never gets in
//! the way of the plugin.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{self, Content, Set, Type};
use podwire_kernel::{Socket, conntrack, link, neighbour, route};
use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{Membership, underlay_address};
use podwire_tests::lab::node::Node;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, json, reaches, same, scene, state};
use podwire_tests::lab::{SOON, eventually};
use serde_json::{Value, json as value};

use crate::overlay::firewall::by_chain;
use crate::plugin::attachment::outer;

/// The port of the node.
const HOST_PORT: u16 = 8080;

/// A pod with a host port, made by hand: the call that makes it, and the name of its device on the host.
fn with_port(node: &Node, name: &str, port: u16) -> Outcome<(Host, Call, String)> {
    let mut configuration = node.configuration()?;
    let mappings = ["tcp", "udp"].map(|protocol| value!({"hostPort": port, "containerPort": 80, "protocol": protocol}));
    configuration["runtimeConfig"] = value!({"portMappings": mappings});
    let (host, netns) = node.host.pod(name)?;
    host.run("ip", &["link", "set", "lo", "up"])?;
    let call = Call::new("ADD", name, &netns, &configuration);
    let result = call.execute(&node.host)?.result()?;
    Ok((host, call, outer(&result)))
}

/// Answers one word on port 80 of a pod for as long as the world is.
fn serve(pod: &Host) -> Outcome {
    let listener = pod.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80))).map_err(|error| error.to_string())?;
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Who has asked and is gone does not want to know.
            let _ = stream.write_all(b"pod");
        }
    });
    Ok(())
}

/// That a port of a node is answered by the pod.
fn answers(from: &Host, node: IpAddr) -> Outcome {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&(node, HOST_PORT).into(), Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = from.enter(ask).map_err(|error| format!("from {} to {node}: {error}", from.name))?;
    check(answer == "pod", || format!("{node} answers {answer:?}"))
}

#[test]
fn host_ports_survive_every_flush() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (pod, _, _) = with_port(node, "pod", HOST_PORT)?;
        serve(&pod)?;
        let host = &node.host;
        let whole = by_chain(&state(host)?);
        for broken in [
            "flush ruleset",
            "delete table inet podwire",
            "flush table inet podwire",
            "flush chain inet podwire hostports",
            "delete element inet podwire hostports4 { tcp . 8080 }",
            "flush map inet podwire hostports6",
            "flush set inet podwire hairpin4",
            "delete element inet podwire hostports4 { udp . 8080 }; \
             add element inet podwire hostports4 { udp . 8080 : 10.244.1.77 . 80 }",
            "flush chain inet podwire loopback-guard; delete chain inet podwire loopback-guard",
            "insert rule inet podwire pod-postrouting accept",
        ] {
            host.run("nft", &[broken])?;
            eventually(SOON, || same("the node", &whole, &by_chain(&state(host)?)))
                .map_err(|why| format!("after {broken}: {why}"))?;
            for like in FAMILIES {
                answers(&lab.outside, underlay_address(1, like)).map_err(|why| format!("after {broken}: {why}"))?;
            }
        }
        Ok(())
    });
}

/// Everything in the plugin's sets, as `nft` lists it.
fn translated(host: &Host) -> Outcome<Vec<String>> {
    let list = host.run("nft", &["list", "table", "inet", "podwire"])?;
    Ok(list.lines().filter(|line| line.contains("comment \"pw")).map(|line| line.trim().to_owned()).collect())
}

#[test]
fn a_pod_that_ends_while_the_firewall_is_restored_gets_nothing_back() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let host = &node.host;
        let (stays, ..) = with_port(node, "stays", HOST_PORT)?;
        serve(&stays)?;
        let whole = translated(host)?;
        for round in 0..20 {
            let port = 9000 + round;
            let (_pod, call, _) = with_port(node, &format!("ends-{round}"), port)?;
            thread::scope(|scope| {
                let ends = scope.spawn(|| call.clone().verb("DEL").execute(host)?.result().map(drop));
                let flush = host.run("nft", &["flush", "ruleset"]).map(drop);
                flush.and(ends.join().map_err(|_| "DEL has panicked".to_owned())?)
            })?;
            eventually(SOON, || {
                let found = translated(host)?;
                check(found == whole, || format!("round {round}: {found:#?} instead of {whole:#?}"))
            })?;
        }
        answers(&lab.outside, underlay_address(1, FAMILIES[0]))
    });
}

#[test]
fn a_pod_whose_lock_is_held_is_left_to_the_holder() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let host = &node.host;
        let (_held, _, held) = with_port(node, "held", HOST_PORT)?;
        let (_free, _, free) = with_port(node, "free", 8081)?;
        let whole = by_chain(&state(host)?);
        let name = host.run("sh", &["-c", "cd /run/podwire/podwire/attachments && grep -l '\"held\"' *"])?;
        // As an ADD or a DEL has it.
        let path = format!("/run/podwire/podwire/turns/{name}");
        let lock = host.enter(|| {
            let file = File::create(&path).map_err(|error| error.to_string())?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.to_string())
        })?;
        let routes = |device: &str| host.run("ip", &["route", "show", "dev", device, "proto", "113"]);
        for device in [&held, &free] {
            host.run("ip", &["route", "flush", "dev", device, "proto", "113"])?;
        }
        host.run("nft", &["flush map inet podwire hostports4"])?;
        eventually(SOON, || {
            let list = host.run("nft", &["list", "map", "inet", "podwire", "hostports4"])?;
            check(list.contains(&free) && !routes(&free)?.is_empty(), || {
                format!("the free one is not repaired: {list}")
            })
        })?;
        state(host)?;
        let list = host.run("nft", &["list", "map", "inet", "podwire", "hostports4"])?;
        check(!list.contains(&held), || format!("the held one has got elements: {list}"))?;
        let route = routes(&held)?;
        check(route.is_empty(), || format!("the held one has got a route: {route}"))?;
        drop(lock);
        // Something that has nothing to do with it: the next look.
        host.run("ip", &["route", "add", "10.99.0.1", "dev", "eth0"])?;
        host.run("ip", &["route", "delete", "10.99.0.1", "dev", "eth0"])?;
        eventually(SOON, || same("the node", &whole, &by_chain(&state(host)?)))
    });
}

#[test]
fn the_daemon_and_the_plugin_do_not_fight_over_the_table() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (host, daemon) = (&node.host, node.daemon.as_ref().ok_or("no daemon")?);
        let count = || daemon.said().iter().filter(|line| line.contains("table inet")).count();
        let said = count();
        // Many at once, each with elements of its own, beside a firewall that nobody breaks.
        let outcomes = thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u16)
                .map(|number| {
                    scope.spawn(move || -> Outcome {
                        for round in 0..5 {
                            let name = format!("pod-{number}-{round}");
                            let (_pod, call, _) = with_port(node, &name, 9000 + number)?;
                            call.verb("DEL").execute(host)?.result()?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Outcome<Vec<()>>>()
        });
        outcomes?;
        check(translated(host)?.is_empty(), || "elements are left".into())?;
        // A pass after all that: what it has to do is said in the log before this.
        host.run("ip", &["link", "set", "podwire.1", "mtu", "1300"])?;
        daemon.wait_for("set the MTU", SOON)?;
        check(count() == said, || format!("it has meddled: {:#?}", daemon.said()))
    });
}

/// What breaks a pod: lines of a shell, `$device` being its end on the host, `$pod4` and `$pod6` its addresses.
const BREAKS: [&str; 16] = [
    "ip route delete $pod4",
    "ip -6 route delete $pod6",
    "ip route flush proto 113; ip -6 route flush proto 113",
    "ip route replace $pod4 dev eth0 proto 113",
    "ip neighbour delete $pod4 dev $device",
    "ip neighbour flush dev $device nud permanent",
    "ip neighbour replace $pod4 dev $device lladdr 02:00:00:00:00:99",
    "ip neighbour replace $pod6 dev $device lladdr 02:00:00:00:00:99 nud stale",
    "ip link set $device down",
    "ip link set $device down; ip link set $device up",
    "ip link set $device address 02:00:00:00:00:98",
    "echo 0 > /proc/sys/net/ipv4/conf/$device/rp_filter",
    "echo 0 > /proc/sys/net/ipv4/conf/$device/forwarding",
    "echo 0 > /proc/sys/net/ipv4/conf/all/forwarding",
    "echo 1 > /proc/sys/net/ipv6/conf/$device/disable_ipv6",
    "echo 1 > /proc/sys/net/ipv6/conf/$device/accept_ra; ip route delete $pod4",
];

/// The one pod's device on the host.
fn device(host: &Host) -> Outcome<String> {
    let links = json(host, "ip", &["-j", "link", "show", "type", "veth"])?;
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    names.filter(|name| name.starts_with("pw")).map(str::to_owned).next().ok_or(format!("no pod in {links}"))
}

/// Settings of a device, which `ip` does not list.
fn settings(host: &Host, device: &str) -> Outcome<Value> {
    let names = [
        "ipv4/DEVICE/rp_filter",
        "ipv4/DEVICE/forwarding",
        "ipv4/DEVICE/accept_redirects",
        "ipv4/DEVICE/route_localnet",
        "ipv6/DEVICE/disable_ipv6",
        "ipv6/DEVICE/accept_ra",
        "ipv6/DEVICE/accept_redirects",
    ];
    let paths = names.map(|name| format!("/proc/sys/net/{}", name.replace("DEVICE", &format!("conf/{device}"))));
    let found = host.run("cat", &paths.each_ref().map(String::as_str))?;
    Ok(found.lines().collect())
}

/// The node's permanent neighbours that are ours.
fn neighbours(looked: &Value) -> Value {
    let all = looked[0]["neighbours"].as_array().into_iter().flatten();
    all.filter(|neighbour| neighbour["dst"] != "10.99.0.1").cloned().collect()
}

#[test]
fn any_damage_to_a_pod_is_repaired_and_traffic_flows() {
    cluster(2, |lab| {
        let far = lab.nodes[1].add_pod("far")?;
        let far_addresses = far.addresses.clone();
        let _far = Responder::start(&far.host)?;
        let pod = lab.nodes[0].add_pod("pod")?;
        let (pod, addresses) = (pod.host.clone(), pod.addresses.clone());
        let _pod = Responder::start(&pod)?;
        let host = lab.nodes[0].host.clone();
        let device = device(&host)?;
        // A foreign one beside each of ours.
        for line in [
            format!("ip route add 10.99.0.1 dev {device} proto static"),
            format!("ip neighbour add 10.99.0.1 dev {device} lladdr 02:00:00:00:00:77"),
        ] {
            host.run("sh", &["-c", &line])?;
        }
        let look = || -> Outcome<Value> { Ok(value!([state(&host)?, settings(&host, &device)?, state(&pod)?])) };
        let whole = look()?;
        for broken in BREAKS {
            let script = format!("device={device} pod4={} pod6={}; {broken}", addresses[0], addresses[1]);
            host.run("sh", &["-c", &script]).map_err(|why| format!("{broken}: {why}"))?;
            // The kernel itself removes foreign objects with these; that is no business of ours.
            let foreign_too = ["down", "address 02", "neighbour flush"].iter().any(|word| broken.contains(word));
            if foreign_too {
                eventually(SOON, || same("ours", &neighbours(&whole), &neighbours(&look()?)))?;
                eventually(SOON, || {
                    let restore = format!(
                        "ip route replace 10.99.0.1 dev {device} proto static && \
                         ip neighbour replace 10.99.0.1 dev {device} lladdr 02:00:00:00:00:77"
                    );
                    host.run("sh", &["-c", &restore])
                })?;
            }
            eventually(SOON, || same("the pod", &whole, &look()?)).map_err(|why| format!("after {broken}: {why}"))?;
            for (own, other) in addresses.iter().zip(&far_addresses) {
                let reach = || {
                    reaches(&pod, *own, *other)?;
                    exchange(&host, *own).map(drop)
                };
                reach().map_err(|why| format!("after {broken}: {why}"))?;
            }
        }
        Ok(())
    });
}

/// How long the daemon may take from a notice to the repair.
const PROMPT: Duration = Duration::from_millis(50);

/// That somebody's work on a host is undone in time, at best of some times: other programs run on the machine too.
fn promptly(host: &Host, broken: &[&str], is_whole: impl Fn() -> Outcome + Sync) -> Outcome {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        // The node has come to rest: a first damage is repaired at once, one after the other more and more slowly.
        state(host)?;
        host.run(broken[0], &broken[1..])?;
        let start = Instant::now();
        let repaired = host.enter(|| eventually(SOON, &is_whole));
        repaired.map_err(|why| format!("after {broken:?}: {why}"))?;
        best = best.min(start.elapsed());
        if best < PROMPT {
            return Ok(());
        }
    }
    Err(format!("after {broken:?} it took {best:?} at best"))
}

#[test]
fn pods_and_firewall_are_repaired_within_50_ms_beside_a_hundred_peers() {
    scene(1, |lab| {
        let mut membership = Membership::of(1..=100);
        let numbered = |number: usize| format!("10.244.{number}.0/24").parse().unwrap();
        for (number, node) in membership.nodes.iter_mut().enumerate() {
            node.2[0] = numbered(number + 1);
        }
        lab.write(&membership)?;
        lab.start()?;
        let node = &mut lab.nodes[0];
        let (_pod, _, published) = with_port(node, "published", HOST_PORT)?;
        for number in 0..20 {
            node.add_pod(&format!("pod-{number}"))?;
        }
        let (host, address) = (node.host.clone(), node.pod("pod-17").addresses[0]);
        let whole = state(&host)?;
        let route = |address: IpAddr| {
            let way = route::lookup(&mut Socket::route().unwrap(), address).map_err(|error| error.to_string())?;
            let routed = way.is_some_and(|way| way.destination == family::host(address));
            check(routed, || format!("there is no route to {address}"))
        };
        promptly(&host, &["ip", "route", "delete", &address.to_string()], || route(address))?;
        let device = way_of(&host, address)?;
        promptly(&host, &["ip", "link", "set", &device, "down"], || route(address))?;
        promptly(&host, &["ip", "neighbour", "flush", "dev", &device, "nud", "permanent"], || {
            let index = link::by_name(&mut Socket::route().unwrap(), &device).unwrap().unwrap().index;
            let found = neighbour::list(&mut Socket::route().unwrap(), index).map_err(|error| error.to_string())?;
            check(found.len() == 2, || format!("its neighbours are {found:?}"))
        })?;
        let set = |name: &str, key: &[Type], content| Set { name: name.into(), key: key.to_vec(), content };
        let version = Type::Address(IpVersion::V4);
        let peers = set("overlay-peers4", &[version], Content::Nothing);
        let has_peers = || {
            let keys = nft::keys(&mut Socket::netfilter().unwrap(), "podwire", &peers);
            let found = keys.map_err(|error| error.to_string())?.len();
            check(found == 99, || format!("there are {found} peers"))
        };
        let ports = Content::Values(vec![version, Type::Port]);
        let ports = set("hostports4", &[Type::Protocol, Type::Port], ports);
        let has_ports = || {
            let found = nft::elements(&mut Socket::netfilter().unwrap(), "podwire", &ports);
            let found = found.map_err(|error| error.to_string())?;
            let ours = found.iter().filter(|element| element.owner.as_deref() == Some(&*published)).count();
            check(ours == 2, || format!("there are {found:?}"))
        };
        promptly(&host, &["nft", "flush set inet podwire overlay-peers4"], has_peers)?;
        promptly(&host, &["nft", "flush map inet podwire hostports4"], has_ports)?;
        promptly(&host, &["nft", "flush ruleset"], || has_peers().and_then(|()| has_ports()))?;
        eventually(SOON, || same("the node", &by_chain(&whole), &by_chain(&state(&host)?)))
    });
}

/// The device that an address is routed to.
fn way_of(host: &Host, address: IpAddr) -> Outcome<String> {
    let route = json(host, "ip", &["-j", "route", "get", &address.to_string()])?;
    Ok(route[0]["dev"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_pod_does_not_reach_the_nodes_loopback_services_after_a_flush_either() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (pod, ..) = with_port(node, "pod", HOST_PORT)?;
        let host = &node.host;
        let own = host.enter(|| UdpSocket::bind(("127.0.0.1", 5353))).map_err(|error| error.to_string())?;
        own.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
        let whole = by_chain(&state(host)?);
        host.run("nft", &["flush ruleset"])?;
        eventually(SOON, || same("the node", &whole, &by_chain(&state(host)?)))?;
        // By a route of its own making; what the node says itself is heard after that, and first.
        pod.run("ip", &["route", "add", "127.0.0.1", "via", "169.254.1.1", "dev", "eth0", "onlink", "table", "7"])?;
        pod.run("ip", &["rule", "add", "to", "127.0.0.1", "table", "7", "priority", "0"])?;
        pod.run("sh", &["-c", "ip rule delete table local priority 0; ip rule add table local priority 9"])?;
        pod.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"])?;
        let from = pod.enter(|| {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.send_to(b"pod", ("127.0.0.1", 5353))
        });
        from.map_err(|error| format!("the pod cannot even try: {error}"))?;
        host.enter(|| UdpSocket::bind(("127.0.0.1", 0))?.send_to(b"node", ("127.0.0.1", 5353)))
            .map_err(|error| error.to_string())?;
        let mut heard = [0; 16];
        let (length, _) = own.recv_from(&mut heard).map_err(|error| error.to_string())?;
        check(&heard[..length] == b"node", || "the pod was heard".into())
    });
}

#[test]
fn datagrams_follow_a_restored_host_port() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (pod, ..) = with_port(node, "pod", HOST_PORT)?;
        let heard = pod.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 80))).map_err(|error| error.to_string())?;
        heard.set_read_timeout(Some(Duration::from_millis(20))).map_err(|error| error.to_string())?;
        // Somebody who never stops: each datagram belongs to the flow of the one before.
        let client = lab.outside.enter(|| UdpSocket::bind(("0.0.0.0", 0))).map_err(|error| error.to_string())?;
        let to = (underlay_address(1, FAMILIES[0]), HOST_PORT);
        let arrives = || {
            eventually(SOON, || {
                client.send_to(b"?", to).map_err(|error| error.to_string())?;
                heard.recv_from(&mut [0; 16]).map(drop).map_err(|error| error.to_string())
            })
        };
        arrives()?;
        for round in 0..5 {
            node.host
                .run("nft", &["flush map inet podwire hostports4; flush map inet podwire hostports-by-address4"])?;
            // A flow that begins now has no translation, and would never have one.
            let filter = conntrack::Filter {
                version: IpVersion::V4,
                protocol: 17,
                destination: None,
                destination_port: Some(HOST_PORT),
                reply_source: None,
            };
            let forget = || conntrack::forget(&mut Socket::netfilter()?, &filter);
            node.host.enter(forget).map_err(|error| error.to_string())?;
            client.send_to(b"?", to).map_err(|error| error.to_string())?;
            arrives().map_err(|why| format!("round {round}: {why}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_pod_with_an_older_record_is_repaired_as_far_as_the_record_goes() {
    cluster(1, |lab| {
        let pod = lab.nodes[0].add_pod("pod")?;
        let (pod, addresses) = (pod.host.clone(), pod.addresses.clone());
        let _responder = Responder::start(&pod)?;
        let host = &lab.nodes[0].host;
        let forget = "sed -i 's/,\"mac\":\"[0-9a-f:]*\"//' /run/podwire/podwire/attachments/*";
        host.run("sh", &["-c", forget])?;
        let record = host.run("sh", &["-c", "cat /run/podwire/podwire/attachments/*"])?;
        check(!record.contains("\"mac\""), || record)?;
        host.run(
            "sh",
            &["-c", "for device in $(ls /sys/class/net | grep ^pw.............$); do ip link set $device down; done"],
        )?;
        for address in addresses {
            // The kernel asks for the link-layer address itself.
            eventually(SOON, || exchange(host, address).map(drop))?;
        }
        Ok(())
    });
}

#[test]
fn a_foreign_route_to_a_pods_address_is_reported_and_kept() {
    cluster(1, |lab| {
        let address = lab.nodes[0].add_pod("pod")?.addresses[0].to_string();
        let host = &lab.nodes[0].host;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        host.run("ip", &["route", "replace", &address, "dev", "eth0", "proto", "static"])?;
        daemon.wait_for("File exists (17): it is somebody else's, and is not replaced: the pod is cut off", SOON)?;
        let route = host.run("ip", &["route", "show", &address])?;
        check(route.contains("dev eth0 proto static"), || route)?;
        host.run("ip", &["route", "delete", &address])?;
        eventually(SOON, || {
            let route = host.run("ip", &["route", "show", &address])?;
            check(route.contains("proto 113"), || format!("the route is {route:?}"))
        })
    });
}

#[test]
fn a_pod_that_is_being_attached_or_detached_is_left_to_the_plugin() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (host, daemon) = (&node.host, node.daemon.as_ref().ok_or("no daemon")?);
        let before = state(host)?;
        let start = daemon.said().len();
        let outcomes = thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|number| {
                    scope.spawn(move || -> Outcome {
                        for round in 0..10 {
                            let name = format!("pod-{number}-{round}");
                            let (_, call, _) = with_port(node, &name, 9000 + number)?;
                            call.verb("DEL").execute(host)?.result()?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Outcome<Vec<()>>>()
        });
        outcomes?;
        let said: Vec<_> = daemon.said().split_off(start);
        check(said.is_empty(), || format!("it has said {said:#?}"))?;
        let without_table = |mut state: Value| {
            state["nftables"] = Value::Null;
            state
        };
        same("the node", &without_table(before), &without_table(state(host)?))
    });
}
