//! What an ADD changes of its node, and what it makes of what others have there: their settings, their devices, a state
//! directory that cannot be written, a reboot.

use std::collections::BTreeSet;
use std::path::Path;

use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, check, field, json as look, same, scene, state};
use serde_json::json;

use super::attachment::{fails, host_device, unchanged};
use super::stage::{alone, bare, held, ranges, setting, warm};

#[test]
fn p14_forwarding_is_enabled_for_the_families_in_use_and_not_written_where_it_is_on() {
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
fn p15_b17_b20_nothing_foreign_changes_on_the_host() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let settings =
            "cd /proc/sys/net && grep -rs . ipv4/conf ipv6/conf ipv4/ip_forward ipv4/neigh | grep -v /pw | sort";
        let foreign = "
            ip link add br7 type veth peer name br8; ip address add 203.0.113.1/24 dev br7; ip link set br7 up; ip link set br8 up
            ip route add 198.51.100.0/24 via 203.0.113.2; ip rule add from 203.0.113.9 table 77
            ip neighbour add 203.0.113.7 lladdr 02:00:00:00:00:07 dev br7
            nft add table inet foreign; nft add chain inet foreign forward '{ type filter hook forward priority 0; policy drop; }'
            nft add rule inet foreign forward meta mark 0x2000 accept";
        host.run("sh", &["-ec", foreign])?;
        let before = (state(&host)?, host.run("sh", &["-c", settings])?);
        let result = Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let mut after = state(&host)?;
        // Our own: whatever names the device, and the addresses' local and multicast routes on it.
        let device = host_device(&result);
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
fn b5_an_advertised_default_route_survives_forwarding_that_add_enables() {
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
fn l11_b18_reboots_free_every_address_without_a_del() {
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
fn l12_x7_an_unwritable_state_directory_fails_the_add_and_changes_nothing() {
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
fn l14_a_foreign_device_of_that_name_is_kept() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        let name = host_device(&add.execute(&host)?.result()?);
        add.clone().verb("DEL").execute(&host)?.silent()?;
        host.run("ip", &["link", "add", &name, "type", "veth", "peer", "name", "far"])?;
        let answer = unchanged("a device in the way", &host, &[&pod], &add)?;
        fails(&answer, 102, "File exists")?;
        check(answer.output.contains("is on the host already"), || answer.output.clone())
    });
}
