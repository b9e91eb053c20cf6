//! `scripts/install` on a node: what it asks of systemd, that what it has installed runs as the unit says, and that it goes
//! again. systemd itself is played by a program that takes notes; `tests/runtimes/systemd.rs` has a real one run the unit.

use std::path::Path;
use std::process::Command;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, daemon, program};

/// Places of the node's own, and a systemctl that writes down what it is asked for.
const FURNISH: &str = "for place in /usr/local/bin /opt; do mount -t tmpfs tmpfs $place; done
    rm -f /etc/systemd /etc/NetworkManager; mkdir -p /etc/systemd/system /etc/systemd/network /run/systemd/system /run/bin
    printf '#!/bin/sh\necho \"$*\" >> /run/asked\n' > /run/bin/systemctl; chmod +x /run/bin/systemctl";

/// Runs the installer on a node; what it has said.
fn install(host: &Host, arguments: &str) -> Outcome<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/install");
    let line = format!("PATH=/run/bin:$PATH; unset DESTDIR; {} {arguments} 2>&1", script.display());
    host.run("sh", &["-c", &format!("{{ {line}; }} > /run/said && cat /run/said || {{ cat /run/said >&2; exit 1; }}")])
}

/// What systemctl was asked for since the last look.
fn asked(host: &Host) -> Outcome<String> {
    host.run("sh", &["-c", "cat /run/asked; rm /run/asked"])
}

/// The command line of the unit that was installed.
fn of_the_unit(host: &Host) -> Outcome<Vec<String>> {
    let unit = host.run("cat", &["/etc/systemd/system/podwired.service"])?.replace("\\\n", " ");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).ok_or("no ExecStart")?;
    Ok(line.replace("%H", &host.name).split_whitespace().map(str::to_owned).collect())
}

#[test]
fn the_installer_starts_the_unit_restarts_it_only_after_a_change_and_removes_everything() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("sh", &["-ec", FURNISH])?;
        let programs = program("podwired").map_err(|error| error.to_string())?;
        let programs = programs.parent().ok_or("no directory")?.display().to_string();
        let given = format!("--from {programs} --nodes /run/lab/nodes.toml");
        install(&host, &given)?;
        let started = asked(&host)?;
        check(started == "daemon-reload\nenable --quiet podwired.service\nrestart podwired.service", || started)?;
        let said = install(&host, &given)?;
        let started = asked(&host)?;
        check(said.contains("nothing to do") && started.ends_with("\nstart podwired.service"), || {
            format!("{said}{started}")
        })?;

        let line = of_the_unit(&host)?;
        lab.nodes[0].daemon = Some(host.start("podwired", Command::new(&line[0]).args(&line[1..]))?);
        lab.nodes[0].wait_ready()?;
        lab.nodes[0].add_pod("pod")?;
        daemon::of(&lab.nodes[0])?.wait_for("ready", SOON)?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;

        let Err(why) = install(&host, "--uninstall") else { return Err("it does not mind a pod".into()) };
        check(why.contains("container pod") && why.contains("nothing else was taken away"), || why.clone())?;
        let there = ["/usr/local/bin/podwired", "/opt/cni/bin/podwire", "/etc/cni/net.d/10-podwire.conflist"];
        there.iter().try_for_each(|file| host.run("test", &["-e", file]).map(drop))?;
        lab.nodes[0].remove_pod("pod")?;
        install(&host, "--uninstall")?;
        let asked = asked(&host)?;
        check(
            asked.starts_with("disable --quiet --now podwired.service\n") && asked.ends_with("\ndaemon-reload"),
            || asked,
        )?;
        let left =
            "find /usr/local/bin /opt/cni /etc/podwire /etc/cni /etc/systemd /run/podwire -type f 2> /dev/null; true";
        let left = host.run("sh", &["-c", left])?;
        check(left == "/etc/podwire/nodes.toml", || left)?;
        check(host.run("ip", &["link", "show", "podwire.1"]).is_err(), || "the overlay is left".into())
    });
}
