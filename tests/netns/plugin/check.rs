//! CHECK: whatever is not as ADD made it is reported, foreign additions are not, and nothing is changed.

use std::path::{Path, PathBuf};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{Outcome, check, same, scene};
use podwire_tests::lab::{Lab, wire};
use serde_json::{Value, json};

use super::attachment::{changed, fails, host_device, snapshot, unchanged};
use super::stage::{alone, bare, held};

/// An attached pod, and what ADD has answered.
struct Attached {
    host: Host,
    pod: Host,
    path: PathBuf,
    configuration: Value,
    result: Value,
}

impl Attached {
    fn new(lab: &Lab, configuration: &Value) -> Outcome<Self> {
        let (host, pod, path) = bare(lab, "p1")?;
        let mut made = Self { host, pod, path, configuration: configuration.clone(), result: Value::Null };
        made.again()?;
        Ok(made)
    }

    fn call(&self, verb: &str) -> Call {
        Call::new(verb, "p1", &self.path, &self.configuration)
    }

    /// Detaches and attaches it again, whatever has become of it.
    fn again(&mut self) -> Outcome {
        self.call("DEL").execute(&self.host)?.silent()?;
        // A foreign interface in its place is not DEL's to remove.
        self.pod.run("sh", &["-c", "ip link delete eth0 2>/dev/null || :"])?;
        self.result = self.call("ADD").execute(&self.host)?.result()?;
        Ok(())
    }

    /// CHECK with what ADD has answered, `change`d by later plugins.
    fn check_with(&self, change: impl FnOnce(&mut Value)) -> Call {
        let mut result = self.result.clone();
        change(&mut result);
        self.call("CHECK").configured(&changed(&self.configuration, "/prevResult", result))
    }

    /// CHECK, which must not change anything.
    fn answer(&self, call: &Call) -> Outcome<Answer> {
        unchanged("CHECK", &self.host, &[&self.pod], call)
    }

    fn shell(&self, end: &Host, line: &str) -> Outcome {
        let line = line.replace("OUTER", &host_device(&self.result));
        end.run("sh", &["-ec", &line]).map(drop)
    }
}

#[test]
fn q1_q8_q12_check_right_after_add_succeeds_in_every_version() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        scene(1, |lab| {
            let mut attached = Attached::new(lab, &alone(version))?;
            for _ in 0..5 {
                attached.again()?;
                attached.check_with(|_| ()).execute(&attached.host)?.silent()?;
            }
            attached.answer(&attached.check_with(|_| ()))?.silent()
        });
    }
}

#[test]
fn q2_q3_q4_a_check_with_nothing_to_compare_fails() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.1.0"))?;
        let call = attached.call("CHECK");
        for none in [call.clone(), call.configured(&changed(&attached.configuration, "/prevResult", Value::Null))] {
            fails(&attached.answer(&none)?, 7, "Required prevResult missing")?;
        }
        let whole = attached.check_with(|_| ());
        let nowhere = attached.answer(&whole.clone().with("CNI_NETNS", "/run/netns/nowhere"))?;
        // Not 3, by which the runtime would learn that there is nothing to clean up.
        fails(&nowhere, 8, "/run/netns/nowhere")?;
        attached.host.run("touch", &["/run/netns/plain"])?;
        let plain = attached.answer(&whole.clone().with("CNI_NETNS", "/run/netns/plain"))?;
        fails(&plain, 8, "/run/netns/plain: it is a plain file, and no namespace is mounted on it here")?;
        type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));
        let wrong: [Change<'_>; 3] = [
            ("another name", &|result| result["interfaces"][1]["name"] = "eth1".into()),
            ("another sandbox", &|result| result["interfaces"][1]["sandbox"] = "/run/netns/p2".into()),
            ("no interface at all", &|result| result["interfaces"] = json!([])),
        ];
        for (what, change) in wrong {
            let answer = attached.answer(&attached.check_with(change))?;
            fails(&answer, 106, "prevResult has no interface eth0").map_err(|why| format!("{what}: {why}"))?;
        }
        whole.execute(&attached.host)?.silent()
    });
}

/// A damage, in words, where it is done, how, and what CHECK says of it.
type Damage = (&'static str, bool, &'static str, &'static str);

const IN_POD: bool = true;
const ON_HOST: bool = false;

fn are_reported(damages: &[Damage]) {
    scene(1, |lab| {
        let mut attached = Attached::new(lab, &alone("1.1.0"))?;
        for (place, (what, in_pod, line, text)) in damages.iter().enumerate() {
            let end = if *in_pod == IN_POD { attached.pod.clone() } else { attached.host.clone() };
            attached.shell(&end, line)?;
            let answer = attached.check_with(|_| ()).execute(&attached.host)?;
            fails(&answer, 106, text).map_err(|why| format!("{what}: {why}"))?;
            // Reported again: it was not repaired. One of them is looked at in all detail, which takes its time.
            let again = attached.check_with(|_| ());
            let again = if place == 0 { attached.answer(&again)? } else { again.execute(&attached.host)? };
            check(again.output == answer.output, || format!("{what}: {} and then {}", answer.output, again.output))?;
            attached.again()?;
            attached
                .check_with(|_| ())
                .execute(&attached.host)?
                .silent()
                .map_err(|why| format!("after {what}: {why}"))?;
        }
        Ok(())
    });
}

#[test]
fn q5_q10_a_damaged_interface_is_reported_and_not_repaired() {
    are_reported(&[
        ("deleted", IN_POD, "ip link delete eth0", "eth0 in the pod has gone"),
        ("renamed", IN_POD, "ip link set eth0 down; ip link set eth0 name eth9", "eth0 in the pod has gone"),
        ("down", IN_POD, "ip link set eth0 down", "eth0 in the pod is down"),
        (
            "another type",
            IN_POD,
            "ip link delete eth0; ip link add eth0 up type vxlan id 7 dstport 4789",
            "is a vxlan, not a veth",
        ),
        (
            "another pair",
            IN_POD,
            "ip link set eth0 down; ip link set eth0 name was; ip link add eth0 up type veth peer name x",
            "one pair",
        ),
        ("another MAC", IN_POD, "ip link set eth0 address 02:00:00:00:00:99", "link-layer address 02:00:00:00:00:99"),
        ("a larger MTU", IN_POD, "ip link set eth0 mtu 1450", "MTU 1450, not 1400"),
        ("its peer down", ON_HOST, "ip link set OUTER down", "on the host is down"),
        ("its peer gone", ON_HOST, "ip link delete OUTER", "has gone"),
    ]);
}

#[test]
fn q5_q10_a_lost_address_or_route_of_the_pod_is_reported_and_not_repaired() {
    are_reported(&[
        ("IPv4 address", IN_POD, "ip -4 address flush dev eth0", "lost address 10.7.0."),
        ("IPv6 address", IN_POD, "ip -6 address flush dev eth0 scope global", "lost address fd00:7::"),
        (
            "IPv4 prefix",
            IN_POD,
            "a=$(ip -4 -br address show eth0 | grep -o '10[.0-9]*' | head -1); ip address delete $a/32 dev eth0; ip address add $a/24 dev eth0
             ip route add default via 169.254.1.1 dev eth0 onlink",
            "lost address 10.7.0.",
        ),
        ("IPv4 route", IN_POD, "ip -4 route delete default", "lost its route to 0.0.0.0/0"),
        ("IPv6 route", IN_POD, "ip -6 route delete default", "lost its route to ::/0"),
    ]);
}

#[test]
fn q5_q10_a_damaged_route_to_the_pod_is_reported_and_not_repaired() {
    are_reported(&[
        ("IPv4 route", ON_HOST, "ip -4 route flush proto 113", "lost its route to 10.7.0."),
        ("IPv6 route", ON_HOST, "ip -6 route flush proto 113", "lost its route to fd00:7::"),
        (
            "IPv4 route elsewhere",
            ON_HOST,
            "ip -4 route replace $(ip -4 route show proto 113 | cut -d' ' -f1) dev lo proto 113",
            "lost its route to 10.7.0.",
        ),
        (
            "IPv6 route elsewhere",
            ON_HOST,
            "d=$(ip -6 route show proto 113 | cut -d' ' -f1); ip -6 route flush proto 113; ip -6 route add $d dev lo proto 113",
            "lost its route to fd00:7::",
        ),
        ("neighbours", ON_HOST, "ip neighbour flush dev OUTER nud permanent", "lost its neighbour 10.7.0."),
        ("IPv4 forwarding", ON_HOST, "echo 0 > /proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward is not 1"),
        (
            "IPv6 forwarding",
            ON_HOST,
            "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
            "net/ipv6/conf/all/forwarding is not 1",
        ),
        ("reservation", ON_HOST, "rm /run/podwire/net/attachments/*", "ledger has no record of interface eth0"),
        ("claim", ON_HOST, "rm /run/podwire/net/claims/10.7.0.*", "ledger does not hold 10.7.0."),
        (
            "claim of another",
            ON_HOST,
            "cd /run/podwire/net/claims; for claim in fd00*; do ln -sfn ../attachments/0123456789abcdef $claim; done",
            "ledger does not hold fd00:7::",
        ),
    ]);
}

#[test]
fn q6_q7_h7_foreign_additions_are_no_defect() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.1.0"))?;
        let more = "
            ip address add 192.0.2.9/24 dev eth0; ip address add 2001:db8::9/64 dev eth0 nodad
            ip link add extra up type veth peer name more; ip link set more up; ip link set eth0 txqueuelen 500
            ip route add 198.51.100.0/24 dev eth0; ip rule add from 192.0.2.9 table 77; ip route add default dev extra table 77
            echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify";
        attached.shell(&attached.pod, more)?;
        attached.shell(
            &attached.host,
            "ip link add ifb7 up type veth peer name ifb8; ip link set ifb8 up; ip route add 203.0.113.0/24 dev OUTER",
        )?;
        attached.answer(&attached.check_with(|_| ()))?.silent()?;

        let more = |result: &mut Value| {
            let ends = result["interfaces"].as_array_mut().unwrap();
            ends.push(json!({"name": "ifb7", "mac": "02:00:00:00:00:01"}));
            result["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.9/24", "interface": 1}));
            // Somewhere else, so none of this interface's concern.
            result["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.77/24", "interface": 2}));
            result["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.78/24"}));
            result["routes"].as_array_mut().unwrap().push(json!({"dst": "198.51.100.0/24"}));
            result["dns"] = json!({"nameservers": ["192.0.2.53"]});
        };
        attached.answer(&attached.check_with(more))?.silent()?;
        let lost = |result: &mut Value| {
            result["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.10/24", "interface": 1}));
        };
        fails(&attached.answer(&attached.check_with(lost))?, 106, "lost address 192.0.2.10/24")?;
        let lost = |result: &mut Value| {
            result["routes"].as_array_mut().unwrap().push(json!({"dst": "198.51.100.0/25"}));
        };
        fails(&attached.answer(&attached.check_with(lost))?, 106, "lost its route to 198.51.100.0/25")?;

        // As the plugins tuning and sbr do it: another MTU, the default routes in another table and with another gateway.
        attached.shell(&attached.pod, "ip link set eth0 mtu 1300; ip -4 route flush exact default")?;
        attached.shell(&attached.pod, "ip route add default via 192.0.2.1 dev eth0 table 100")?;
        let of_tuning = |result: &mut Value| result["interfaces"][1]["mtu"] = json!(1300);
        attached.answer(&attached.check_with(of_tuning))?.silent()?;
        // tuning does not tell that the MTU is smaller now.
        attached.answer(&attached.check_with(|_| ()))?.silent()?;

        // A link-layer address that was changed behind podwire is a pod that nobody reaches: the host sends to the old one.
        attached.shell(&attached.pod, "ip link set eth0 address 02:00:00:00:00:99")?;
        let of_tuning = |result: &mut Value| {
            result["interfaces"][1]["mtu"] = json!(1300);
            result["interfaces"][1]["mac"] = "02:00:00:00:00:99".into();
        };
        fails(&attached.answer(&attached.check_with(of_tuning))?, 106, "instead of changing it behind it")
    });
}

#[test]
fn q9_check_after_del_fails() {
    scene(1, |lab| {
        let attached = Attached::new(lab, &alone("1.1.0"))?;
        attached.call("DEL").execute(&attached.host)?.silent()?;
        fails(&attached.answer(&attached.check_with(|_| ()))?, 106, "ledger has no record of interface eth0")?;
        // Nor where no ADD has ever been.
        attached.host.run("rm", &["-r", "/run/podwire"])?;
        fails(&attached.check_with(|_| ()).execute(&attached.host)?, 106, "ledger has no record of interface eth0")?;
        check(!attached.host.enter(|| Path::new("/run/podwire").exists()), || "CHECK has made a ledger".into())
    });
}

#[test]
fn q11_the_requests_of_add_are_not_repeated_by_check() {
    scene(1, |lab| {
        let mut requested = alone("1.1.0");
        requested["capabilities"] = json!({"ips": true, "mac": true});
        requested["runtimeConfig"] = json!({"ips": ["10.7.0.9"], "mac": "02:00:00:00:00:09"});
        let attached = Attached::new(lab, &requested)?;
        check(attached.result["ips"][0]["address"] == "10.7.0.9/32", || attached.result.to_string())?;
        let before = snapshot(&attached.host, &[&attached.pod])?;
        for _ in 0..3 {
            let call =
                attached.check_with(|_| ()).with("CNI_ARGS", "IgnoreUnknown=1;IP=10.7.0.9;MAC=02:00:00:00:00:09");
            call.execute(&attached.host)?.silent()?;
        }
        same("three CHECKs", &before, &snapshot(&attached.host, &[&attached.pod])?)?;
        check(held(&attached.host).len() == 3, || format!("{:?}", held(&attached.host)))
    });
}

#[test]
fn q13_l11_an_empty_pod_at_the_same_path_is_not_the_attached_one() {
    scene(1, |lab| {
        let mut attached = Attached::new(lab, &alone("1.1.0"))?;
        // The kernel takes the pair away with the namespace; a runtime makes the next one.
        attached.shell(&attached.pod, "ip link delete eth0")?;
        attached.host.remove_pod(&attached.path)?;
        let (pod, path) = attached.host.pod("p1")?;
        check(path == attached.path, || path.display().to_string())?;
        wire::set_up(&pod, "lo")?;
        attached.pod = pod;
        fails(&attached.answer(&attached.check_with(|_| ()))?, 106, "eth0 in the pod has gone")?;
        // The same, and the machine was started again: the ledger is of another boot.
        attached.host.run("sh", &["-c", "echo another > /run/podwire/net/boot"])?;
        let files = || attached.host.run("sh", &["-c", "find /run/podwire; cat /run/podwire/net/boot"]);
        let before = files()?;
        fails(&attached.answer(&attached.check_with(|_| ()))?, 106, "ledger has no record of interface eth0")?;
        check(files()? == before, || "CHECK has changed the ledger".into())?;
        attached.again()?;
        attached.check_with(|_| ()).execute(&attached.host)?.silent()
    });
}
