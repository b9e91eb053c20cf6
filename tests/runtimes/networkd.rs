//! systemd-networkd on a node: with the shipped files it leaves podwire's devices alone, without them it takes what it is
//! told to take.

use std::path::Path;
use std::process::Command;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::scene::{Outcome, check, cluster, same, state};
use podwire_tests::lab::{SOON, daemon, eventually};

/// What an administrator may have told networkd: every device gets an address.
const EAGER: &str =
    "[Match]\nName=podwire.* pw* taken\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nAddress=192.0.2.9/24\n";

/// The shipped files, below /run/systemd instead of /etc/systemd: networkd reads both.
const SHIPPED: [(&str, &str); 2] = [
    ("network/10-podwire.network", include_str!("../../conf/10-podwire.network")),
    ("networkd.conf.d/podwire.conf", include_str!("../../conf/networkd-podwire.conf")),
];

/// Starts networkd on a host, with files below /run/systemd. A /sys that cannot be written to tells it that no udev will
/// announce devices.
fn start(host: &Host, files: &[(&str, &str)]) -> Outcome<Process> {
    let furnish = || -> std::io::Result<()> {
        for (name, text) in files {
            let path = Path::new("/run/systemd").join(name);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, text)?;
        }
        Ok(())
    };
    host.enter(furnish).map_err(|error| format!("write networkd's files: {error}"))?;
    let line = "mount -t sysfs -o ro sysfs /sys
        for place in netif netif/links netif/leases; do
          install --directory --owner=systemd-network --group=systemd-network /run/systemd/$place; done
        exec /lib/systemd/systemd-networkd";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", line]);
    let process = host.start("systemd-networkd", &mut command)?;
    process.wait_for("Enumeration completed", SOON)?;
    Ok(process)
}

#[test]
fn networkd_with_the_shipped_files_leaves_podwires_devices_alone() {
    cluster(2, |lab| {
        lab.nodes[0].add_pod("pod")?;
        let node = &lab.nodes[0];
        // One that it may take: what shows that it has come so far.
        let taken = "ip link add taken type veth peer name other; ip link set taken addrgenmode none
            ip link set other up; ip link set taken up";
        node.host.run("sh", &["-ec", taken])?;
        let before = state(&node.host)?;
        let said = daemon::of(node)?.said();
        let mut networkd = start(&node.host, &[&SHIPPED[..], &[("network/99-eager.network", EAGER)]].concat())?;
        networkd.wait_for("taken: Configuring with", SOON)?;
        eventually(SOON, || {
            let taken = node.host.run("ip", &["-brief", "address", "show", "taken"])?;
            check(taken.contains("192.0.2.9/24"), || taken)
        })?;
        // It came with systemd 256.
        let newer = "Unknown key 'ManageForeignNextHops'";
        let wrong = |line: &String| {
            (line.contains("Unknown") && !line.contains(newer))
                || (line.contains("onfigur") && !line.starts_with("taken: "))
        };
        let wrong: Vec<_> = networkd.said().into_iter().filter(wrong).collect();
        check(wrong.is_empty(), || wrong.join("\n"))?;
        networkd.stop(SOON)?;
        node.host.run("ip", &["address", "flush", "dev", "taken"])?;
        same("the node", &before, &state(&node.host)?)?;
        check(daemon::of(node)?.said() == said, || "podwired had something to repair".into())?;

        // Without them it gives the overlay an address, which the daemon takes away again.
        node.host.run("rm", &["/run/systemd/network/10-podwire.network"])?;
        let networkd = start(&node.host, &[])?;
        networkd.wait_for("podwire.1: Configuring with", SOON)?;
        daemon::of(node)?.wait_for("remove address 192.0.2.9/24", SOON).map(drop)
    });
}
