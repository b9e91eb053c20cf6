//! The daemon with as little as it needs: few capabilities, a file system that it may hardly write to, no program executed;
//! and the unit of systemd that says so.

use std::collections::BTreeSet;
use std::process::Command;

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, same, scene, state};
use podwire_tests::lab::{SOON, daemon, eventually};

const UNIT: &str = include_str!("../../../conf/podwired.service");

/// The values of a setting of the unit, of all its lines.
fn setting(name: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// The capabilities of the unit, as setpriv(1) wants them: `-all,+net_admin`.
fn capabilities() -> String {
    let names = setting("CapabilityBoundingSet").join(" ");
    let names = names.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase());
    names.fold("-all".to_owned(), |set, name| format!("{set},+{name}"))
}

/// The host with a file system that is read-only, save for what the daemon writes to. /proc/sys is read-only too; the
/// settings of the network are below /run/settings.
fn read_only(host: &Host) -> Outcome<Host> {
    let furnish = "mkdir -p /etc/cni/net.d /run/podwire /run/cni/bin /run/settings/net
        for place in /etc/cni/net.d /run/podwire /run/cni/bin; do mount --bind $place $place; done
        mount --bind /proc/sys/net /run/settings/net
        mount --bind /proc/sys /proc/sys
        for place in / /etc /run /proc/sys; do mount -o remount,bind,ro $place; done
        ! touch /run/x 2> /dev/null && ! touch /etc/x 2> /dev/null && ! echo 1 2> /dev/null > /proc/sys/net/ipv4/ip_forward";
    host.apart(|| {
        let output = Command::new("sh").args(["-ec", furnish]).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        check(output.status.success(), || format!("make the file system read-only: {}: {said}", output.status))
    })
}

/// Starts the daemon there with those capabilities only, and waits until it is ready.
fn start_confined(node: &mut Node, capabilities: &str) -> Outcome {
    node.host.run("sh", &["-c", "echo 'garbage_after_seconds = 1' > /run/settings.toml"])?;
    let apart = read_only(&node.host)?;
    let arguments =
        ["--plugin-directory", "/run/cni/bin", "--sysctl-root", "/run/settings", "--settings", "/run/settings.toml"];
    let bounding = format!("--bounding-set={capabilities}");
    let by = ["setpriv", &bounding, "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"];
    let mut command = daemon::command(node, &by, &arguments)?;
    node.daemon = Some(apart.start(&format!("podwired of {}", node.host.name), &mut command)?);
    node.wait_ready()
}

#[test]
fn everything_works_with_the_units_capabilities_and_a_read_only_file_system() {
    scene(2, |lab| {
        for node in &mut lab.nodes {
            start_confined(node, &capabilities())?;
        }
        let status = lab.nodes[0].host.run("cat", &[&format!("/proc/{}/status", daemon::of(&lab.nodes[0])?.id())])?;
        let confined = ["NoNewPrivs:\t1", "CapEff:\t0000008000003000"].iter().all(|line| status.contains(line));
        check(confined, || status.clone())?;
        let fast_path = daemon::json(&lab.nodes[0].host, &["status", "--json"])?["fast_path_state"].clone();
        check(fast_path["state"] == "on", || fast_path.to_string())?;

        let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        lab.nodes[0].add_pod("near")?;
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        let reach =
            || FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)));
        reach()?;
        let host = &lab.nodes[0].host;
        let whole = state(host)?;
        for damage in [
            "ip link delete podwire.1",
            "ip nexthop flush",
            "ip route delete blackhole 10.244.0.0/16",
            "nft flush ruleset",
            "echo 0 > /proc/sys/net/ipv4/ip_forward",
            "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
        ] {
            host.run("sh", &["-ec", damage])?;
            let repaired = eventually(SOON, || same("the node", &unnumbered(&whole), &unnumbered(&state(host)?)));
            repaired.and_then(|()| reach()).map_err(|why| format!("after {damage}: {why}"))?;
        }
        for file in ["/run/cni/bin/podwire", "/etc/cni/net.d/10-podwire.conflist"] {
            host.run("rm", &[file])?;
            eventually(SOON, || host.run("test", &["-s", file]).map(drop)).map_err(|why| format!("{file}: {why}"))?;
        }
        let dead = lab.nodes[0].add_pod("dead").map(drop).and_then(|()| lab.nodes[0].pods.pop().ok_or("no pod".into()));
        let netns = dead?.netns;
        lab.nodes[0].host.remove_pod(&netns)?;
        daemon::of(&lab.nodes[0])?.wait_for("released ", SOON)?;
        let said = lab.nodes.iter().filter_map(|node| node.daemon.as_ref()).flat_map(|daemon| daemon.said());
        let problems: Vec<_> = said.filter(|line| line.contains("WARN")).collect();
        check(problems.is_empty(), || problems.join("\n"))
    });
}

/// A device that was made anew has another index.
fn unnumbered(state: &serde_json::Value) -> serde_json::Value {
    let mut state = state.clone();
    for list in ["links", "addresses"] {
        let Some(entries) = state[list].as_array_mut() else { continue };
        for entry in entries.iter_mut() {
            entry.as_object_mut().into_iter().for_each(|fields| _ = fields.remove("ifindex"));
        }
        entries.sort_by_key(|entry| entry["ifname"].to_string());
    }
    state
}

#[test]
fn read_only_sysctls_are_reported_only_where_they_are_wrong() {
    scene(1, |lab| {
        let node = &mut lab.nodes[0];
        let apart = read_only(&node.host)?;
        let start = |node: &mut Node| -> Outcome {
            let mut command = daemon::command(node, &[], &[])?;
            node.daemon = Some(apart.start("podwired", &mut command)?);
            Ok(())
        };
        start(node)?;
        daemon::of(node)?.wait_for("set sysctl net/ipv4/ip_forward to 1: Read-only file system (30)", SOON)?;
        drop(node.daemon.take());
        let settings = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
            cd /proc/sys/net; for name in disable_ipv6 accept_ra accept_redirects; do echo 0 > ipv6/conf/podwire.1/$name; done
            echo 0 > ipv4/conf/podwire.1/accept_redirects; echo 2 > ipv4/conf/podwire.1/rp_filter
            echo 1 > ipv4/conf/podwire.1/forwarding";
        node.host.run("sh", &["-ec", settings])?;
        start(node)?;
        node.wait_ready()?;
        drop(node.daemon.take());
        let mut command = daemon::command(node, &[], &["--sysctl-root", "/run/nowhere"])?;
        node.daemon = Some(node.host.start("podwired", &mut command)?);
        daemon::of(node)?.wait_for("/run/nowhere/net: No such file or directory", SOON).map(drop)
    });
}

/// Every system call of a daemon's life as strace(1) tells it: its start, joins, repairs, files, garbage, its end.
fn traced() -> Outcome<Vec<String>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    scene(2, |lab| {
        let node = &mut lab.nodes[0];
        node.host.run("sh", &["-c", "echo 'garbage_after_seconds = 1' > /run/settings.toml"])?;
        let by = ["strace", "--follow-forks", "--quiet=all", "--signal=none", "--output=/run/calls"];
        let arguments = ["--plugin-directory", "/run/cni/bin", "--settings", "/run/settings.toml"];
        let mut command = daemon::command(node, &by, &arguments)?;
        node.daemon = Some(node.host.start("podwired under strace", &mut command)?);
        node.wait_ready()?;
        node.add_pod("dead")?;
        let pod = node.pods.pop().ok_or("no pod")?.netns;
        node.host.remove_pod(&pod)?;
        daemon::of(node)?.wait_for("released ", SOON)?;
        let damage = "ip link delete podwire.1; nft flush ruleset; rm /run/cni/bin/podwire; rm -r /etc/cni/net.d
            echo 0 > /proc/sys/net/ipv4/ip_forward";
        node.host.run("sh", &["-ec", damage])?;
        let whole = "ip link show podwire.1 && nft list table inet podwire && test -x /run/cni/bin/podwire -a -s \
                     /etc/cni/net.d/10-podwire.conflist && grep 1 /proc/sys/net/ipv4/ip_forward";
        eventually(SOON, || node.host.run("sh", &["-c", whole]).map(drop))?;
        lab.write(&podwire_tests::lab::membership::Membership::of(1..=3))?;
        let node = &mut lab.nodes[0];
        eventually(SOON, || {
            let nexthops = node.host.run("ip", &["nexthop"])?;
            check(nexthops.lines().count() == 2, || nexthops)
        })?;
        node.host.run("sh", &["-c", "kill -TERM $(cat /run/podwire/podwired.lock)"])?;
        daemon::of(node)?.wait_for("stopping: ", SOON)?;
        let text = eventually(SOON, || {
            let text = node.host.run("cat", &["/run/calls"])?;
            check(text.contains("exit_group("), || "it does not end".into()).map(|()| text)
        })?;
        sender.send(text).map_err(|error| error.to_string())
    });
    let text = receiver.recv().map_err(|error| error.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The name of the call in a line of strace's: `17  name(arguments) = answer`. The second half of a call that was interrupted,
/// `17  <... name resumed>`, and other remarks have none.
fn called(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_').then_some(name)
}

/// The system calls of a set as systemd knows it (systemd.exec(5), "SystemCallFilter").
fn members(set: &str) -> Outcome<BTreeSet<String>> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", set]).output();
    let output = output.map_err(|error| format!("systemd-analyze: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    check(output.status.success() && text.starts_with(set), || format!("{text}{output:?}"))?;
    let mut members = BTreeSet::new();
    for name in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match name.starts_with('@') {
            true => members.extend(self::members(name)?),
            false => _ = members.insert(name.to_owned()),
        }
    }
    Ok(members)
}

#[test]
fn the_daemon_executes_no_program_and_makes_no_system_call_that_the_unit_forbids() {
    let lines = traced().unwrap();
    let calls: Vec<_> = lines.iter().filter_map(|line| called(line)).collect();
    assert!(calls.len() > 1000, "{} system calls", calls.len());
    // The first one is strace's, which becomes podwired.
    assert_eq!(calls.iter().filter(|name| ["execve", "execveat"].contains(name)).count(), 1);
    // RestrictNamespaces=yes.
    assert!(!calls.iter().any(|name| ["setns", "unshare"].contains(name)), "it enters a namespace");
    let families = setting("RestrictAddressFamilies").concat();
    let family = |line: &String| Some(line.split_once(" socket(")?.1.split(',').next()?.to_owned());
    let sockets: BTreeSet<_> = lines.iter().filter_map(family).collect();
    let forbidden: Vec<_> =
        sockets.iter().filter(|family| !families.split(' ').any(|allowed| allowed == *family)).collect();
    assert!(forbidden.is_empty() && !sockets.is_empty(), "of {sockets:?} the unit forbids {forbidden:?}");
    // What every program may do, the unit's list, and what it takes away from that again.
    let mut allowed = members("@default").unwrap();
    for line in setting("SystemCallFilter") {
        // A set, or one call by its name.
        let all = |name: &str| if name.starts_with('@') { members(name).unwrap() } else { [name.to_owned()].into() };
        let sets = line.trim_start_matches('~').split_whitespace().map(all);
        for member in sets.flatten() {
            _ = if line.starts_with('~') { allowed.remove(&member) } else { allowed.insert(member) };
        }
    }
    let forbidden: BTreeSet<_> = calls.into_iter().filter(|name| !allowed.contains(*name)).collect();
    assert!(forbidden.is_empty(), "the unit forbids {forbidden:?}");
}

#[test]
fn the_daemons_files_have_their_modes_under_any_umask() {
    for umask in ["000", "077"] {
        scene(1, |lab| {
            let node = &mut lab.nodes[0];
            let shell = format!("umask {umask}; exec \"$0\" \"$@\"");
            let mut command = daemon::command(node, &["sh", "-c", &shell], &["--plugin-directory", "/run/cni/bin"])?;
            node.daemon = Some(node.host.start("podwired", &mut command)?);
            node.wait_ready()?;
            let places = ["/run/cni/bin", "/run/cni/bin/podwire", "/etc/cni/net.d/10-podwire.conflist", "/run/podwire"];
            let modes = node.host.run("stat", &[&["--format=%a"], places.as_slice()].concat())?;
            check(modes == "755\n755\n644\n755", || format!("with umask {umask}: {modes}"))
        });
    }
}

#[test]
fn systemd_accepts_the_unit_without_a_warning() {
    let directory = std::env::temp_dir().join(format!("podwired-unit-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let unit = directory.join("podwired.service");
    let podwired = podwire_tests::lab::program("podwired").unwrap();
    let installed = UNIT.replace("/usr/local/bin/podwired", &podwired.display().to_string());
    assert_ne!(installed, UNIT);
    std::fs::write(&unit, installed).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (sound, said) = analyze(&["verify", "--man=no"]);
    assert!(sound && !said.contains("podwired"), "{said}");
    // How much it could do if somebody took it over, from 0 to 10; without any of its limits it would be 9.6.
    let (safe, said) = analyze(&["security", "--offline=yes", "--no-pager", "--threshold=25"]);
    assert!(safe, "{said}");
    std::fs::remove_dir_all(directory).unwrap();
}
