//! Foreign devices on the overlay's port, and network managers that take podwire's devices for their own.

use std::path::{Path, PathBuf};

use podwire_attachment::regular_file;
use podwire_conf::defaults;
use podwire_kernel::link::{self, Link};
use podwire_kernel::{Result, Socket};

use super::examined::Examined;
use super::finding::{Finding, FindingKind};
use super::fix::command;

/// A program that rewrites or removes devices, addresses and routes that it finds, unless it is configured not to.
struct Program {
    name: &'static str,
    /// What is there while it runs.
    running: &'static str,
    /// Where it is configured, one directory going before the next.
    directories: &'static [&'static str],
    /// What has to be configured there.
    configured: fn(&str) -> bool,
    /// What it does otherwise.
    harm: &'static str,
    fix: &'static str,
}

/// The most bytes of a file of theirs that are read, and the most files of a directory.
const LONGEST: u64 = 256 * 1024;
const MOST_FILES: usize = 1000;

const PROGRAMS: [Program; 2] = [
    Program {
        name: "systemd-networkd",
        running: "run/systemd/netif/state",
        directories: &["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"],
        configured: |text| text.lines().any(|line| setting(line, "ManageForeignRoutes").is_some_and(is_no)),
        harm: "removes podwire's routes when it starts anew or a device changes",
        fix: "mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nManageForeignRoutes=no\\n\
              ManageForeignRoutingPolicyRules=no\\nManageForeignNextHops=no\\n' > /etc/systemd/networkd.conf.d/podwire.conf && \
              systemctl restart systemd-networkd",
    },
    Program {
        name: "NetworkManager",
        running: "run/NetworkManager/devices",
        directories: &["etc/NetworkManager", "run/NetworkManager", "usr/lib/NetworkManager"],
        configured: |text| {
            let keys = ["unmanaged-devices", "match-device"];
            let devices = text.lines().flat_map(|line| keys.into_iter().filter_map(|name| setting(line, name)));
            devices.into_iter().any(|names| names.contains("podwire") && names.contains("interface-name:pw"))
        },
        harm: "may take podwire's devices for its own",
        fix: "mkdir -p /etc/NetworkManager/conf.d && printf '[device-podwire]\\nmatch-device=interface-name:podwire.*,\
              interface-name:pw?????????????,interface-name:ps?????????????\\nmanaged=0\\n' > \
              /etc/NetworkManager/conf.d/podwire.conf && nmcli general reload",
    },
];

/// The value that a line gives a setting.
fn setting<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once('=')?;
    (key.trim() == name).then_some(value.trim())
}

fn is_no(value: &str) -> bool {
    ["no", "false", "0", "off"].contains(&value.to_ascii_lowercase().as_str())
}

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let mut findings = on_port(&link::list(socket)?, node.port);
    findings.extend(PROGRAMS.iter().filter_map(|program| unaware(program, Path::new("/"))));
    Ok(findings)
}

fn on_port(links: &[Link], port: u16) -> Vec<Finding> {
    let others = links
        .iter()
        .filter(|link| link.name != defaults::OVERLAY_DEVICE && link.vxlan.is_some_and(|vxlan| vxlan.port == port));
    let finding = |link: &Link| {
        let name = &link.name;
        let cause = format!("VXLAN device {name} is foreign and has UDP port {port}, which is the overlay's");
        let fix = command!("ip link delete dev {}   # or another `port` in the settings of every node", name);
        Finding::new(FindingKind::ForeignVxlanPort, name, cause, fix)
    };
    others.map(finding).collect()
}

/// A program that runs and is not configured to leave podwire's devices alone.
fn unaware(program: &Program, root: &Path) -> Option<Finding> {
    if !root.join(program.running).exists() {
        return None;
    }
    let mut unread = String::new();
    let configured = files(program, root).iter().any(|path| match regular_file::read(path, LONGEST) {
        Ok(text) => (program.configured)(&String::from_utf8_lossy(&text)),
        Err(error) => {
            unread += &format!("; {} cannot be read: {error}", path.display());
            false
        }
    });
    let (name, harm) = (program.name, program.harm);
    let cause = format!("{name} runs and is not configured to leave podwire alone: it {harm}{unread}");
    (!configured).then(|| Finding::new(FindingKind::NetworkManager, program.name, cause, program.fix))
}

/// The files that a program reads: those that end in .conf, in its directory and in the one beside its main file.
fn files(program: &Program, root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in program.directories {
        for inner in [".", "networkd.conf.d", "conf.d"] {
            let entries = std::fs::read_dir(root.join(directory).join(inner)).into_iter().flatten().take(MOST_FILES);
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            found.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "conf")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use podwire_kernel::link::Vxlan;

    use super::*;

    #[test]
    fn a_program_that_manages_devices_is_found_while_it_runs_unconfigured() {
        let root = std::env::temp_dir().join(format!("podwire-programs-{}", std::process::id()));
        for program in &PROGRAMS {
            assert_eq!(unaware(program, &root), None, "{} does not run", program.name);
            let running = root.join(program.running);
            fs::create_dir_all(running.parent().unwrap()).unwrap();
            fs::write(&running, "").unwrap();
            let found = unaware(program, &root).unwrap();
            assert!(found.cause.starts_with(program.name), "{}", found.cause);
            // The fix works.
            let (_, rest) = found.fix.split_once("printf '").unwrap();
            let (text, rest) = rest.split_once("' > /").unwrap();
            let path = root.join(rest.split(' ').next().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text.replace("\\n", "\n")).unwrap();
            assert_eq!(unaware(program, &root), None, "{}", found.fix);
            fs::write(&path, "#ManageForeignRoutes=no\nunmanaged-devices=none\n").unwrap();
            // What cannot be read ends, and is said.
            for name in ["fifo.conf", "zero.conf"] {
                let odd = path.with_file_name(name);
                match name {
                    "fifo.conf" => nix::unistd::mkfifo(&odd, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                    _ => std::os::unix::fs::symlink("/dev/zero", &odd).unwrap(),
                }
                let said = format!("; {} cannot be read: it is not a regular file", odd.display());
                let cause = unaware(program, &root).unwrap().cause;
                assert!(cause.contains(&said), "{cause}");
            }
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_foreign_vxlan_device_on_the_overlays_port_is_found() {
        let link = |name: &str, port| Link {
            index: 1,
            name: name.into(),
            up: true,
            operational: true,
            mtu: 1450,
            mac: None,
            kind: Some("vxlan".into()),
            peer: None,
            alias: None,
            vxlan: Some(Vxlan {
                port,
                external: false,
                vni_filter: false,
                learning: true,
                zero_checksum6_received: false,
            }),
            makes_link_local: true,
            loopback: false,
            controller: None,
        };
        let found = on_port(&[link("podwire.1", 8472), link("flannel.1", 8472), link("other", 4789)], 8472);
        assert_eq!((found.len(), found[0].subject.as_deref()), (1, Some("flannel.1")));
        assert!(found[0].fix.starts_with("ip link delete dev flannel.1 "));
    }
}
