//! ADD: what it asks of the pod and of the node, what it leaves alone, what it does when something is in the way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::wire;
use serde_json::{Value, json};

use crate::attachment::{addresses, changed, fails, ledger, outer, unchanged, world};
use crate::expect::{FAMILIES, Outcome, check, field, json as look, reaches, same, scene, state};
use crate::plugin::{alone, bare, held};

/// All calls at once; their answers in the same order.
fn at_once(host: &Host, calls: &[Call]) -> Outcome<Vec<Answer>> {
    thread::scope(|scope| {
        let running: Vec<_> = calls.iter().map(|call| scope.spawn(|| call.execute(host))).collect();
        running.into_iter().map(|call| call.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    })
}

/// A host on which an ADD has been already: what the first one makes for all is there.
fn warm(host: &Host, path: &Path) -> Outcome {
    let add = Call::new("ADD", "warm", path, &alone("1.0.0"));
    add.execute(host)?.result()?;
    add.verb("DEL").execute(host)?.silent()
}

/// The configuration with other ranges.
fn ranges(ranges: Value) -> Value {
    changed(&alone("1.1.0"), "/ipam/ranges", ranges)
}

fn setting(host: &Host, path: &str) -> Outcome<String> {
    host.run("cat", &[&format!("/proc/sys/net/{path}")])
}

#[test]
fn p6_d15_a_second_interface_is_as_good_as_the_first_and_each_outlives_the_other() {
    for goes in ["eth0", "net1"] {
        scene(1, |lab| {
            let (host, pod, path) = bare(lab, "p1")?;
            let rules = || {
                Ok::<_, String>((look(&pod, "ip", &["-4", "-j", "rule"])?, look(&pod, "ip", &["-6", "-j", "rule"])?))
            };
            let before = rules()?;
            let mut interfaces = Vec::new();
            for name in ["eth0", "net1"] {
                let add = Call::new("ADD", "p1", &path, &alone("1.1.0")).interface(name);
                let result = add.execute(&host)?.result()?;
                interfaces.push((name, add, addresses(&result)?, result));
            }
            check(held(&host).len() == 6, || format!("{:?}", held(&host)))?;
            let (_, friend, friends_path) = bare(lab, "p2")?;
            let of_friend = Call::new("ADD", "p2", &friends_path, &alone("1.1.0")).execute(&host)?.result()?;
            let (_in_pod, _in_friend) = (Responder::start(&pod)?, Responder::start(&friend)?);
            let usable = |held: &[IpAddr]| -> Outcome {
                for (address, to) in held.iter().zip(addresses(&of_friend)?) {
                    exchange(&friend, *address)?;
                    exchange(&host, *address)?;
                    // The other way round, from this very address.
                    let source = address.to_string();
                    let family = if address.is_ipv4() { "-4" } else { "-6" };
                    let way = look(&pod, "ip", &[family, "-j", "route", "get", &to.to_string(), "from", &source])?;
                    let device = field(&look(&pod, "ip", &["-j", "address", "show", "to", &source])?, "ifname");
                    check(field(&way, "dev") == device, || format!("from {source}: {way}, not {device:?}"))?;
                }
                Ok(())
            };
            for (_, add, held, result) in &interfaces {
                usable(held)?;
                let checked = changed(&alone("1.1.0"), "/prevResult", result.clone());
                add.clone().verb("CHECK").configured(&checked).execute(&host)?.silent()?;
            }
            let place = interfaces.iter().position(|(name, ..)| *name == goes).ok_or("no such interface")?;
            let (_, add, _, _) = interfaces.remove(place);
            add.verb("DEL").execute(&host)?.silent()?;
            let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
            let (stays, add, addresses_of_it, result) = &interfaces[0];
            check(links == ["lo", stays], || format!("{links:?}"))?;
            usable(addresses_of_it)?;
            for to in addresses(&of_friend)? {
                exchange(&pod, to).map_err(|why| format!("without {goes}: {why}"))?;
            }
            let checked = changed(&alone("1.1.0"), "/prevResult", result.clone());
            add.clone().verb("CHECK").configured(&checked).execute(&host)?.silent()?;
            add.clone().verb("DEL").execute(&host)?.silent()?;
            let after = rules()?;
            same("IPv4 rules of the pod", &before.0, &after.0)?;
            same("IPv6 rules of the pod", &before.1, &after.1)?;
            check(held(&host).len() == 3, || format!("{:?}", held(&host)))
        });
    }
}

#[test]
fn p7_l21_networks_know_nothing_of_one_another_and_never_give_one_address_twice() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let first = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        let given = addresses(&first.execute(&host)?.result()?)?;
        // The same ranges under another name, as when two runtimes have a configuration each.
        let second = first.clone().configured(&changed(&alone("1.1.0"), "/name", "other".into()));
        fails(&unchanged("the same interface", &host, &[&pod], &second)?, 102, "File exists")?;
        let before = world(&host, &[&pod])?;
        let second = second.interface("net1");
        let others = addresses(&second.execute(&host)?.result()?)?;
        check(others.iter().all(|address| !given.contains(address)), || format!("{given:?} and {others:?}"))?;
        second.clone().verb("DEL").execute(&host)?.silent()?;
        same("the first network", &before, &world(&host, &[&pod])?)?;
        // Nor is anything of the second's a DEL in the first.
        second.execute(&host)?.result()?;
        first.clone().interface("net1").verb("DEL").execute(&host)?.silent()?;
        first.verb("DEL").execute(&host)?.silent()?;
        let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "net1"] && held(&host).is_empty(), || format!("{links:?}"))
    });
}

#[test]
fn p8_a10_a11_i6_i7_i9_x7_what_a_pod_wishes_it_gets_or_is_told_why_not() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let (_, second, second_path) = bare(lab, "p2")?;
        let plain = alone("1.1.0");
        let mut capable = plain.clone();
        capable["runtimeConfig"] = json!({"ips": ["10.7.0.9/24", "fd00:7::9"], "mac": "02:00:00:00:00:09"});
        let mut conventional = plain.clone();
        conventional["args"] = json!({"cni": {"ips": ["10.7.0.10"], "mac": "02:00:00:00:00:0a"}});
        let wishes = [
            (&plain, "IP=10.7.0.8", "10.7.0.8", None),
            (&plain, "IP=10.7.0.8/24;MAC=02:00:00:00:00:08", "10.7.0.8", Some("02:00:00:00:00:08")),
            (&conventional, "IgnoreUnknown=1", "10.7.0.10", Some("02:00:00:00:00:0a")),
            (&capable, "MAC=02:00:00:00:00:08", "10.7.0.9", Some("02:00:00:00:00:09")),
        ];
        for (configuration, arguments, address, mac) in wishes {
            let add = Call::new("ADD", "p1", &path, configuration).with("CNI_ARGS", arguments);
            let result = add.execute(&host)?.result()?;
            check(addresses(&result)?[0].to_string() == address, || format!("{arguments}: {result}"))?;
            let link = &look(&pod, "ip", &["-j", "link", "show", "eth0"])?[0];
            check(link["address"] == result["interfaces"][1]["mac"], || format!("{link} and {result}"))?;
            if let Some(mac) = mac {
                check(link["address"] == mac && result["interfaces"][0]["mac"] != mac, || format!("{link} {result}"))?;
            }
            add.verb("DEL").execute(&host)?.silent()?;
        }

        let holder = Call::new("ADD", "p1", &path, &capable);
        holder.execute(&host)?.result()?;
        let taken =
            unchanged("a taken address", &host, &[&pod, &second], &Call::new("ADD", "p2", &second_path, &capable))?;
        fails(&taken, 104, "failed to allocate all requested IPs: 10.7.0.9")?;
        let before = world(&host, &[&pod, &second])?;
        for (arguments, code, text) in [
            ("IP=10.7.0.1", 104, "requested ip is subnet's gateway"),
            ("IP=192.0.2.1", 104, "failed to allocate all requested IPs: 192.0.2.1"),
            ("IP=ten", 7, "ten"),
            ("MAC=02:00", 7, "02:00"),
            ("MAC=01:00:5e:00:00:01", 7, "01:00:5e:00:00:01"),
        ] {
            let add = Call::new("ADD", "p2", &second_path, &plain).with("CNI_ARGS", arguments);
            fails(&add.execute(&host)?, code, text).map_err(|why| format!("{arguments}: {why}"))?;
        }
        same("refused wishes", &before, &world(&host, &[&pod, &second])?)
    });
}

#[test]
fn p9_check_and_del_take_any_path_to_the_namespace() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let process = pod.start("sleep", Command::new("sleep").arg("100"))?;
        let other = format!("/proc/{}/ns/net", process.id());
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        let result = add.execute(&host)?.result()?;
        let checked = changed(&alone("1.1.0"), "/prevResult", result);
        let elsewhere = add.clone().verb("CHECK").configured(&checked).with("CNI_NETNS", &other);
        // The result says where the interface is, in other words than the runtime uses now: it may have moved.
        fails(&elsewhere.execute(&host)?, 106, "prevResult has no interface eth0")?;
        add.verb("DEL").with("CNI_NETNS", &other).execute(&host)?.silent()?;
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))
    });
}

#[test]
fn p10_e14_an_interface_has_the_name_that_was_asked_for_or_there_is_none() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        for name in ["eth%d", "sixteen--letters", "a b", "a/b", ".", "all"] {
            fails(
                &Call::new("ADD", "p1", &path, &alone("1.0.0")).interface(name).execute(&host)?,
                4,
                "interface name",
            )?;
        }
        let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo"] && held(&host).is_empty(), || format!("{links:?} {:?}", held(&host)))
    });
}

#[test]
fn p11_b7_b9_both_ends_have_the_mtu_of_the_way_out_and_addresses_that_udev_leaves_alone() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        host.run("ip", &["link", "set", "eth0", "mtu", "1337"])?;
        let mut inherited = alone("1.1.0");
        inherited.as_object_mut().ok_or("no object")?.remove("mtu");
        for (configuration, mtu) in [(inherited, 1337), (changed(&alone("1.1.0"), "/mtu", json!(1280)), 1280)] {
            let add = Call::new("ADD", "p1", &path, &configuration);
            let result = add.execute(&host)?.result()?;
            for (end, place) in [(&host, 0), (&pod, 1)] {
                let name = result["interfaces"][place]["name"].as_str().unwrap_or_default();
                let link = &look(end, "ip", &["-j", "link", "show", name])?[0];
                check(link["mtu"] == mtu && result["interfaces"][place]["mtu"] == mtu, || format!("{link} {result}"))?;
                // 3: set by somebody. What is not, udev sets anew (NET_ADDR_SET, uapi/linux/netdevice.h).
                let assigned = end.run(
                    "unshare",
                    &[
                        "--mount",
                        "sh",
                        "-c",
                        &format!("mount -t sysfs none /sys && cat /sys/class/net/{name}/addr_assign_type"),
                    ],
                )?;
                check(assigned == "3", || format!("the address of {name} was assigned by {assigned}"))?;
            }
            add.verb("DEL").execute(&host)?.silent()?;
        }
        Ok(())
    });
}

#[test]
fn p12_the_loopback_may_be_down_or_up_or_about_to_come_up() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        for lo in ["down", "up", "both"] {
            let (pod, path) = host.pod(&format!("lo-{lo}"))?;
            let add = Call::new("ADD", lo, &path, &alone("1.0.0"));
            match lo {
                "both" => thread::scope(|scope| -> Outcome {
                    let loopback =
                        scope.spawn(|| (0..20).try_for_each(|_| pod.run("ip", &["link", "set", "lo", "up"]).map(drop)));
                    let added = add.execute(&host)?.result();
                    loopback.join().map_err(|_| "a thread panicked".to_owned())??;
                    added.map(drop)
                })?,
                _ => {
                    pod.run("ip", &["link", "set", "lo", lo])?;
                    add.execute(&host)?.result()?;
                }
            }
            let flags = look(&pod, "ip", &["-j", "link", "show", "lo"])?[0]["flags"].clone();
            let up = flags.as_array().is_some_and(|flags| flags.contains(&"UP".into()));
            check(up == (lo != "down"), || format!("{lo}: {flags}"))?;
        }
        Ok(())
    });
}

#[test]
fn p13_b3_b10_ipv6_works_where_it_was_off_and_stays_when_the_interface_goes_down() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        pod.run(
            "sh",
            &["-ec", "for device in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$device/disable_ipv6; done"],
        )?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        let result = add.execute(&host)?.result()?;
        let _responder = Responder::start(&pod)?;
        let held = addresses(&result)?;
        for address in &held {
            exchange(&host, *address)?;
            // The pod itself, too.
            reaches(&pod, *address, *address)?;
        }
        check(setting(&pod, "ipv6/conf/eth0/accept_dad")? == "0", || "duplicates are looked for".into())?;
        pod.run("ip", &["link", "set", "eth0", "down"])?;
        pod.run("ip", &["link", "set", "eth0", "up"])?;
        let found = look(&pod, "ip", &["-6", "-j", "address", "show", "eth0", "scope", "global"])?;
        let mut found = field(&found[0]["addr_info"], "local");
        // Addresses of other scopes are empty objects here.
        found.retain(|address| address != "null");
        check(found == [held[1].to_string()], || format!("{found:?} after down and up"))
    });
}

#[test]
fn p13_ipv4_alone_needs_no_ipv6_of_the_kernel() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let without = host.apart(|| {
            let flags = nix::mount::MsFlags::MS_RDONLY;
            let hidden = nix::mount::mount(Some("tmpfs"), "/proc/sys/net/ipv6", Some("tmpfs"), flags, None::<&str>);
            hidden.map_err(|errno| errno.to_string())
        })?;
        let single = ranges(json!([[{"subnet": "10.7.0.0/28"}]]));
        let add = Call::new("ADD", "p1", &path, &single);
        let result = add.execute(&without)?.result()?;
        let _responder = Responder::start(&pod)?;
        exchange(&host, addresses(&result)?[0])?;
        let checked = changed(&single, "/prevResult", result);
        add.clone().verb("CHECK").configured(&checked).execute(&without)?.silent()?;
        add.verb("DEL").execute(&without)?.silent()
    });
}

#[test]
fn p14_forwarding_is_turned_on_for_the_families_that_need_it_and_left_alone_where_it_is_on() {
    const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let sets = alone("1.1.0")["ipam"]["ranges"].clone();
        for place in 0..FAMILIES.len() {
            for setting in FORWARDING {
                host.run("sh", &["-c", &format!("echo 0 > /proc/sys/net/{setting}")])?;
            }
            let add = Call::new("ADD", "p1", &path, &ranges(json!([sets[place]])));
            add.execute(&host)?.result()?;
            check(setting(&host, FORWARDING[place])? == "1", || format!("{} is off", FORWARDING[place]))?;
            check(setting(&host, FORWARDING[1 - place])? == "0", || format!("{} is on", FORWARDING[1 - place]))?;
            add.verb("DEL").execute(&host)?.silent()?;
        }
        for setting in FORWARDING {
            host.run("sh", &["-c", &format!("echo 1 > /proc/sys/net/{setting}")])?;
        }
        // It is 1 already, and nobody may write it.
        let frozen = host.apart(|| {
            FORWARDING.iter().try_for_each(|setting| {
                use nix::mount::{MsFlags, mount};
                let (file, none) = (format!("/proc/sys/net/{setting}"), None::<&str>);
                let bind = mount(Some(file.as_str()), file.as_str(), none, MsFlags::MS_BIND, none);
                let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                bind.and_then(|()| mount(none, file.as_str(), none, flags, none))
                    .map_err(|errno| format!("{file}: {errno}"))
            })
        })?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        add.execute(&frozen)?.result()?;
        add.verb("DEL").execute(&frozen)?.silent()
    });
}

#[test]
fn p15_b17_b20_nothing_of_anybody_else_changes_on_the_host() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let settings =
            "cd /proc/sys/net && grep -rs . ipv4/conf ipv6/conf ipv4/ip_forward ipv4/neigh | grep -v /pw | sort";
        let strangers = "
            ip link add br7 type veth peer name br8; ip address add 203.0.113.1/24 dev br7; ip link set br7 up; ip link set br8 up
            ip route add 198.51.100.0/24 via 203.0.113.2; ip rule add from 203.0.113.9 table 77
            ip neighbour add 203.0.113.7 lladdr 02:00:00:00:00:07 dev br7
            nft add table inet stranger; nft add chain inet stranger forward '{ type filter hook forward priority 0; policy drop; }'
            nft add rule inet stranger forward meta mark 0x2000 accept";
        host.run("sh", &["-ec", strangers])?;
        let before = (state(&host)?, host.run("sh", &["-c", settings])?);
        let result = Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let mut after = state(&host)?;
        // Our own: whatever names the device, and the addresses' local and multicast routes on it.
        let device = outer(&result);
        for list in after.as_object_mut().into_iter().flatten().filter_map(|(_, list)| list.as_array_mut()) {
            list.retain(|entry| !entry.to_string().contains(&device));
        }
        same("the host but for the device", &before.0, &after)?;
        let found = host.run("sh", &["-c", settings])?;
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let changed: Vec<_> = lines(&before.1).symmetric_difference(&lines(&found)).cloned().collect();
        check(changed.is_empty(), || format!("settings: {changed:?}"))
    });
}

#[test]
fn p16_p17_the_pod_has_the_routes_of_the_configuration_and_no_others() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let routes = |family: &str| -> Outcome<Vec<String>> {
            let found = look(&pod, "ip", &[family, "-j", "route", "show", "table", "all", "dev", "eth0"])?;
            let ours = |route: &&Value| route["type"].is_null() && route["protocol"] != "kernel";
            let text = |route: &Value| {
                let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
                let metric = if family == "-4" { route["metric"].as_u64().unwrap_or_default() } else { 0 };
                format!("{} via {} metric {metric}", text("dst"), text("gateway"))
            };
            let mut list: Vec<_> = found.as_array().into_iter().flatten().filter(ours).map(text).collect();
            list.sort();
            Ok(list)
        };
        let none = changed(&alone("1.1.0"), "/ipam/routes", json!([]));
        let add = Call::new("ADD", "p1", &path, &none);
        let result = add.execute(&host)?.result()?;
        // The way to the gateway leads nowhere else.
        check(routes("-4")? == ["169.254.1.1 via  metric 0"] && routes("-6")?.is_empty(), || {
            format!("{:?} {:?}", routes("-4"), routes("-6"))
        })?;
        check(field(&result["routes"], "dst") == ["169.254.1.1/32"], || result.to_string())?;
        add.verb("DEL").execute(&host)?.silent()?;

        // The gateway of a range is the node, by whatever address.
        let some = json!([
            {"dst": "0.0.0.0/0", "gw": "10.7.0.1"}, {"dst": "::/0"}, {"dst": "10.0.0.0/8", "priority": 50}, {"dst": "192.0.2.1/32"},
        ]);
        let add = Call::new("ADD", "p1", &path, &changed(&alone("1.1.0"), "/ipam/routes", some));
        add.execute(&host)?.result()?;
        let expected = [
            "10.0.0.0/8 via 169.254.1.1 metric 50",
            "169.254.1.1 via  metric 0",
            "192.0.2.1 via 169.254.1.1 metric 0",
            "default via 169.254.1.1 metric 0",
        ];
        check(routes("-4")? == expected, || format!("{:?}", routes("-4")))?;
        check(routes("-6")? == ["default via fe80::1 metric 0"], || format!("{:?}", routes("-6")))?;
        add.verb("DEL").execute(&host)?.silent()?;
        for wrong in [json!([{"dst": "10.0.0.0/8", "gw": "10.7.0.9"}]), json!([{"dst": "10.0.0.0/8", "table": 7}])] {
            let add = Call::new("ADD", "p1", &path, &changed(&alone("1.1.0"), "/ipam/routes", wrong));
            fails(&add.execute(&host)?, 7, "ipam.routes[0]")?;
        }
        Ok(())
    });
}

#[test]
fn p18_a_pod_of_another_user_namespace_is_attached_as_any_other() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            "ip link set lo up; echo there; exec sleep 100",
        ]);
        let process = host.start("pod", &mut command)?;
        process.wait_for("there", podwire_tests::lab::SOON)?;
        let path = format!("/proc/{}/ns/net", process.id());
        warm(&host, Path::new(&path))?;
        let before = world(&host, &[])?;
        let add = Call::new("ADD", "p1", Path::new(&path), &alone("1.1.0"));
        let result = add.execute(&host)?.result()?;
        for address in addresses(&result)? {
            let ping = if address.is_ipv4() { "-4" } else { "-6" };
            host.run("ping", &[ping, "-c", "1", "-W", "1", &address.to_string()])?;
        }
        let checked = changed(&alone("1.1.0"), "/prevResult", result);
        add.clone().verb("CHECK").configured(&checked).execute(&host)?.silent()?;
        add.verb("DEL").execute(&host)?.silent()?;
        same("DEL", &before, &world(&host, &[])?)
    });
}

#[test]
fn i3_i12_i13_a_whole_range_is_given_out_at_once_and_what_dead_pods_hold_with_it() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let five = ranges(json!([[{"subnet": "10.7.0.0/29"}], [{"subnet": "fd00:7::/64"}]]));
        let pods = (0..6).map(|number| host.pod(&format!("p{number}"))).collect::<Outcome<Vec<(Host, PathBuf)>>>()?;
        let call = |number: usize, name: &str| Call::new("ADD", name, &pods[number].1, &five);
        // Four of the five addresses are held by the dead: a pod whose namespace has gone without a word, an ADD that was
        // killed when it had made everything, another that was killed before it made a device.
        for (number, name) in ["dead0", "dead1", "dead2", "dead3"].into_iter().enumerate() {
            call(number, name).execute(&host)?.result()?;
        }
        host.run("sh", &["-ec", "cd /run/podwire/net; set -- attachments/*; mv $1 $2 pending"])?;
        for (pod, _) in &pods[..4] {
            pod.run("ip", &["link", "delete", "eth0"])?;
        }
        let calls: Vec<_> = (0..6).map(|number| call(number, &format!("p{number}"))).collect();
        let answers = at_once(&host, &calls[..5])?;
        let mut given = BTreeSet::new();
        for answer in &answers {
            given.extend(addresses(&answer.result()?)?);
        }
        check(given.len() == 10, || format!("{given:?}"))?;
        check(held(&host).len() == 15, || format!("{:?}", held(&host)))?;

        let (last, _) = &pods[5];
        let full = unchanged("a full range", &host, &[last], &calls[5])?;
        fails(&full, 100, "no IP addresses available in range set: 10.7.0.0/29")?;
        // The only one that is free is given, whichever was last.
        let freed = addresses(&answers[2].result()?)?[0];
        calls[2].clone().verb("DEL").execute(&host)?.silent()?;
        let again = addresses(&calls[5].execute(&host)?.result()?)?[0];
        check(again == freed, || format!("{again}, not {freed}"))
    });
}

#[test]
fn i10_i11_ranges_of_the_runtime_come_before_those_of_the_network() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let mut both = alone("1.1.0");
        both["ipam"] = json!({"subnet": "10.7.1.0/29", "ranges": [[{"subnet": "10.7.2.0/29"}]]});
        let nested = changed(
            &both,
            "/runtimeConfig",
            json!({"ipRanges": [[{"subnet": "10.7.3.0/29"}], [{"subnet": "fd00:3::/64"}]]}),
        );
        let flat = changed(
            &both,
            "/runtimeConfig",
            json!({"ipRanges": [{"Subnet": "10.7.3.0/29", "RangeStart": "10.7.3.5"}]}),
        );
        for (configuration, expected) in [
            (both, vec!["10.7.1.2", "10.7.2.2"]),
            (nested, vec!["10.7.3.2", "10.7.1.3", "10.7.2.3", "fd00:3::2"]),
            (flat, vec!["10.7.3.5", "10.7.1.4", "10.7.2.4"]),
        ] {
            let add = Call::new("ADD", "p1", &path, &configuration);
            let result = add.execute(&host)?.result()?;
            let found: Vec<_> = addresses(&result)?.iter().map(ToString::to_string).collect();
            check(found == expected, || format!("{found:?}, not {expected:?}"))?;
            add.verb("DEL").execute(&host)?.silent()?;
        }
        Ok(())
    });
}

#[test]
fn t3_t4_t6_a_failed_add_may_be_tried_again_or_deleted_and_holds_nothing_meanwhile() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let before = world(&host, &[&pod])?;
        pod.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "far"])?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        for _ in 0..3 {
            fails(&add.execute(&host)?, 102, "File exists")?;
            check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        }
        // DEL leaves what is not podwire's.
        add.clone().verb("DEL").execute(&host)?.silent()?;
        let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
        check(links.len() == 3, || format!("{links:?}"))?;
        pod.run("ip", &["link", "delete", "eth0"])?;
        same("three failures and a DEL", &before, &world(&host, &[&pod])?)?;
        add.execute(&host)?.result()?;
        add.verb("DEL").execute(&host)?.silent()?;
        same("the fourth and a DEL", &before, &world(&host, &[&pod])?)
    });
}

#[test]
fn t8_t9_a_namespace_that_goes_away_meanwhile_is_an_error_or_none_and_nothing_is_left() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "warm")?;
        warm(&host, &path)?;
        host.remove_pod(&path)?;
        let before = world(&host, &[])?;
        let mounts = host.run("cat", &["/proc/self/mounts"])?;
        for round in 0..8 {
            let name = format!("p{round}");
            let (pod, path) = host.pod(&name)?;
            drop(pod);
            let add = Call::new("ADD", &name, &path, &alone("1.0.0"));
            let running = add.start(&host)?;
            // Whatever it has done by then: the moment moves from round to round.
            thread::park_timeout(Duration::from_millis(round));
            host.remove_pod(&path)?;
            let answer = running.answer()?;
            if answer.code != Some(0) {
                answer.failure()?;
                check(held(&host).is_empty(), || format!("round {round}: {:?}", held(&host)))?;
            }
            add.verb("DEL").execute(&host)?.silent()?;
            check(held(&host).is_empty(), || format!("round {round}: {:?}", held(&host)))?;
        }
        same("eight pods that went away", &before, &world(&host, &[])?)?;
        let found = host.run("cat", &["/proc/self/mounts"])?;
        check(found == mounts, || format!("mounts: {found}"))
    });
}

#[test]
fn l3_l4_first_calls_at_once_on_a_host_where_nothing_is_yet() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mut other = ranges(json!([[{"subnet": "10.8.0.0/28"}], [{"subnet": "fd00:8::/64"}]]));
        other["name"] = "other".into();
        let mut calls = Vec::new();
        let mut pods = Vec::new();
        for number in 0..4 {
            let (pod, path) = host.pod(&format!("p{number}"))?;
            let add = Call::new("ADD", &format!("p{number}"), &path, &alone("1.1.0"));
            // Two interfaces of one pod, and a network beside.
            calls.push(add.clone().interface("net1"));
            calls.push(add.clone().interface("net2").configured(&other));
            calls.push(add);
            wire::set_up(&pod, "lo")?;
            pods.push((pod, path));
        }
        let answers = at_once(&host, &calls)?;
        let mut given = BTreeSet::new();
        for answer in &answers {
            given.extend(addresses(&answer.result()?)?);
        }
        check(given.len() == 2 * calls.len(), || format!("{given:?}"))?;
        for (pod, _) in &pods {
            let _responder = Responder::start(pod)?;
            let found = look(pod, "ip", &["-j", "address"])?;
            let reached: Vec<_> =
                found.as_array().into_iter().flatten().flat_map(|link| field(&link["addr_info"], "local")).collect();
            for address in given.iter().filter(|address| reached.contains(&address.to_string())) {
                exchange(&host, *address)?;
            }
        }
        let gone: Vec<_> = calls.into_iter().map(|call| call.verb("DEL")).collect();
        at_once(&host, &gone)?.iter().try_for_each(Answer::silent)?;
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("{links:?}"))?;
        same("the ledger", &json!({}), &ledger(&host))
    });
}

#[test]
fn l2_whatever_is_done_in_whatever_order_ledger_and_kernel_agree() {
    const PODS: usize = 6;
    scene(1, |lab| {
        let mut pods = Vec::new();
        for number in 0..PODS {
            let (host, pod, path) = bare(lab, &format!("p{number}"))?;
            warm(&host, &path)?;
            pods.push((Responder::start(&pod)?, pod, path));
        }
        let host = lab.nodes[0].host.clone();
        let before = world(&host, &[])?;
        let valid: Value =
            (0..PODS).map(|number| json!({"containerID": format!("p{number}"), "ifname": "eth0"})).collect();
        let gc = changed(&alone("1.1.0"), "/cni.dev~1valid-attachments", valid);
        let life = |number: usize| -> Outcome<Option<Value>> {
            let add = Call::new("ADD", &format!("p{number}"), &pods[number].2, &alone("1.1.0"));
            let mut attached = None;
            // A run of numbers that has no order and is the same every time (Knuth's multiplicative hash).
            for step in 0_usize..8 {
                let dice = (number * 8 + step + 1).wrapping_mul(2_654_435_761) >> 7;
                match (dice % 4, attached.take()) {
                    (0, held) => {
                        add.clone().verb("GC").configured(&gc).execute(&host)?.silent()?;
                        attached = held;
                    }
                    (1 | 2, Some(result)) => {
                        let checked = changed(&alone("1.1.0"), "/prevResult", result);
                        add.clone().verb("CHECK").configured(&checked).execute(&host)?.silent()?;
                        attached = Some(checked["prevResult"].clone());
                    }
                    (_, Some(_)) => add.clone().verb("DEL").execute(&host)?.silent()?,
                    (_, None) => attached = Some(add.execute(&host)?.result()?),
                }
            }
            Ok(attached)
        };
        let lives = thread::scope(|scope| {
            let lives: Vec<_> = (0..PODS).map(|number| scope.spawn(move || life(number))).collect();
            lives
                .into_iter()
                .map(|life| life.join().map_err(|_| "a thread panicked".to_owned())?)
                .collect::<Outcome<Vec<_>>>()
        })?;
        let alive: Vec<_> = lives.iter().flatten().collect();
        let mut given = BTreeSet::new();
        for result in &alive {
            for address in addresses(result)? {
                exchange(&host, address)?;
                given.insert(address);
            }
        }
        check(!alive.is_empty() && given.len() == 2 * alive.len(), || format!("{given:?} for {} pods", alive.len()))?;
        check(held(&host).len() == 3 * alive.len(), || format!("{:?}", held(&host)))?;
        for (number, (_, _, path)) in pods.iter().enumerate() {
            Call::new("DEL", &format!("p{number}"), path, &alone("1.1.0")).execute(&host)?.silent()?;
        }
        same("the end of all", &before, &world(&host, &[])?)
    });
}

#[test]
fn h3_h4_an_interface_of_an_earlier_plugin_is_not_taken_over() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        pod.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "far"])?;
        let mut chained = alone("1.1.0");
        chained["prevResult"] = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": path.display().to_string()}],
            "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        });
        let add = Call::new("ADD", "p1", &path, &chained);
        fails(&unchanged("adoption", &host, &[&pod], &add)?, 7, "prevResult has interface eth0 of this pod already")?;
        // Beside it there is room for another.
        add.clone().interface("net1").execute(&host)?.result()?;
        add.interface("net1").verb("DEL").execute(&host)?.silent()
    });
}

#[test]
fn b2_an_address_that_was_anothers_a_moment_ago_is_reached_at_once() {
    scene(1, |lab| {
        let (host, friend, friends_path) = bare(lab, "friend")?;
        Call::new("ADD", "friend", &friends_path, &alone("1.0.0")).execute(&host)?.result()?;
        for name in ["p1", "p2", "p3"] {
            let (_, pod, path) = bare(lab, name)?;
            let wish = changed(&alone("1.0.0"), "/runtimeConfig", json!({"ips": ["10.7.0.9", "fd00:7::9"]}));
            let add = Call::new("ADD", name, &path, &wish);
            let result = add.execute(&host)?.result()?;
            let _responder = Responder::start(&pod)?;
            for address in addresses(&result)? {
                exchange(&host, address)?;
                exchange(&friend, address)?;
            }
            add.verb("DEL").execute(&host)?.silent()?;
        }
        Ok(())
    });
}

#[test]
fn b5_an_advertised_default_route_outlives_the_forwarding_that_add_turns_on() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let advertised = "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra; ip -6 route delete default
            ip -6 route add default via fe80::99 dev eth0 proto ra";
        host.run("sh", &["-ec", advertised])?;
        Call::new("ADD", "p1", &path, &alone("1.0.0")).execute(&host)?.result()?;
        let found = (setting(&host, "ipv6/conf/all/forwarding")?, setting(&host, "ipv6/conf/eth0/accept_ra")?);
        check(found == ("1".into(), "2".into()), || format!("forwarding and accept_ra of eth0 are {found:?}"))
    });
}

#[test]
fn l11_b18_reboots_free_everything_and_no_del_is_missed() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let five = ranges(json!([[{"subnet": "10.7.0.0/29"}]]));
        for boot in 0..4 {
            let mut attached = Vec::new();
            for number in 0..4 {
                let name = format!("p{boot}-{number}");
                let (pod, path) = host.pod(&name)?;
                let add = Call::new("ADD", &name, &path, &five);
                add.execute(&host)?.result().map_err(|why| format!("boot {boot}: {why}"))?;
                attached.push((pod, path, add));
                // Its record and its claim: nothing of the boot before is held, though there was room for it.
                let held = held(&host).len();
                check(held == 2 * attached.len(), || format!("boot {boot}: {held} files for {}", attached.len()))?;
            }
            // The machine goes down without a word: the pods have gone, and what is on a disk is still there.
            for (pod, path, _) in &attached {
                pod.run("ip", &["link", "delete", "eth0"])?;
                host.remove_pod(path)?;
            }
            host.run("sh", &["-c", &format!("echo boot {boot} > /run/podwire/net/boot")])?;
            // The runtime deletes some of them as it comes up.
            if boot % 2 == 0 {
                for (_, _, add) in &attached {
                    add.clone().verb("DEL").execute(&host)?.silent()?;
                }
                check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
            }
        }
        // Or /run is new.
        host.run("rm", &["-r", "/run/podwire"])?;
        Call::new("DEL", "p3-0", Path::new(""), &five).execute(&host)?.silent()
    });
}

#[test]
fn l12_x7_a_state_directory_that_cannot_be_written_fails_an_add_and_nothing_else_happens() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        host.run("sh", &["-ec", "mount --bind /run/podwire /run/podwire; mount -o remount,bind,ro /run/podwire"])?;
        fails(&unchanged("read-only", &host, &[&pod], &add)?, 5, "Read-only file system")?;
        host.run("umount", &["--lazy", "/run/podwire"])?;

        // As full as can be: so many files and no more. Each time there is room for one more than the time before.
        let before = (state(&host)?, state(&pod)?);
        let mut succeeded = 0;
        for files in 4..20 {
            host.run("mount", &["-t", "tmpfs", "-o", &format!("nr_inodes={files}"), "none", "/run/podwire"])?;
            let answer = add.execute(&host)?;
            match answer.code {
                Some(0) => {
                    succeeded += 1;
                    add.clone().verb("DEL").execute(&host)?.silent()?;
                }
                _ => fails(&answer, 5, "No space left on device").map_err(|why| format!("{files} files: {why}"))?,
            }
            check(held(&host).is_empty(), || format!("{files} files: {:?}", held(&host)))?;
            // Lazily: what removes a device may have its files open a little longer.
            host.run("umount", &["--lazy", "/run/podwire"])?;
            if succeeded == 2 {
                break;
            }
        }
        check(succeeded == 2, || "not even with the most files".into())?;
        same("the host", &before.0, &state(&host)?)?;
        same("the pod", &before.1, &state(&pod)?)?;

        // Room for files, but not for what is in them.
        host.run("mount", &["-t", "tmpfs", "-o", "size=16k", "none", "/run/podwire"])?;
        host.run("sh", &["-c", "head -c 1000000 /dev/zero > /run/podwire/filler 2>/dev/null || :"])?;
        let answer = add.execute(&host)?;
        fails(&answer, 5, "No space left on device")?;
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("{links:?}"))
    });
}

#[test]
fn l14_a_strangers_device_of_that_name_is_left_alone() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        let name = outer(&add.execute(&host)?.result()?);
        add.clone().verb("DEL").execute(&host)?.silent()?;
        host.run("ip", &["link", "add", &name, "type", "veth", "peer", "name", "far"])?;
        let answer = unchanged("a device in the way", &host, &[&pod], &add)?;
        fails(&answer, 102, "File exists")?;
        check(answer.output.contains("is on the host already"), || answer.output.clone())
    });
}

#[test]
fn l20_b22_an_add_costs_the_same_however_many_pods_there_are() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let wide = ranges(json!([[{"subnet": "10.0.0.0/8"}]]));
        let add = Call::new("ADD", "p1", &path, &wide);
        // Counted and not timed: what a call asks of the kernel does not depend on what else the machine does.
        let count = |what: &str| -> Outcome<usize> {
            let traced = add.clone().by("exec strace -f -o /run/trace \"$0\"").execute(&host)?;
            traced.result().map_err(|why| format!("{what}: {why}"))?;
            add.clone().verb("DEL").execute(&host)?.silent()?;
            Ok(host.enter(|| std::fs::read_to_string("/run/trace")).map_err(|error| error.to_string())?.lines().count())
        };
        count("the first")?;
        let few = count("few")?;
        // What 4000 pods leave in the ledger.
        host.enter(|| -> std::io::Result<()> {
            for number in 0_u32..4000 {
                let record = format!("../attachments/{number:016x}");
                let directory = Path::new("/run/podwire/net");
                std::fs::write(directory.join("claims").join(&record), "{}")?;
                let address = std::net::Ipv4Addr::from(0x0a80_0000 + number);
                std::os::unix::fs::symlink(record, directory.join("claims").join(address.to_string()))?;
            }
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        let many = count("many")?;
        check(many < few + few / 2, || format!("{few} system calls, and {many} among 4000 pods"))
    });
}
