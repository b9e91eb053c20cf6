//! Sysctls that drop the packets of pods or let pods spoof their source, and the files of sysctl.d that set them again at
//! the next boot.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use podwire_attachment::regular_file;
use podwire_conf::defaults;
use podwire_kernel::link::{self, Link};
use podwire_kernel::{Result, Socket, address, route};

use super::examined::{Cluster, Examined};
use super::finding::{Finding, FindingKind};
use super::fix::{Fix, command};

/// Where settings are kept for the next boot (sysctl.d(5)).
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
const FILE: &str = "/etc/sysctl.conf";

/// The most bytes of such a file that are read, and the most files of a directory.
const LONGEST: u64 = 256 * 1024;
const MOST_FILES: usize = 1000;

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let links = link::list(socket)?;
    let ours: Vec<_> = links.iter().filter(|link| is_ours(link)).map(|link| link.name.as_str()).collect();
    let read =
        |path: &str| std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok().map(|text| text.trim().to_owned());
    let has = |ipv4: bool| node.cluster.as_ref().is_none_or(|cluster| cluster.has_family(ipv4));
    let mut findings = forwarding(&ours, &read, has);
    findings.extend(spoofing(&links, &read));
    if let Some(cluster) = &node.cluster {
        findings.extend(asymmetry(cluster, &links, socket, &read)?);
    }
    Ok(findings)
}

fn is_ours(link: &Link) -> bool {
    link.name == defaults::OVERLAY_DEVICE || is_pods(link)
}

fn is_pods(link: &Link) -> bool {
    link.name.starts_with(defaults::HOST_VETH_PREFIX) && link.kind.as_deref() == Some("veth")
}

/// A setting, as the program sysctl writes it: slashes, since names of devices may have dots.
fn set(path: &str, value: &str) -> Fix {
    command!("sysctl -w {}={}{}", path, value, culprits(Path::new("/"), path))
}

fn forwarding(ours: &[&str], read: &impl Fn(&str) -> Option<String>, has: impl Fn(bool) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut off = |path: &str, what: &str| {
        if read(path).as_deref() == Some("0") {
            let cause = format!("{path} is 0: {what}");
            findings.push(Finding::new(FindingKind::ForwardingOff, path, cause, set(path, "1")));
            return true;
        }
        false
    };
    if has(true) && !off("net/ipv4/ip_forward", "this node forwards nothing between pods and other nodes") {
        for device in ours {
            off(&format!("net/ipv4/conf/{device}/forwarding"), &format!("what comes in by {device} is not forwarded"));
        }
    }
    if has(false) {
        off("net/ipv6/conf/all/forwarding", "this node forwards no IPv6 between pods and other nodes");
    }
    findings
}

/// The kernel takes the larger of the values for all devices and for one. A pod's device has 1, so that a pod cannot send
/// from an address that is another's; 2 for all takes that away.
fn spoofing(links: &[Link], read: &impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let all = read("net/ipv4/conf/all/rp_filter");
    if all.as_deref() == Some("2") {
        let cause = "net/ipv4/conf/all/rp_filter is 2, which goes before the 1 of the pods' devices: to other pods \
                     and to the outside a pod may send from an IPv4 address that is another's (to this node itself it \
                     cannot)";
        let path = "net/ipv4/conf/all/rp_filter";
        return vec![Finding::new(FindingKind::ReversePathLoose, path, cause, set(path, "0"))];
    }
    let loose = links.iter().filter(|link| is_pods(link)).filter_map(|link| {
        let path = format!("net/ipv4/conf/{}/rp_filter", link.name);
        let value = read(&path)?;
        let strict = value == "1" || (all.as_deref() == Some("1") && value == "0");
        let cause = format!("{path} is {value}: the pod behind it may send from the address of another");
        (!strict).then(|| Finding::new(FindingKind::ReversePathLoose, &path, cause, set(&path, "1")))
    });
    loose.collect()
}

/// Strict filters drop what comes in by another device than the answer would leave by.
fn asymmetry(
    cluster: &Cluster,
    links: &[Link],
    socket: &mut Socket,
    read: &impl Fn(&str) -> Option<String>,
) -> Result<Vec<Finding>> {
    if cluster.address.is_ipv6() {
        return Ok(Vec::new());
    }
    let addresses = address::list(socket, None)?;
    let Some(own) = addresses.iter().find(|found| found.address.ip() == cluster.address) else { return Ok(Vec::new()) };
    let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let Some(arrives) = name(own.device) else { return Ok(Vec::new()) };
    let value = |device: &str| read(&format!("net/ipv4/conf/{device}/rp_filter"));
    let strict = |device: &str| strictness(value("all").as_deref(), value(device).as_deref()) == 1;
    let mut findings = Vec::new();
    if !strict(&arrives) || links.iter().any(|link| link.index == own.device && link.loopback) {
        return Ok(findings);
    }
    for peer in &cluster.peers {
        let Some(device) = route::lookup(socket, peer.address)?.and_then(|route| route.device) else { continue };
        let Some(leaves) = name(device).filter(|_| device != own.device) else { continue };
        let cause = format!(
            "packets to {} ({}) leave by {leaves}, but this node's address is on {arrives}, whose rp_filter drops what \
             would be answered by another device",
            peer.name, peer.address
        );
        let fix = set(&format!("net/ipv4/conf/{arrives}/rp_filter"), "2");
        findings.push(Finding::new(FindingKind::ReversePathStrict, &peer.name, cause, fix));
    }
    Ok(findings)
}

/// What holds of a device: the larger of both values (Documentation/networking/ip-sysctl.rst).
fn strictness(all: Option<&str>, device: Option<&str>) -> u8 {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    number(all).max(number(device))
}

/// The files below `root` that set it at every boot, as the end of a command, and those that may and cannot be read.
fn culprits(root: &Path, path: &str) -> Fix {
    let Some(key) = path.rsplit('/').next() else { return Fix::from("") };
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let (mut files, mut unread) = (vec![below(FILE)], Vec::new());
    for directory in DIRECTORIES.map(below) {
        let mut listed = std::fs::read_dir(&directory).into_iter().flatten();
        let few = listed.by_ref().take(MOST_FILES).filter_map(|entry| Some(entry.ok()?.path()));
        files.extend(few.filter(|file| file.extension().is_some_and(|ending| ending == "conf")));
        unread.extend(listed.next().map(|_| directory));
    }
    let mut setting = Vec::new();
    for file in files {
        match regular_file::read(&file, LONGEST) {
            Ok(text) if sets(&String::from_utf8_lossy(&text), key) => setting.push(file),
            Err(error) if error.kind() != ErrorKind::NotFound => unread.push(file),
            _ => {}
        }
    }
    let mut end = Fix::from("");
    for (files, before) in
        [(setting, "   # and at every boot it is set by"), (unread, "   # or in what cannot be read:")]
    {
        end = listed(end, files, before);
    }
    end
}

fn listed(mut end: Fix, mut files: Vec<PathBuf>, before: &'static str) -> Fix {
    files.sort_unstable();
    files.dedup();
    for (place, file) in files.into_iter().enumerate() {
        end = match place {
            0 => command!("{}{} {}", end, Fix::from(before), file),
            _ => command!("{}, {}", end, file),
        };
    }
    end
}

/// Whether a file of sysctl.d sets something of this name.
fn sets(text: &str, key: &str) -> bool {
    let name = |line: &str| {
        let (name, _) = line.trim().split_once('=')?;
        let name = name.trim().trim_start_matches('-');
        (!name.starts_with(['#', ';'])).then(|| name.rsplit(['.', '/']).next() == Some(key))
    };
    text.lines().filter_map(name).any(|it| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: &str) -> Link {
        Link {
            index: 1,
            name: name.into(),
            up: true,
            operational: true,
            mtu: 1450,
            mac: None,
            kind: Some(kind.into()),
            peer: None,
            alias: None,
            vxlan: None,
            makes_link_local: false,
            loopback: false,
            controller: None,
        }
    }

    fn kernel<'a>(values: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |path| values.iter().find(|(name, _)| *name == path).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_node_that_does_not_forward_is_found_by_family_and_by_device() {
        let values = [("net/ipv4/ip_forward", "0"), ("net/ipv6/conf/all/forwarding", "0")];
        assert_eq!(forwarding(&["podwire.1"], &kernel(&values), |_| true).len(), 2);
        assert_eq!(forwarding(&["podwire.1"], &kernel(&values), |ipv4| ipv4).len(), 1);
        let values = [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/podwire.1/forwarding", "0")];
        let found = forwarding(&["podwire.1"], &kernel(&values), |_| true);
        assert!(found[0].fix.starts_with("sysctl -w net/ipv4/conf/podwire.1/forwarding=1"), "{}", found[0].fix);
        assert!(forwarding(&["podwire.1"], &kernel(&[]), |_| true).is_empty());
    }

    #[test]
    fn the_larger_of_both_rp_filters_counts_and_pods_need_the_strict_one() {
        let links = [link("pwabc", "veth"), link("eth0", "veth"), link("pwned", "bridge")];
        let found = |all: &str, own: &str| {
            let values = [("net/ipv4/conf/all/rp_filter", all), ("net/ipv4/conf/pwabc/rp_filter", own)];
            spoofing(&links, &kernel(&values)).into_iter().map(|finding| finding.cause).collect::<Vec<_>>()
        };
        assert!(found("0", "1").is_empty() && found("1", "0").is_empty() && found("1", "1").is_empty());
        assert!(found("2", "1")[0].starts_with("net/ipv4/conf/all/rp_filter is 2"));
        assert!(found("0", "2")[0].starts_with("net/ipv4/conf/pwabc/rp_filter is 2"));
        assert!(found("0", "0")[0].starts_with("net/ipv4/conf/pwabc/rp_filter is 0"));
        assert_eq!((strictness(Some("1"), None), strictness(Some("1"), Some("2")), strictness(None, None)), (1, 2, 0));
    }

    #[test]
    fn the_file_that_sets_it_again_differs_from_one_that_mentions_it() {
        assert!(sets("net.ipv4.conf.*.rp_filter = 2\n", "rp_filter"));
        assert!(sets(" -net/ipv4/conf/all/rp_filter=2", "rp_filter"));
        assert!(!sets("# net.ipv4.conf.all.rp_filter = 2\nnet.ipv4.ip_forward=1\nrp_filter", "rp_filter"));
    }
    #[test]
    fn files_that_cannot_be_read_end_and_are_named() {
        let root = std::env::temp_dir().join(format!("podwire-sysctl-{}", std::process::id()));
        let directory = root.join("etc/sysctl.d");
        std::fs::create_dir_all(&directory).unwrap();
        let set = |name: &str| std::fs::write(directory.join(name), "net.ipv4.ip_forward = 0\n").unwrap();
        let said = || String::from(culprits(&root, "net/ipv4/ip_forward")).replace(directory.to_str().unwrap(), "D");
        assert_eq!(said(), "");
        set("10 own.conf");
        set("other");
        assert_eq!(said(), "   # and at every boot it is set by 'D/10 own.conf'");
        nix::unistd::mkfifo(&directory.join("20.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", directory.join("30.conf")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", directory.join("35.conf")).unwrap();
        std::fs::File::create(directory.join("40.conf")).unwrap().set_len(1 << 40).unwrap();
        let unread = "   # or in what cannot be read: D/20.conf, D/30.conf, D/40.conf";
        assert_eq!(said(), format!("   # and at every boot it is set by 'D/10 own.conf'{unread}"));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
