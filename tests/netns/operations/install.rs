//! podwire comes to a node and leaves it: the plugin in its place whatever runs meanwhile, kept there, and everything gone
//! when it is to go.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, same, scene, state};
use podwire_tests::lab::{SOON, daemon, eventually, program};
use serde_json::{Value, json};

use crate::plugin::attachment::{changed, snapshot};
use crate::plugin::stage::alone;

/// Where the scenes have the plugin: a directory of the host's own.
const PLUGINS: &str = "/run/cni/bin";
const PLUGIN: &str = "/run/cni/bin/podwire";
const CONFLIST: &str = "/etc/cni/net.d/10-podwire.conflist";

/// How soon a file is back.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// How often a time is taken that other work on the machine may make longer.
const TRIES: usize = 3;

/// Another version of the plugin: the same with more behind it, which no loader reads.
fn another_version(host: &Host) -> Outcome<PathBuf> {
    let (podwire, other) =
        (program("podwire").map_err(|error| error.to_string())?, PathBuf::from("/run/another-podwire"));
    let write = || {
        fs::copy(podwire, &other)?;
        let mut content = fs::read(&other)?;
        content.extend(b"another version");
        fs::write(&other, content)
    };
    host.enter(write).map_err(|error| format!("write {}: {error}", other.display()))?;
    Ok(other)
}

fn install(host: &Host, from: &Path) -> Outcome<String> {
    daemon::once(host, &["install", "--plugin", &from.display().to_string(), "--to", PLUGINS])
}

/// A call of the installed plugin that answers without touching anything.
fn version() -> Call {
    Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.0.0"})).of(Path::new(PLUGIN))
}

#[test]
fn the_plugin_is_replaced_atomically_while_it_runs() {
    scene(1, |lab| {
        let host = &lab.nodes[0].host;
        let (one, other) = (program("podwire").map_err(|error| error.to_string())?, another_version(host)?);
        install(host, &one)?;
        // One that has begun and waits for its input.
        let mut running = Command::new(PLUGIN);
        running.env("CNI_COMMAND", "STATUS").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = host.enter(|| running.spawn()).map_err(|error| format!("execute {PLUGIN}: {error}"))?;
        let (over, calls) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let caller = scope.spawn(|| -> Outcome {
                while !over.load(Ordering::Relaxed) {
                    version().execute(host)?.result()?;
                    calls.store(true, Ordering::Relaxed);
                }
                Ok(())
            });
            let replace =
                || (0..20).try_for_each(|turn| install(host, if turn % 2 == 0 { &other } else { &one }).map(drop));
            let replaced = replace();
            over.store(true, Ordering::Relaxed);
            replaced.and(caller.join().map_err(|_| "a thread panicked".to_owned())?)
        })?;
        check(calls.load(Ordering::Relaxed), || "nothing was executed meanwhile".into())?;
        // The old one has lost nothing.
        let configuration = alone("1.1.0").to_string();
        let answered = running.stdin.take().map(|mut stdin| stdin.write_all(configuration.as_bytes()));
        let output = answered.unwrap_or(Ok(())).and_then(|()| running.wait_with_output());
        let output = output.map_err(|error| format!("the running plugin: {error}"))?;
        check(output.status.success(), || String::from_utf8_lossy(&output.stdout).into_owned())
    });
}

#[test]
fn an_installed_plugin_is_not_touched_and_a_damaged_one_is_replaced() {
    scene(1, |lab| {
        let host = &lab.nodes[0].host;
        let podwire = program("podwire").map_err(|error| error.to_string())?;
        let identity = || {
            let data = host.enter(|| fs::metadata(PLUGIN)).map_err(|error| error.to_string())?;
            Ok::<_, String>((data.ino(), data.mtime_nsec(), data.mode() & 0o7777))
        };
        // The one beside podwired is the default. Whoever starts it may have any umask.
        let podwired = program("podwired").map_err(|error| error.to_string())?;
        let line = format!("umask 777; {} install --to {PLUGINS}", podwired.display());
        host.run("sh", &["-c", &line])?;
        let first = identity()?;
        check(first.2 == 0o755, || format!("mode {:o}", first.2))?;
        let said = install(host, &podwire)?;
        check(said.ends_with("already: nothing to do") && identity()? == first, || said.clone())?;
        for damage in ["truncate --size=1000", "sh -c 'echo x >> $0'", "chmod 644", "rm"] {
            host.run("sh", &["-c", &format!("{damage} {PLUGIN}")])?;
            let said = install(host, &podwire)?;
            check(said.starts_with("installed "), || said.clone())?;
            version().execute(host)?.result()?;
        }
        let Err(why) = install(host, &podwired) else { return Err("podwired was installed as the plugin".into()) };
        check(why.contains("podwired is not podwire, the plugin"), || why.clone())
    });
}

#[test]
fn a_killed_installer_leaves_a_working_plugin() {
    scene(1, |lab| {
        let host = &lab.nodes[0].host;
        let versions = [program("podwire").map_err(|error| error.to_string())?, another_version(host)?];
        let podwired = program("podwired").map_err(|error| error.to_string())?;
        install(host, &versions[0])?;
        let started = Instant::now();
        install(host, &versions[1])?;
        // Over the whole of an installation, a little longer each time.
        let whole = started.elapsed();
        for turn in 0..20 {
            let mut command = Command::new(&podwired);
            command.args(["install", "--to", PLUGINS, "--plugin"]).arg(&versions[turn % 2]);
            let mut installer = host.start("podwired install", &mut command)?;
            thread::sleep(whole * u32::try_from(turn).unwrap_or(0) / 20);
            installer.kill()?;
            version().execute(host)?.result()?;
        }
        install(host, &versions[0])?;
        install(host, &versions[1])?;
        let files = host.run("ls", &["-A", PLUGINS])?;
        check(files == "podwire", || files)
    });
}

#[test]
fn the_conflist_is_written_after_the_plugin() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("sh", &["-c", "mkdir /run/cni && touch /run/cni/bin"])?;
        daemon::start(&mut lab.nodes[0], &["--plugin-directory", PLUGINS])?;
        let said = daemon::of(&lab.nodes[0])?.wait_for(&format!("install {PLUGIN}: "), SOON)?;
        check(said.contains("WARN"), || said.clone())?;
        // The overlay does not wait for it.
        eventually(SOON, || host.run("ip", &["link", "show", "podwire.1"]).map(drop))?;
        check(!host.enter(|| Path::new(CONFLIST).exists()), || "a conflist without its plugin".into())?;
        host.run("rm", &["/run/cni/bin"])?;
        lab.nodes[0].wait_ready()?;
        let lines = daemon::of(&lab.nodes[0])?.said();
        let line = |text: &str| lines.iter().position(|line| line.contains(text));
        let (plugin, conflist) = (line("set the plugin "), line("set the conflist"));
        check(plugin.is_some() && plugin < conflist, || lines.join("\n"))?;
        version().execute(&host)?.result().map(drop)
    });
}

#[test]
fn a_changed_plugin_or_conflist_is_restored_within_a_second() {
    scene(1, |lab| {
        daemon::start(&mut lab.nodes[0], &["--plugin-directory", PLUGINS])?;
        lab.nodes[0].wait_ready()?;
        let host = &lab.nodes[0].host;
        let content =
            |path: &str| host.enter(|| (fs::read(path).ok(), fs::metadata(path).ok().map(|data| data.mode())));
        for path in [PLUGIN, CONFLIST] {
            let whole = content(path);
            // The directory in one step: the daemon puts the file back while one file goes after the other.
            let directory = "mv $(dirname $0) /run/gone.$$";
            for damage in ["rm $0", "truncate --size=100 $0", "echo >> $0", "mv $0 $0.old", "chmod 600 $0", directory] {
                let mut times = Vec::new();
                for _ in 0..TRIES {
                    let since = Instant::now();
                    host.run("sh", &["-c", damage, path])?;
                    eventually(SOON, || {
                        check(content(path) == whole, || format!("after {damage}: {path} is not back"))
                    })?;
                    times.push(since.elapsed());
                    if since.elapsed() <= BACK_WITHIN {
                        break;
                    }
                }
                let best = times.iter().min().copied().unwrap_or_default();
                check(best <= BACK_WITHIN, || format!("after {damage}: {path} was back after {times:?}"))?;
            }
        }
        // One line for each thing that was put back (said a moment after), and none for the looks between.
        let process = daemon::of(&lab.nodes[0])?;
        eventually(SOON, || {
            let said = process.said();
            let set = |line: &&String| line.contains("set the plugin") || line.contains("set the conflist");
            check((14..=2 + 12 * TRIES).contains(&said.iter().filter(set).count()), || said.join("\n"))
        })
    });
}

/// Everything on a node that podwire could leave something in: the kernel, and the files of the places where it writes.
fn whole(host: &Host) -> Outcome<Value> {
    let kernel = state(host)?;
    let files = host.run("find", &["/run", "/etc/cni", "-path", "/run/machine", "-prune", "-o", "-print"])?;
    let mut files: Vec<_> = files.lines().filter(|line| !line.starts_with("/run/lab")).collect();
    files.sort_unstable();
    Ok(json!({"kernel": kernel, "files": files}))
}

fn uninstall(host: &Host, more: &[&str]) -> Outcome<String> {
    let usual = ["uninstall", "--plugin-directory", PLUGINS, "--state-directory", "/run/state"];
    daemon::once(host, &[&usual, more].concat())
}

/// A node with podwired, its plugin, foreign objects beside its own, and the state of before. The node forwarded already:
/// settings stay as they are when podwire goes, and uninstalling says so.
fn installed(body: impl FnOnce(&mut podwire_tests::lab::Lab, &Host, &Value) -> Outcome) {
    scene(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let foreign = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            mkdir -p /run/cni/bin /etc/cni/net.d /run/netns /run/mount
            echo theirs > /run/cni/bin/bridge; echo '{}' > /etc/cni/net.d/99-theirs.conflist
            ip route add 172.16.0.0/12 via 192.168.50.254 proto bird
            ip nexthop add id 77 via 192.168.50.254 dev eth0 proto bird
            nft add table inet theirs; ip link add pwforeign type bridge";
        host.run("sh", &["-ec", foreign])?;
        let before = whole(&host)?;
        host.run("sh", &["-ec", "mkdir /run/state; echo {} > /run/state/membership.json"])?;
        daemon::start(&mut lab.nodes[0], &["--plugin-directory", PLUGINS])?;
        lab.nodes[1].start()?;
        lab.nodes.iter().try_for_each(podwire_tests::lab::node::Node::wait_ready)?;
        body(lab, &host, &before)
    });
}

fn stop(lab: &mut podwire_tests::lab::Lab) -> Outcome {
    let mut process = lab.nodes[0].daemon.take().ok_or("no daemon")?;
    process.stop(SOON).map(drop)
}

#[test]
fn uninstall_leaves_the_node_as_it_was_before() {
    installed(|lab, host, before| {
        lab.nodes[0].add_pod("pod")?;
        lab.nodes[0].remove_pod("pod")?;
        let Err(why) = uninstall(host, &[]) else { return Err("it did not mind a daemon that runs".into()) };
        let process = daemon::of(&lab.nodes[0])?.id();
        check(why.contains(&format!("another podwired runs on this node, process {process}: stop that one")), || why)?;
        let running = whole(host)?;
        stop(lab)?;
        same("the node after the daemon has stopped", &running, &whole(host)?)?;

        // A daemon with policies leaves those in force when it stops.
        host.run(
            "sh",
            &["-ec", "nft add table inet podwire-policy; nft add counter inet podwire-policy refused-egress"],
        )?;
        let said = uninstall(host, &[])?;
        for part in [
            CONFLIST,
            PLUGIN,
            "device podwire.1",
            "table inet podwire\n",
            "table inet podwire-policy\n",
            "/run/podwire",
            "/run/state",
            "not changed, since",
        ] {
            check(said.contains(part), || format!("nothing is said of {part}: {said}"))?;
        }
        same("the node", before, &whole(host)?)?;
        let again = uninstall(host, &[])?;
        check(again == "nothing of podwire is on this node", || again.clone())?;
        same("the node after a second time", before, &whole(host)?)
    });
}

#[test]
fn a_node_with_pods_is_uninstalled_only_if_that_was_allowed() {
    installed(|lab, host, before| {
        let ports = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        let configuration = changed(&lab.nodes[0].configuration()?, "/runtimeConfig", ports);
        let (_pod, path) = host.pod("published")?;
        Call::new("ADD", "published", &path, &configuration).execute(host)?.result()?;
        let pod = lab.nodes[0].add_pod("plain")?.host.clone();
        // One on no record, and a dead one.
        lab.nodes[0].add_pod("unknown")?;
        host.run("sh", &["-ec", "rm $(grep -l '\"container\":\"unknown\"' /run/podwire/podwire/attachments/*)"])?;
        lab.nodes[0].add_pod("dead")?;
        host.run("sh", &["-ec", "ip netns exec dead ip link delete eth0"])?;
        stop(lab)?;
        let with_pods = (snapshot(host, &[&pod])?, whole(host)?);
        let Err(why) = uninstall(host, &[]) else { return Err("it did not mind pods".into()) };
        for part in ["container published (eth0, network podwire)", "container plain", "device pw", "uninstall --pods"]
        {
            check(why.contains(part), || format!("nothing is said of {part}: {why}"))?;
        }
        check(!why.contains("dead"), || why.clone())?;
        same("the node after a refusal", &with_pods.0, &snapshot(host, &[&pod])?)?;
        same("the files after a refusal", &with_pods.1, &whole(host)?)?;

        // A mount point cannot be removed: a record stays, and with it what the rest needs.
        let record =
            host.run("sh", &["-ec", "grep -l '\"container\":\"plain\"' /run/podwire/podwire/attachments/*"])?;
        host.run("mount", &["--bind", &record, &record])?;
        let Err(why) = uninstall(host, &["--pods"]) else { return Err("a record that stays is no failure".into()) };
        check(
            why.contains("not everything could") && why.contains(&record) && why.contains("everything else is kept"),
            || why,
        )?;
        let kept = ["test", "-x", PLUGIN, "-a", "-e", &record];
        host.run(kept[0], &kept[1..])?;
        host.run("umount", &[&record])?;
        let said = uninstall(host, &["--pods"])?;
        check(said.contains("removed 10.244.1."), || said.clone())?;
        host.run("sh", &["-ec", "umount /run/netns/*; rm /run/netns/*"])?;
        same("the node", before, &whole(host)?)
    });
}

#[test]
fn foreign_objects_that_look_like_ours_are_kept_and_reported() {
    scene(1, |lab| {
        let host = &lab.nodes[0].host;
        let alike = format!(
            "mkdir -p {PLUGINS} /etc/cni/net.d /run/state; echo '#!/bin/sh' > {PLUGIN}; echo mine > /run/state/notes
             echo '{{\"plugins\": [{{\"type\" : \"podwire\"}}]}}' > /etc/cni/net.d/20-pods.conflist
             ip link add podwire.1 type bridge"
        );
        host.run("sh", &["-ec", &alike])?;
        let before = whole(host)?;
        let said = uninstall(host, &[])?;
        for part in [&format!("kept, not podwire: {PLUGIN}"), "what is in /run/state", "20-pods.conflist, which"] {
            check(said.contains(part), || format!("nothing is said of {part}: {said}"))?;
        }
        same("the node", &before, &whole(host)?)
    });
}
