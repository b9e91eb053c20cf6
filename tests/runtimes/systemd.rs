//! The unit as systemd plays it: a systemd of a node's own, with nothing to do but podwired.

use std::path::Path;
use std::process::Command;

use podwire_tests::lab::cgroup::Cgroup;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::scene::{Outcome, check, same, scene, state};
use podwire_tests::lab::{Lab, SOON, daemon, eventually, program};

use crate::stage::held;

const UNIT: &str = include_str!("../../conf/podwired.service");

/// What the unit's own place for its log is; without a journal there is none.
const LOG: &str = "[Service]\nStandardOutput=append:/run/podwired.log\nStandardError=append:/run/podwired.log\n";

/// Where the unit finds what it names.
const FURNISH: &str = "for place in /opt /var/lib /usr/local/bin; do mount -t tmpfs tmpfs $place; done
    rm -f /etc/hostname; echo node-1 > /etc/hostname
    cp $0 $1 /usr/local/bin; mkdir -p /etc/podwire /run/units/podwired.service.d /run/units/multi-user.target.wants
    touch /etc/podwire/podwired.toml; ln -s /run/lab/nodes.toml /etc/podwire/nodes.toml; ln -s /run/units/podwired.service /run/units/multi-user.target.wants
    cd /lib/systemd/system; cp sysinit.target basic.target multi-user.target shutdown.target /run/units
    sed -i '/^\\(Requires\\|Wants\\|Conflicts\\|After\\)=/d' /run/units/*.target";

/// What systemd takes for a machine: namespaces of its own save for the network's, a control group that it takes for the
/// root, and no setting of the machine to write to but the network's.
const MACHINE: &str = "for root in /sys/fs/cgroup/unified /sys/fs/cgroup; do test -e $root/cgroup.procs && break; done
    mkdir -p $root$0; echo 0 > $root$0/cgroup.procs
    exec unshare --pid --fork --uts --ipc --cgroup --mount --kill-child=KILL sh -ec \"$1\"";
const BOOT: &str = "mount -t proc proc /proc; mount -t sysfs -o ro sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount --bind /dev /dev; mount -o remount,bind,ro /dev
    mkdir -p /run/net; mount --bind /proc/sys/net /run/net; mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys; mount --bind /run/net /proc/sys/net
    exec env -i container=podwire SYSTEMD_UNIT_PATH=/run/units PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system \
    --unit=multi-user.target --log-target=null --show-status=0";

/// A systemd that runs. The group goes after it.
struct Systemd {
    host: Host,
    process: Process,
    _group: Cgroup,
}

/// Boots systemd on a host.
fn boot(host: &Host) -> Outcome<Systemd> {
    let programs = [program("podwire"), program("podwired")].map(|path| path.map(|path| path.display().to_string()));
    let [podwire, podwired] = programs.map(|path| path.map_err(|error| error.to_string()));
    host.run("sh", &["-ec", FURNISH, &podwire?, &podwired?])?;
    let write = || {
        std::fs::write("/run/units/podwired.service", UNIT)?;
        std::fs::write("/run/units/podwired.service.d/log.conf", LOG)
    };
    host.enter(write).map_err(|error: std::io::Error| format!("write the unit: {error}"))?;
    let group = Cgroup::new()?;
    let process = host.start("systemd", Command::new("sh").args(["-ec", MACHINE, &group.path(), BOOT]))?;
    Ok(Systemd { host: host.clone(), process, _group: group })
}

impl Systemd {
    /// Asks it for something, as one of its own processes: it answers nobody else.
    fn control(&self, arguments: &[&str]) -> Outcome<String> {
        let processes = format!("--pid=/proc/{}/ns/pid_for_children", self.process.id());
        self.host.run("nsenter", &[&[processes.as_str(), "systemctl", "--no-pager"], arguments].concat())
    }

    /// Why the unit does not do what it should.
    fn explained(&self, why: String) -> String {
        let status = self.control(&["status", "podwired"]).unwrap_or_else(|status| status);
        let log = self.host.run("cat", &["/run/podwired.log"]).unwrap_or_default();
        format!("{why}\n{status}\n{log}")
    }
}

fn announced(host: &Host) -> Outcome {
    let there = ["/etc/cni/net.d/10-podwire.conflist", "/opt/cni/bin/podwire"];
    eventually(SOON, || there.iter().try_for_each(|file| host.run("test", &["-s", file]).map(drop)))
}

/// The daemon's life under systemd.
fn play(lab: &mut Lab, systemd: &Systemd) -> Outcome {
    let host = lab.nodes[0].host.clone();
    announced(&host)?;
    let own = "for process in /proc/[0-9]*; do
        [ \"$(readlink $process/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && grep -qx podwired $process/comm &&
        cat $process/status; done; true";
    let status = host.run("sh", &["-c", own])?;
    let confined = ["CapEff:\t0000008000003000", "NoNewPrivs:\t1", "Seccomp:\t2"];
    check(confined.iter().all(|line| status.contains(line)), || status.clone())?;
    // What the unit lets through is enough for it.
    let said = daemon::once(&host, &["status"])?;
    check(said.contains("fast path   on"), || said)?;

    lab.nodes[0].add_pod("pod")?;
    let whole = (state(&host)?, held(&host));
    let damage =
        "ip route delete blackhole 10.244.0.0/16; nft flush ruleset; rm /opt/cni/bin/podwire /etc/cni/net.d/10*
        echo 0 > /proc/sys/net/ipv4/ip_forward";
    host.run("sh", &["-ec", damage])?;
    announced(&host)?;
    eventually(SOON, || same("the node", &whole.0, &state(&host)?))?;
    // Who holds what outlives the daemon.
    systemd.control(&["restart", "podwired"])?;
    eventually(SOON, || {
        let ready = host.run("grep", &["-c", "ready: ", "/run/podwired.log"])?;
        check(ready == "2", || format!("it was ready {ready} times"))
    })?;
    eventually(SOON, || same("the node after a restart", &whole.0, &state(&host)?))?;
    systemd.control(&["stop", "podwired"])?;
    same("the node after a stop", &whole.0, &state(&host)?)?;
    check(held(&host) == whole.1, || format!("held {:?}, before {:?}", held(&host), whole.1))?;
    check(host.enter(|| Path::new("/opt/cni/bin/podwire").exists()), || "stopping takes the plugin away".into())
}

#[test]
fn the_unit_confines_the_daemon_and_a_restart_loses_no_pod() {
    scene(1, |lab| {
        let systemd = boot(&lab.nodes[0].host)?;
        play(lab, &systemd).map_err(|why| systemd.explained(why))
    });
}
