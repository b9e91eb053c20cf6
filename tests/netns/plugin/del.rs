//! DEL: it needs neither the pod nor its configuration, takes away what is this attachment's and nothing else, and when it
//! has answered nobody can tell that the pod was there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, field, json as look, same, scene};
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::{Value, json};

use super::attachment::{addresses, changed, fails, host_device, ledger, snapshot, unchanged};
use super::stage::{alone, bare, held};

/// A node on which an ADD has been before, as it was before the pod was attached, and the pod, attached.
struct Attached {
    host: Host,
    pod: Host,
    path: PathBuf,
    before: Value,
    add: Call,
    result: Value,
}

impl Attached {
    fn new(lab: &Lab, configuration: &Value) -> Outcome<Self> {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, configuration);
        add.execute(&host)?.result()?;
        add.clone().verb("DEL").execute(&host)?.silent()?;
        let before = snapshot(&host, &[])?;
        let result = add.execute(&host)?.result()?;
        Ok(Self { host, pod, path, before, add, result })
    }

    fn del(&self) -> Call {
        self.add.clone().verb("DEL")
    }

    /// That nothing of it is left on the node.
    #[track_caller]
    fn is_gone(&self, what: &str) -> Outcome {
        same(what, &self.before, &snapshot(&self.host, &[])?)
    }
}

#[test]
fn d6_a_path_that_is_no_namespace_any_more_does_not_stop_del() {
    for path in ["/run/netns/plain", "/run/netns", "/proc/self/ns/mnt", "/proc/999999/ns/net", "/run/pipe", "/dev/null"]
    {
        scene(1, |lab| {
            let attached = Attached::new(lab, &alone("1.0.0"))?;
            attached.host.run("sh", &["-c", "touch /run/netns/plain; mkfifo /run/pipe"])?;
            attached.del().with("CNI_NETNS", path).execute(&attached.host)?.silent()?;
            attached.is_gone(path)
        });
    }
}

#[test]
fn d6_nor_does_it_stop_the_del_of_a_second_interface() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        let second = attached.add.clone().interface("net1");
        second.execute(&attached.host)?.result()?;
        attached.host.run("touch", &["/run/netns/plain"])?;
        second.verb("DEL").with("CNI_NETNS", "/run/netns/plain").execute(&attached.host)?.silent()?;
        check(held(&attached.host).len() == 3, || format!("not the first one's only: {:?}", held(&attached.host)))
    });
}

#[test]
fn d7_d15_an_interface_of_that_name_in_another_namespace_is_kept() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        let (other, path) = attached.host.pod("other")?;
        let add = Call::new("ADD", "other", &path, &alone("1.0.0"));
        add.execute(&attached.host)?.result()?;
        let kept = snapshot(&attached.host, &[&other])?;
        // The number of a process that had ended was given again: the path now leads to another pod, or to the node.
        for netns in [path.display().to_string(), "/proc/self/ns/net".into()] {
            let again = attached.add.clone().execute(&attached.host)?;
            check(again.code.is_some(), || format!("{again:?}"))?;
            attached.del().with("CNI_NETNS", &netns).execute(&attached.host)?.silent()?;
            let found = snapshot(&attached.host, &[&other])?;
            same("the other pod", &kept["other"], &found["other"])?;
            let links = field(&look(&attached.host, "ip", &["-j", "link"])?, "ifname");
            check(links.len() == 3 && links.contains(&"eth0".into()), || format!("{netns}: {links:?}"))?;
            check(held(&attached.host).len() == 3, || format!("{netns}: {:?}", held(&attached.host)))?;
        }
        add.verb("DEL").execute(&attached.host)?.silent()?;
        attached.is_gone("both")
    });
}

#[test]
fn d8_h8_h9_what_is_already_gone_is_no_error() {
    let ways: [(&str, &str, bool); 5] = [
        ("the interface", "ip link delete eth0", true),
        ("its addresses and routes", "ip address flush dev eth0; ip route flush dev eth0; ip link set eth0 down", true),
        ("its name", "ip link set eth0 down; ip link set eth0 name tuned mtu 1300 address 02:00:00:00:00:99", true),
        ("the host's end", "ip link delete OUTER", false),
        (
            "its routes and neighbours",
            "ip route flush proto 113; ip -6 route flush proto 113; ip neighbour flush dev OUTER nud all",
            false,
        ),
    ];
    for (what, line, in_pod) in ways {
        scene(1, |lab| {
            let attached = Attached::new(lab, &alone("1.0.0"))?;
            let end = if in_pod { &attached.pod } else { &attached.host };
            end.run("sh", &["-ec", &line.replace("OUTER", &host_device(&attached.result))])?;
            attached.del().execute(&attached.host)?.silent()?;
            attached.is_gone(what)?;
            let links = field(&look(&attached.pod, "ip", &["-j", "link"])?, "ifname");
            check(links == ["lo"], || format!("{what}: {links:?}"))
        });
    }
}

#[test]
fn d9_d10_d11_d12_a12_del_needs_only_the_attachments_key() {
    scene(1, |lab| {
        let mut rich = alone("1.0.0");
        rich["capabilities"] = json!({"portMappings": true, "ips": true});
        rich["runtimeConfig"] = json!({
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "ips": ["10.7.0.9"],
        });
        let attached = Attached::new(lab, &rich)?;
        let (host, plain) = (&attached.host, alone("1.0.0"));
        let previous = |value: Value| changed(&plain, "/prevResult", value);
        let configurations = [
            ("without a result", plain.clone()),
            ("with ADD's result", previous(attached.result.clone())),
            ("with garbage for a result", previous(json!("garbage"))),
            ("with a result of another version", previous(json!({"cniVersion": "9.9.9", "ips": 7}))),
            ("with another's addresses", previous(json!({"ips": [{"address": "10.7.0.12/32", "interface": 77}]}))),
            ("with another range", changed(&plain, "/ipam/ranges", json!([[{"subnet": "192.0.2.0/24"}]]))),
            ("with nothing but a name", json!({"cniVersion": "1.0.0", "name": "net"})),
            (
                "with nonsense",
                json!({
                    "cniVersion": "1.0.0", "name": "net", "mtu": -1, "ipMasq": "perhaps", "ipam": 7, "dns": [],
                    "runtimeConfig": {"portMappings": [{"hostPort": -1}], "ips": "x", "mac": 7, "bandwidth": []}, "args": 7,
                }),
            ),
            (
                "with other ports",
                changed(
                    &plain,
                    "/runtimeConfig",
                    json!({"portMappings": [{"hostPort": 9, "containerPort": 9, "protocol": "udp"}]}),
                ),
            ),
        ];
        for (what, configuration) in configurations {
            attached.add.execute(host)?;
            check(held(host).len() == 3, || format!("{what}: {:?}", held(host)))?;
            let mut del = attached.del().configured(&configuration);
            if what != "with ADD's result" {
                del = del.with("CNI_ARGS", "garbage;IP=10.7.0.12");
            }
            del.execute(host)?.silent().map_err(|why| format!("{what}: {why}"))?;
            same(what, &attached.before["the ledger"], &ledger(host))?;
        }
        attached.is_gone("nine DELs")?;
        // What is really needed is said, and nothing is done.
        attached.add.execute(host)?.result()?;
        for (del, code) in [
            (attached.del().configured(&json!({"cniVersion": "1.0.0"})), 7),
            (attached.del().without("CNI_CONTAINERID"), 4),
            (attached.del().without("CNI_IFNAME"), 4),
        ] {
            fails(&unchanged("less than the key", host, &[&attached.pod], &del)?, code, "missing")?;
        }
        attached.del().execute(host)?.silent()
    });
}

#[test]
fn d13_d14_an_address_stays_reserved_while_it_is_routed_to_a_device_that_cannot_be_removed() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        let holds = held(&attached.host);
        // It may write to the ledger, and must not change the network.
        let powerless = "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin \"$0\"";
        let del = attached.del();
        fails(&del.clone().by(powerless).execute(&attached.host)?, 102, "Operation not permitted")?;
        check(held(&attached.host) == holds, || format!("{:?}", held(&attached.host)))?;
        del.execute(&attached.host)?.silent()?;
        attached.is_gone("a second DEL")
    });
}

#[test]
fn d16_f6_a_late_del_does_not_touch_the_new_owner_of_the_address() {
    scene(1, |lab| {
        let one = changed(&alone("1.0.0"), "/ipam/ranges", json!([[{"subnet": "10.7.0.0/30"}]]));
        let attached = Attached::new(lab, &one)?;
        // The DEL of the first was lost with its pod; its address went to the next.
        attached.pod.run("ip", &["link", "delete", "eth0"])?;
        attached.host.remove_pod(&attached.path)?;
        let (_, second, path) = bare(lab, "p2")?;
        let result = Call::new("ADD", "p2", &path, &one).execute(&attached.host)?.result()?;
        check(addresses(&result)? == addresses(&attached.result)?, || result.to_string())?;
        let _responder = Responder::start(&second)?;
        unchanged("the late DEL", &attached.host, &[&second], &attached.del())?.silent()?;
        exchange(&attached.host, addresses(&result)?[0]).map(drop)
    });
}

#[test]
fn d17_l12_del_works_on_a_full_disk_and_without_a_ledger() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        let host = &attached.host;
        // Full of files, and full of bytes.
        let full = "cp -a /run/podwire /run/copy; mount -t tmpfs -o size=64k,nr_inodes=64 none /run/podwire; cp -a /run/copy/. /run/podwire
            head -c 1000000 /dev/zero > /run/podwire/filler 2>/dev/null || :
            for number in $(seq 100); do touch /run/podwire/filler$number || break; done 2>/dev/null; true";
        host.run("sh", &["-c", full])?;
        attached.del().execute(host)?.result()?;
        check(held(host).is_empty(), || format!("{:?}", held(host)))?;
        host.run("umount", &["--lazy", "/run/podwire"])?;
        attached.del().execute(host)?.silent()?;
        attached.is_gone("DEL on a full disk")?;

        attached.add.execute(host)?.result()?;
        host.run("rm", &["-r", "/run/podwire"])?;
        attached.del().execute(host)?.silent()?;
        check(!host.enter(|| Path::new("/run/podwire").exists()), || "DEL has made a ledger".into())?;
        let links = field(&look(host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("{links:?}"))?;

        // One that may be read only: the device goes, and what is left is reported.
        attached.add.execute(host)?.result()?;
        host.run("sh", &["-ec", "mount --bind /run/podwire /run/podwire; mount -o remount,bind,ro /run/podwire"])?;
        let (code, message) = attached.del().execute(host)?.failure()?;
        check(code == 5 && message.contains("Read-only file system"), || format!("{code} {message}"))?;
        host.run("umount", &["--lazy", "/run/podwire"])?;
        attached.del().execute(host)?.silent()?;
        attached.is_gone("DEL once it may write")
    });
}

#[test]
fn d18_t4_del_during_add_waits_for_it_and_leaves_nothing() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        attached.del().execute(&attached.host)?.silent()?;
        for round in 0..10 {
            let add = attached.add.start(&attached.host)?;
            // The moment moves from round to round.
            std::thread::park_timeout(Duration::from_millis(round));
            let del = attached.del().start(&attached.host)?;
            let (added, deleted) = (add.answer()?, del.answer()?);
            deleted.silent()?;
            added.result()?;
            // Whichever had the lock first.
            attached.del().execute(&attached.host)?.silent()?;
            check(held(&attached.host).is_empty(), || format!("round {round}: {:?}", held(&attached.host)))?;
        }
        attached.is_gone("ten pairs")
    });
}

#[test]
fn d19_b23_records_of_this_version_are_read_by_every_later_one() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        let host = &attached.host;
        // As it was written when versions began to have to agree: what follows from it must never change.
        let record = "{\"attachment\":{\"network\":\"net\",\"container\":\"old\",\"interface\":\"eth0\"},\
                      \"addresses\":[{\"address\":\"10.7.0.12\",\"set\":\"0123456789abcdef\"},{\"address\":\"fd00:7::12\"}]}";
        let (name, outer) = ("6fc0503895296252", "pw01tf9a4ud9ct4");
        let make = format!(
            "cd /run/podwire/net; printf '%s' '{record}' > attachments/{name}; ln -s ../attachments/{name} claims/10.7.0.12
             ip link add {outer} type veth peer name old; ip link set {outer} up; ip route add 10.7.0.12/32 dev {outer} proto 113"
        );
        host.run("sh", &["-ec", &make])?;
        Call::new("DEL", "old", Path::new(""), &alone("1.0.0")).execute(host)?.silent()?;
        attached.del().execute(host)?.silent()?;
        attached.is_gone("DEL of an old record")
    });
}

#[test]
fn d20_l9_del_answers_quickly_and_no_child_keeps_its_output_open() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        for _ in 0..10 {
            check(!attached.del().start(&attached.host)?.is_outlived()?, || {
                "a child of DEL has its output open".into()
            })?;
            attached.add.execute(&attached.host)?.result()?;
        }
        let answer = attached.del().execute(&attached.host)?;
        answer.silent()?;
        check(answer.took < Duration::from_secs(1), || format!("took {:?}", answer.took))?;
        attached.add.execute(&attached.host)?.result()?;
        let second = attached.add.clone().interface("net1");
        check(!second.start(&attached.host)?.is_outlived()?, || "a child of ADD has its output open".into())
    });
}

#[test]
fn d1_b1_after_del_there_is_no_trace_of_the_pod() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.0.0"))?;
        let (host, pod) = (&attached.host, &attached.pod);
        let device = host_device(&attached.result);
        let links = |end: &Host| -> Outcome<Vec<String>> { Ok(field(&look(end, "ip", &["-j", "link"])?, "ifname")) };
        for _ in 0..10 {
            attached.del().execute(host)?.silent()?;
            // The names are free, on both sides, for whoever comes first.
            host.run(
                "ip",
                &[
                    "link",
                    "add",
                    &device,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    &attached.path.display().to_string(),
                ],
            )?;
            host.run("ip", &["link", "delete", &device])?;
            check(links(pod)? == ["lo"] && links(host)? == ["lo", "eth0"], || {
                format!("{:?} {:?}", links(pod), links(host))
            })?;
            let routes = host.run("ip", &["route", "show", "table", "all", "proto", "113"])?;
            check(routes.is_empty(), || routes)?;
            // The same attachment again, at once.
            let result = attached.add.execute(host)?.result()?;
            check(host_device(&result) == device, || result.to_string())?;
            let _responder = Responder::start(pod)?;
            for address in addresses(&result)? {
                exchange(host, address)?;
            }
        }
        Ok(())
    });
}

#[test]
fn d5_the_namespace_can_be_removed_as_soon_as_del_has_answered() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        add.execute(&host)?.result()?;
        let of_pod = "readlink /proc/self/ns/net";
        let name = pod.run("sh", &["-c", of_pod])?;
        drop(pod);
        add.verb("DEL").execute(&host)?.silent()?;
        host.remove_pod(&path)?;
        // Nobody has it open any more, not even a child of DEL: it is not in the list of the world's namespaces.
        eventually(SOON, || {
            let open = host
                .run("sh", &["-c", "ls -l /proc/[0-9]*/fd /proc/[0-9]*/ns 2>/dev/null | grep -F \"$0\" || :", &name])?;
            check(open.is_empty(), || open)
        })
    });
}
