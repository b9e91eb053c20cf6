//! Pods whose place on the host somebody has broken: the daemon puts it back out of the plugin's ledger, and never gets in
//! the way of the plugin.

use std::fs::File;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{self, Content, Entries, Field, Set, Type};
use podwire_kernel::{Socket, link, neighbour, route};
use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{Outcome, check, cluster, json, reaches, same, scene, state};
use podwire_tests::lab::{SOON, daemon, eventually};
use serde_json::{Value, json as value};

use super::glance::Contention;
use super::host_ports::{HOST_PORT, translated, with_port};
use crate::overlay::firewall::by_chain;

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
        // A full sync after all that: what it has to do is logged before this.
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

/// How long the daemon may take from a notification to the repair, on a machine that has nothing else to do.
const PROMPT: Duration = Duration::from_millis(50);

/// The part of a core that full syncs may take in the long run, one in so many, and the longest rest for it
/// (`reconcile::backoff`). A damage in this rest waits for its end, and so says nothing of how prompt a repair is.
const SHARE: f64 = 10.0;
const LONGEST_REST: f64 = 10.0;

/// Waits until the daemon owes no rest for the syncs that it has made since it had made `since` of them; their number now.
fn rested(host: &Host, since: u64) -> Outcome<u64> {
    eventually(SOON, || {
        let now = daemon::json(host, &["status", "--json"])?["daemon"].clone();
        let passes = now["passes"].as_u64().ok_or_else(|| now.to_string())?;
        let number = |key: &str| now[key].as_f64().ok_or_else(|| format!("no {key}: {now}"));
        let spent = number("last_pass_seconds")? * f64::from(u32::try_from(passes - since).unwrap_or(u32::MAX));
        let (age, owed) = (number("last_pass_age_seconds")?, (spent * SHARE).min(LONGEST_REST));
        check(age >= owed, || format!("the daemon has rested {age} s of {owed}")).map(|()| passes)
    })
}

/// That somebody's work on a host is undone in time, at best of some times. Other programs run on the machine too: the limit is
/// as many times longer as whoever looks has to wait for a processor in the same moment. `passes` are the syncs that the daemon
/// had made before.
fn promptly(host: &Host, passes: &mut u64, broken: &[&str], is_whole: impl Fn() -> Outcome + Sync) -> Outcome {
    let mut slow = Vec::new();
    for _ in 0..10 {
        *passes = rested(host, *passes)?;
        host.run(broken[0], &broken[1..])?;
        let start = Instant::now();
        let repaired = host.enter(|| -> Outcome<f64> {
            let contention = Contention::begin()?;
            // Without a pause: who sleeps does not feel how busy the machine is.
            while let Err(why) = is_whole() {
                check(start.elapsed() < SOON, || why)?;
            }
            contention.factor()
        });
        let factor = repaired.map_err(|why| format!("after {broken:?}: {why}"))?;
        let (took, limit) = (start.elapsed(), PROMPT.mul_f64(factor));
        if took < limit {
            return Ok(());
        }
        slow.push((took, limit));
    }
    Err(format!("after {broken:?} it never was in time: {slow:?}"))
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
        let mut passes = 0;
        let route = |address: IpAddr| {
            let way = route::lookup(&mut Socket::route().unwrap(), address).map_err(|error| error.to_string())?;
            let routed = way.is_some_and(|way| way.destination == family::host(address));
            check(routed, || format!("there is no route to {address}"))
        };
        promptly(&host, &mut passes, &["ip", "route", "delete", &address.to_string()], || route(address))?;
        let device = way_of(&host, address)?;
        promptly(&host, &mut passes, &["ip", "link", "set", &device, "down"], || route(address))?;
        promptly(&host, &mut passes, &["ip", "neighbour", "flush", "dev", &device, "nud", "permanent"], || {
            let index = link::by_name(&mut Socket::route().unwrap(), &device).unwrap().unwrap().index;
            let found = neighbour::list(&mut Socket::route().unwrap(), index).map_err(|error| error.to_string())?;
            check(found.len() == 2, || format!("its neighbours are {found:?}"))
        })?;
        let set = |name: &str, key: &[Type], content| Set { name: name.into(), key: key.to_vec(), content };
        let version = Type::Address(IpVersion::V4);
        let peers = set("overlay-peers4", &[version], Content::Nothing);
        let has_peers = || {
            let peers = Entries::keys(peers.clone(), std::iter::empty::<[Field; 1]>());
            let entries = nft::entries(&mut Socket::netfilter().unwrap(), "podwire", &peers);
            let found = entries.map_err(|error| error.to_string())?.len();
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
        promptly(&host, &mut passes, &["nft", "flush set inet podwire overlay-peers4"], has_peers)?;
        promptly(&host, &mut passes, &["nft", "flush map inet podwire hostports4"], has_ports)?;
        promptly(&host, &mut passes, &["nft", "flush ruleset"], || has_peers().and_then(|()| has_ports()))?;
        eventually(SOON, || same("the node", &by_chain(&whole), &by_chain(&state(&host)?)))
    });
}

/// The device that an address is routed to.
fn way_of(host: &Host, address: IpAddr) -> Outcome<String> {
    let route = json(host, "ip", &["-j", "route", "get", &address.to_string()])?;
    Ok(route[0]["dev"].as_str().unwrap_or_default().to_owned())
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
        daemon.wait_for("File exists (17): it is foreign and is not replaced: the pod is cut off", SOON)?;
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
