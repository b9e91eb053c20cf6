//! The plugin as a process: what an attachment is in the kernel, and that nothing is left of it.

use std::net::IpAddr;
use std::path::Path;

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::CONFLISTS;
use podwire_tests::lab::runtime::{Answer, Call, configuration};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, field, json as look, reaches, same, scene, state};
use serde_json::{Value, json};

use super::stage::{alone, bare, held};

/// The code and the message of a call that failed.
fn failure(answer: &Answer) -> Outcome<(u64, String)> {
    answer.failure()
}

#[test]
fn p1_p3_an_attachment_is_complete_on_both_sides() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        for end in [&host, &pod] {
            // What a device would have otherwise is not what it needs.
            let off = "cd /proc/sys/net && echo 1 > ipv6/conf/default/disable_ipv6 && echo 1 > ipv4/conf/all/accept_redirects";
            end.run("sh", &["-c", off])?;
        }
        // The node forwards already, so that nothing but the plugin's own message turns it on for the device.
        host.run("sh", &["-c", "cd /proc/sys/net/ipv4 && echo 1 > ip_forward && echo 0 > conf/default/forwarding"])?;
        let result = Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let outer = result["interfaces"][0]["name"].as_str().unwrap_or_default();

        let link = &look(&pod, "ip", &["-j", "link", "show", "eth0"])?[0];
        check(link["operstate"] == "UP" && link["mtu"] == 1400, || format!("in the pod: {link}"))?;
        check(link["address"] == result["interfaces"][1]["mac"], || format!("{link} and {result}"))?;
        let link = &look(&host, "ip", &["-j", "link", "show", outer])?[0];
        check(link["operstate"] == "UP" && link["ifalias"] == "net: default/p1", || format!("on the host: {link}"))?;
        check(link["address"] == result["interfaces"][0]["mac"], || format!("{link} and {result}"))?;

        let routes = look(&pod, "ip", &["-j", "route"])?;
        let expected = json!([
            {"dst": "default", "gateway": "169.254.1.1", "dev": "eth0", "flags": ["onlink"]},
            {"dst": "169.254.1.1", "dev": "eth0", "scope": "link", "flags": []},
        ]);
        same("the pod's IPv4 routes", &expected, &routes)?;
        let neighbours = look(&pod, "ip", &["-j", "neighbour"])?;
        let mut gateways = field(&neighbours, "dst");
        gateways.sort();
        check(gateways == ["169.254.1.1", "fe80::1"], || format!("the pod's neighbours: {neighbours}"))?;
        check(field(&neighbours, "lladdr").iter().all(|mac| *mac == link["address"]), || neighbours.to_string())?;

        let addresses = look(&pod, "ip", &["-j", "address", "show", "eth0"])?[0]["addr_info"].clone();
        check(field(&addresses, "tentative").iter().all(|tentative| tentative == "null"), || addresses.to_string())?;
        for (address, family) in [("10.7.0.2", "inet"), ("fd00:7::2", "inet6")] {
            check(field(&addresses, "local").contains(&address.to_owned()), || format!("{family}: {addresses}"))?;
            let routes = look(&host, "ip", &["-f", family, "-j", "route", "show", "proto", "113"])?;
            let to = [field(&routes, "dst"), field(&routes, "dev")].concat();
            check(to == [address, outer], || format!("the host's {family} routes: {routes}"))?;
        }
        let eth0: &[(&str, &str)] = &[
            ("ipv4/conf/all/accept_redirects", "0"),
            ("ipv4/conf/eth0/accept_redirects", "0"),
            ("ipv6/conf/eth0/disable_ipv6", "0"),
            ("ipv6/conf/eth0/keep_addr_on_down", "1"),
        ];
        let outer: Vec<_> = [
            ("ipv4", "rp_filter", "1"),
            ("ipv4", "forwarding", "1"),
            ("ipv4", "accept_redirects", "0"),
            ("ipv6", "disable_ipv6", "0"),
        ]
        .map(|(family, setting, value)| (format!("{family}/conf/{outer}/{setting}"), value))
        .into();
        let outer: Vec<_> = outer.iter().map(|(setting, value)| (setting.as_str(), *value)).collect();
        for (end, settings) in [(&pod, eth0), (&host, &outer)] {
            for (setting, value) in settings {
                let found = end.run("cat", &[&format!("/proc/sys/net/{setting}")])?;
                check(found == *value, || format!("{setting} is {found} on {}", end.name))?;
            }
        }
        Ok(())
    });
}

#[test]
fn b4_neither_end_accepts_router_advertisements_or_redirects_in_either_family() {
    for (place, like) in FAMILIES.into_iter().enumerate() {
        scene(1, |lab| {
            let (host, pod, path) = bare(lab, "p1")?;
            let mut single = alone("1.0.0");
            single["ipam"]["ranges"] = json!([single["ipam"]["ranges"][place]]);
            let result = Call::new("ADD", "p1", &path, &single).execute(&host)?.result()?;
            check(result["ips"].as_array().is_some_and(|ips| ips.len() == 1), || format!("{like}: {result}"))?;
            let outer = result["interfaces"][0]["name"].as_str().unwrap_or_default();
            for (end, device) in [(&host, outer), (&pod, "eth0")] {
                for setting in ["accept_ra", "accept_redirects"] {
                    let found = end.run("cat", &[&format!("/proc/sys/net/ipv6/conf/{device}/{setting}")])?;
                    check(found == "0", || format!("{setting} of {device} is {found} for a pod like {like}"))?;
                }
            }
            Ok(())
        });
    }
}

#[test]
fn l3_d18_calls_for_one_attachment_are_serialised() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        let del = add.clone().with("CNI_COMMAND", "DEL");
        for round in 0..8 {
            let answers = std::thread::scope(|scope| {
                let calls = [&add, &add, &add, &add].map(|call| scope.spawn(|| call.execute(&host)));
                calls.map(|call| call.join().unwrap())
            });
            let successes = answers.iter().flatten().filter(|answer| answer.code == Some(0)).count();
            check(successes == 1, || format!("round {round}: {successes} of four ADDs: {answers:?}"))?;
            check(held(&host).len() == 3, || format!("round {round}: held {:?}", held(&host)))?;
            // An ADD and a DEL at once: afterwards either all of it is there or nothing.
            let both = std::thread::scope(|scope| {
                let calls = [&del, &add].map(|call| scope.spawn(|| call.execute(&host)));
                calls.map(|call| call.join().unwrap())
            });
            check(both[0].as_ref().is_ok_and(|answer| answer.code == Some(0)), || format!("{both:?}"))?;
            let devices = field(&look(&host, "ip", &["-j", "link"])?, "ifname").len() - 2;
            check(held(&host).len() == 3 * devices, || format!("{devices} devices and {:?}", held(&host)))?;
            del.execute(&host)?.result()?;
            check(held(&host).is_empty(), || format!("round {round}: held {:?}", held(&host)))?;
        }
        let locks = host.enter(|| std::fs::read_dir("/run/podwire/net/turns").unwrap().count());
        check(locks == 0, || format!("{locks} lock files are left"))
    });
}

#[test]
fn p2_pods_of_a_node_and_the_node_reach_one_another_at_once() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mut pods = Vec::new();
        for name in ["p1", "p2"] {
            let (_, pod, path) = bare(lab, name)?;
            let result = Call::new("ADD", name, &path, &alone("1.0.0")).execute(&host)?.result()?;
            let address = |place: usize| {
                let text = result["ips"][place]["address"].as_str().unwrap_or_default();
                text.split('/').next().unwrap_or_default().parse::<IpAddr>().map_err(|error| error.to_string())
            };
            pods.push((Responder::start(&pod)?, pod, [address(0)?, address(1)?]));
        }
        let [(_, first, from), (_, second, to)] = &pods[..] else { return Err("two pods".into()) };
        for place in 0..FAMILIES.len() {
            reaches(first, from[place], to[place])?;
            reaches(second, to[place], from[place])?;
            reaches(first, from[place], from[place])?;
            podwire_tests::lab::exchange::exchange(&host, to[place])?;
        }
        Ok(())
    });
}

#[test]
fn d1_d2_d4_d5_del_leaves_nothing_of_an_attachment_whatever_is_left_of_the_pod() {
    for gone in ["nothing", "the variable", "the path", "the namespace"] {
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            scene(1, |lab| {
                let (host, pod, path) = bare(lab, "p1")?;
                // What the first ADD of a host makes for all: forwarding.
                let warm = Call::new("ADD", "warm", &host.pod("warm")?.1, &alone(version));
                warm.execute(&host)?.result()?;
                warm.with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
                let before = state(&host)?;
                let add = Call::new("ADD", "p1", &path, &alone(version));
                add.execute(&host)?.result()?;
                check(held(&host).len() == 3, || format!("held: {:?}", held(&host)))?;
                let mut del = add.with("CNI_COMMAND", "DEL");
                match gone {
                    "the variable" => del = del.with("CNI_NETNS", ""),
                    "the path" => host.remove_pod(&path)?,
                    "the namespace" => {
                        drop(pod);
                        host.remove_pod(&path)?;
                    }
                    _ => {}
                }
                for time in ["first", "second", "third"] {
                    let answer = del.execute(&host)?;
                    check(answer.code == Some(0) && answer.output.is_empty(), || format!("{time} DEL: {answer:?}"))?;
                }
                same(&format!("the host after DEL without {gone}"), &before, &state(&host)?)?;
                check(held(&host).is_empty(), || format!("still held: {:?}", held(&host)))
            });
        }
    }
}

#[test]
fn d3_del_of_an_unknown_attachment_creates_nothing() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let answer = Call::new("DEL", "p1", &path, &alone("1.0.0")).execute(&host)?;
        check(answer.code == Some(0) && answer.output.is_empty(), || format!("{answer:?}"))?;
        check(!host.enter(|| Path::new("/run/podwire").exists()), || "a state directory was made".into())
    });
}

#[test]
fn p5_a_second_add_is_rejected_and_the_first_attachment_stays_intact() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        add.execute(&host)?.result()?;
        let before = (state(&host)?, state(&pod)?, held(&host));
        let (code, message) = failure(&add.execute(&host)?)?;
        check(code == 101 && message.contains("attached already"), || format!("{code} {message}"))?;
        same("the host", &before.0, &state(&host)?)?;
        same("the pod", &before.1, &state(&pod)?)?;
        check(before.2 == held(&host), || format!("held: {:?}", held(&host)))
    });
}

#[test]
fn p4_e19_t1_a_failed_add_changes_nothing() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        // Forwarding stays on, as it is for every pod.
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        add.execute(&host)?.result()?;
        add.clone().with("CNI_COMMAND", "DEL").execute(&host)?.result()?;

        // A foreign eth0 in the pod; a foreign route to the next address, the last step of the plan.
        pod.run("ip", &["link", "add", "eth0", "type", "bridge"])?;
        let before = (state(&host)?, state(&pod)?);
        let (code, message) = failure(&add.execute(&host)?)?;
        check(code == 102 && message.contains("File exists (17)"), || format!("{code} {message}"))?;
        same("the host", &before.0, &state(&host)?)?;
        same("the pod", &before.1, &state(&pod)?)?;
        pod.run("ip", &["link", "delete", "eth0"])?;

        host.run("ip", &["route", "add", "unreachable", "10.7.0.4/32"])?;
        let before = (state(&host)?, state(&pod)?);
        let (code, message) = failure(&add.execute(&host)?)?;
        check(code == 102 && message.starts_with("add route 10.7.0.4/32"), || format!("{code} {message}"))?;
        same("the host", &before.0, &state(&host)?)?;
        same("the pod", &before.1, &state(&pod)?)?;
        check(held(&host).is_empty(), || format!("still held: {:?}", held(&host)))?;
        let own = add.clone().with("CNI_NETNS", "/proc/self/ns/net").execute(&host)?;
        check(failure(&own)?.0 == 8, || own.output.clone())?;
        let missing = add.clone().with("CNI_NETNS", "/run/netns/nowhere").execute(&host)?;
        check(failure(&missing)?.0 == 8, || missing.output.clone())?;
        let plain = add.with("CNI_NETNS", "/etc/hosts").execute(&host)?;
        check(failure(&plain)?.0 == 8, || plain.output.clone())?;
        host.run("mkfifo", &["/run/pipe"])?;
        let pipe = Call::new("ADD", "p1", Path::new("/run/pipe"), &alone("1.0.0")).execute(&host)?;
        check(failure(&pipe)?.0 == 8, || pipe.output.clone())?;
        check(held(&host).is_empty(), || format!("still held: {:?}", held(&host)))
    });
}

#[test]
fn an_address_with_a_foreign_route_is_not_assigned() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        for (family, address) in [("-4", "10.7.0.2/32"), ("-6", "fd00:7::2/128")] {
            host.run("ip", &[family, "route", "add", address, "dev", "lo", "proto", "static"])?;
        }
        host.run("ip", &["address", "add", "10.7.0.3/32", "dev", "lo"])?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        let result = add.execute(&host)?.result()?;
        let addresses = field(&result["ips"], "address");
        check(addresses == ["10.7.0.4/32", "fd00:7::3/128"], || format!("{addresses:?}"))?;
        add.with("CNI_COMMAND", "DEL").execute(&host)?.result()?;
        for (family, address) in [("-4", "10.7.0.2"), ("-6", "fd00:7::2")] {
            let routes = look(&host, "ip", &[family, "-j", "route", "show", "proto", "static", address])?;
            check(field(&routes, "dev") == ["lo"], || format!("the foreign route: {routes}"))?;
        }
        check(held(&host).is_empty(), || format!("still held: {:?}", held(&host)))
    });
}

#[test]
fn l8_leftovers_of_a_killed_add_are_taken_over() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        add.execute(&host)?.result()?;
        // As it is when the process dies before its last step: everything is there but the note that it is.
        let unfinish = || {
            for entry in std::fs::read_dir("/run/podwire/net/attachments").unwrap() {
                let entry = entry.unwrap();
                std::fs::rename(entry.path(), Path::new("/run/podwire/net/pending").join(entry.file_name())).unwrap();
            }
        };
        host.enter(unfinish);
        add.execute(&host)?.result()?;
        check(held(&host).len() == 3, || format!("held: {:?}", held(&host)))?;
        let addresses = look(&pod, "ip", &["-j", "address", "show", "eth0"])?;
        check(addresses[0]["addr_info"][0]["local"] == "10.7.0.3", || addresses.to_string())?;

        // And what a pod left whose namespace ended without a word, its device with it.
        pod.run("ip", &["link", "delete", "eth0"])?;
        add.execute(&host)?.result()?;
        check(held(&host).len() == 3, || format!("held: {:?}", held(&host)))
    });
}

#[test]
fn v11_x1_the_program_prints_what_it_is_and_errors_are_objects() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let call = Call::new("VERSION", "p1", &path, &alone("1.0.0"));
        let versions = call.execute(&host)?.result()?;
        check(
            versions["supportedVersions"] == json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]),
            || versions.to_string(),
        )?;
        let about = call.clone().with("CNI_COMMAND", "").execute(&host)?;
        check(about.code == Some(0) && about.output.is_empty(), || format!("{about:?}"))?;
        check(about.log.starts_with("CNI plugin podwire v0.1.0\nCNI protocol versions"), || about.log.clone())?;
        let unknown = call.with("CNI_COMMAND", "RENAME").execute(&host)?;
        check(failure(&unknown)? == (4, "unknown CNI_COMMAND: RENAME".into()), || unknown.output)
    });
}

#[test]
fn l1_concurrent_adds_get_distinct_addresses_and_their_dels_leave_nothing() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mut wide = alone("1.0.0");
        wide["ipam"]["ranges"] = json!([[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]);
        let names: Vec<_> = (0..24).map(|number| format!("p{number}")).collect();
        let pods: Vec<_> = names.iter().map(|name| host.pod(name)).collect::<Result<_, _>>()?;
        let everyone = |verb: &str| -> Outcome<Vec<Value>> {
            std::thread::scope(|scope| {
                let call = |(name, (_, path)): (&String, &(Host, std::path::PathBuf))| {
                    let call = Call::new(verb, name, path, &wide);
                    let host = &host;
                    scope.spawn(move || call.execute(host)?.result())
                };
                let threads: Vec<_> = names.iter().zip(&pods).map(call).collect();
                threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
            })
        };
        let results = everyone("ADD")?;
        let addresses = |place: usize| results.iter().map(move |result| result["ips"][place]["address"].to_string());
        let all: std::collections::BTreeSet<_> = addresses(0).chain(addresses(1)).collect();
        check(all.len() == 48, || format!("{} addresses for 24 pods", all.len()))?;
        everyone("DEL")?;
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("left: {links:?}"))?;
        check(held(&host).is_empty(), || format!("still held: {:?}", held(&host)))
    });
}

#[test]
fn the_plugin_accepts_the_conflist_of_the_daemon() {
    podwire_tests::lab::scene::cluster(1, |lab| {
        let configuration = configuration(&lab.nodes[0].host, CONFLISTS)?;
        check(configuration["mtu"] == 1450 && configuration["name"] == "podwire", || configuration.to_string())?;
        let pod = lab.nodes[0].add_pod("p1")?;
        let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
        check(addresses == ["10.244.1.2", "fd00:10:244:1::2"], || format!("{addresses:?}"))
    });
}
