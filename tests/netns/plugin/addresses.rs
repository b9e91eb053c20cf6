//! Which addresses an ADD assigns: from ranges, on request, in order, and never one twice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, field, json as look, same, scene};
use serde_json::json;

use super::attachment::{addresses, changed, fails, snapshot, unchanged};
use super::stage::{alone, at_once, bare, held, ranges};

#[test]
fn p7_l21_networks_are_independent_and_never_assign_one_address_twice() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let first = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        let given = addresses(&first.execute(&host)?.result()?)?;
        // The same ranges under another name, as when two runtimes have a configuration each.
        let second = first.clone().configured(&changed(&alone("1.1.0"), "/name", "other".into()));
        fails(&unchanged("the same interface", &host, &[&pod], &second)?, 102, "File exists")?;
        let before = snapshot(&host, &[&pod])?;
        let second = second.interface("net1");
        let others = addresses(&second.execute(&host)?.result()?)?;
        check(others.iter().all(|address| !given.contains(address)), || format!("{given:?} and {others:?}"))?;
        second.clone().verb("DEL").execute(&host)?.silent()?;
        same("the first network", &before, &snapshot(&host, &[&pod])?)?;
        // Nor is anything of the second's a DEL in the first.
        second.execute(&host)?.result()?;
        first.clone().interface("net1").verb("DEL").execute(&host)?.silent()?;
        first.verb("DEL").execute(&host)?.silent()?;
        let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "net1"] && held(&host).is_empty(), || format!("{links:?}"))
    });
}

#[test]
fn p8_a10_a11_i6_i7_i9_x7_a_requested_address_or_mac_is_assigned_or_the_error_says_why_not() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let (_, second, second_path) = bare(lab, "p2")?;
        let plain = alone("1.1.0");
        let mut capable = plain.clone();
        capable["runtimeConfig"] = json!({"ips": ["10.7.0.9/24", "fd00:7::9"], "mac": "02:00:00:00:00:09"});
        let mut conventional = plain.clone();
        conventional["args"] = json!({"cni": {"ips": ["10.7.0.10"], "mac": "02:00:00:00:00:0a"}});
        let requests = [
            (&plain, "IP=10.7.0.8", "10.7.0.8", None),
            (&plain, "IP=10.7.0.8/24;MAC=02:00:00:00:00:08", "10.7.0.8", Some("02:00:00:00:00:08")),
            (&conventional, "IgnoreUnknown=1", "10.7.0.10", Some("02:00:00:00:00:0a")),
            (&capable, "MAC=02:00:00:00:00:08", "10.7.0.9", Some("02:00:00:00:00:09")),
        ];
        for (configuration, arguments, address, mac) in requests {
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
        let before = snapshot(&host, &[&pod, &second])?;
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
        same("refused requests", &before, &snapshot(&host, &[&pod, &second])?)
    });
}

#[test]
fn i3_i12_i13_a_whole_range_is_assigned_concurrently_including_leases_of_dead_pods() {
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
fn i10_i11_ranges_of_the_runtime_come_before_the_configured_ones() {
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
fn b2_a_reused_address_is_reached_at_once() {
    scene(1, |lab| {
        let (host, friend, friends_path) = bare(lab, "friend")?;
        Call::new("ADD", "friend", &friends_path, &alone("1.0.0")).execute(&host)?.result()?;
        for name in ["p1", "p2", "p3"] {
            let (_, pod, path) = bare(lab, name)?;
            let request = changed(&alone("1.0.0"), "/runtimeConfig", json!({"ips": ["10.7.0.9", "fd00:7::9"]}));
            let add = Call::new("ADD", name, &path, &request);
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
fn l20_b22_the_duration_of_an_add_does_not_depend_on_the_number_of_pods() {
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
