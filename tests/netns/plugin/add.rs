//! ADD: what a pod gets, and what its namespace may be like.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, field, json as look, reaches, same, scene};
use serde_json::{Value, json};

use super::attachment::{addresses, changed, fails, snapshot};
use super::stage::{alone, bare, held, ranges, setting, warm};

#[test]
fn p6_d15_a_second_interface_works_as_the_first_and_each_survives_the_others_del() {
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
fn p9_check_and_del_accept_any_path_to_the_namespace() {
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
fn p10_e14_an_interface_has_the_requested_name_or_there_is_none() {
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
fn p11_b7_b9_both_ends_have_the_uplinks_mtu_and_macs_that_udev_leaves_alone() {
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
fn p12_the_loopback_may_be_down_or_up_or_coming_up() {
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
fn p13_b3_b10_ipv6_works_where_it_was_disabled_and_survives_a_link_down() {
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
fn p13_ipv4_alone_needs_no_ipv6_in_the_kernel() {
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
fn p16_p17_the_pod_has_the_configured_routes_and_no_others() {
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
        let before = snapshot(&host, &[])?;
        let add = Call::new("ADD", "p1", Path::new(&path), &alone("1.1.0"));
        let result = add.execute(&host)?.result()?;
        for address in addresses(&result)? {
            let ping = if address.is_ipv4() { "-4" } else { "-6" };
            host.run("ping", &[ping, "-c", "1", "-W", "1", &address.to_string()])?;
        }
        let checked = changed(&alone("1.1.0"), "/prevResult", result);
        add.clone().verb("CHECK").configured(&checked).execute(&host)?.silent()?;
        add.verb("DEL").execute(&host)?.silent()?;
        same("DEL", &before, &snapshot(&host, &[])?)
    });
}
