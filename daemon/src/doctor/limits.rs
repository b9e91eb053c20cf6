//! Tables of the kernel that are all but full: tracked connections and neighbours. Where a namespace does not have these
//! files there is nothing to say.

use std::path::Path;

use podwire_conf::defaults;
use podwire_kernel::{Result, Socket, address, link, neighbour};

use super::examined::Examined;
use super::finding::{Finding, FindingKind};
use super::fix::{Fix, command};

/// From this part of a table on, in percent, it is worth a word.
const ALL_BUT_FULL: u64 = 80;

/// A row of /proc/net/stat has its numbers in hexadecimal; the first one is that of the entries.
const STATISTICS: [(&str, &str); 2] = [("arp_cache", "ipv4"), ("ndisc_cache", "ipv6")];

/// Neighbours, IPv4 and IPv6.
#[derive(Debug, Clone, Copy, Default)]
struct Neighbours {
    /// Entries of the tables that the limits do not count.
    uncounted: [u64; 2],
    /// Peers that this node speaks to without a router: each of them is an entry.
    peers: [u64; 2],
}

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let read = |path: &str| std::fs::read_to_string(Path::new("/proc").join(path)).ok();
    let mut neighbours = Neighbours { uncounted: neighbour::gc_exempt(socket)?, peers: [0; 2] };
    // The tables are one for all namespaces, and each of our pods has its node as a permanent neighbour of each family.
    let pods = link::list(socket)?.iter().filter(|link| link.name.starts_with(defaults::HOST_VETH_PREFIX)).count();
    neighbours.uncounted.iter_mut().for_each(|count| *count += pods as u64);
    if let Some(cluster) = &node.cluster {
        let addresses = address::list(socket, None)?;
        let own = addresses.iter().find(|found| found.address.ip() == cluster.address);
        for peer in &cluster.peers {
            let is_near = own.is_some_and(|own| own.address.contains(peer.address));
            neighbours.peers[usize::from(peer.address.is_ipv6())] += u64::from(is_near);
        }
    }
    Ok(judge(&read, neighbours))
}

fn judge(read: &impl Fn(&str) -> Option<String>, neighbours: Neighbours) -> Vec<Finding> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let mut findings = Vec::new();
    let (count, most) = ("sys/net/netfilter/nf_conntrack_count", "sys/net/netfilter/nf_conntrack_max");
    if let (Some(count), Some(most)) = (number(count), number(most).filter(|most| *most > 0))
        && count * 100 >= most * ALL_BUT_FULL
    {
        let cause = format!(
            "the kernel tracks {count} connections and has room for {most}: when the table is full, new ones are dropped"
        );
        findings.push(Finding::general(
            FindingKind::ConntrackFull,
            cause,
            set(&[("netfilter/nf_conntrack_max", most * 2)]),
        ));
    }
    for (place, (statistics, family)) in STATISTICS.into_iter().enumerate() {
        let Some(most) = number(&format!("sys/net/{family}/neigh/default/gc_thresh3")) else { continue };
        let entries = read(&format!("net/stat/{statistics}")).and_then(|text| entries(&text)).unwrap_or(0);
        let (entries, peers) = (entries.saturating_sub(neighbours.uncounted[place]), neighbours.peers[place]);
        if entries.max(peers) * 100 < most * ALL_BUT_FULL {
            continue;
        }
        let taken = if entries >= peers {
            format!("{entries} are taken")
        } else {
            format!("{peers} nodes on this node's link need one each")
        };
        let cause = format!(
            "the kernel's table of {family} neighbours has room for {most} entries, and {taken}: when it is full, \
             new neighbours on a link cannot be resolved"
        );
        let room = (entries.max(peers) * 4).next_power_of_two();
        let table = format!("{family}/neigh/default");
        let (third, second) = (format!("{table}/gc_thresh3"), format!("{table}/gc_thresh2"));
        let fix = set(&[(&third, room), (&second, room / 2)]);
        findings.push(Finding::new(FindingKind::NeighboursFull, family, cause, fix));
    }
    findings
}

/// A command that gives settings of the network their values.
fn set(values: &[(&str, u64)]) -> Fix {
    let mut settings = Fix::from("sysctl -w");
    for (path, value) in values {
        settings = command!("{} net/{}={}", settings, path, value);
    }
    command!("{}   # and write it to /etc/sysctl.d/, or it is gone at the next boot", settings)
}

/// The entries of a table, which every row of its statistics repeats.
fn entries(statistics: &str) -> Option<u64> {
    u64::from_str_radix(statistics.lines().nth(1)?.split_whitespace().next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn almost_full_tables_are_found() {
        let of = |count: &str, statistics: &str, uncounted, peers| {
            let files = [
                ("sys/net/netfilter/nf_conntrack_count", count),
                ("sys/net/netfilter/nf_conntrack_max", "262144\n"),
                ("sys/net/ipv6/neigh/default/gc_thresh3", "1024\n"),
                ("net/stat/ndisc_cache", statistics),
            ];
            judge(&kernel(&files), Neighbours { uncounted: [0, uncounted], peers: [0, peers] })
        };
        let head = "entries,allocs,destroys\n";
        assert!(of("1000\n", &format!("{head}000000ff 01 02\n"), 0, 100).is_empty());
        let full = of("250000\n", &format!("{head}00000400 01 02\n"), 0, 100);
        assert!(full[0].fix.starts_with("sysctl -w net/netfilter/nf_conntrack_max=524288 "), "{}", full[0].fix);
        let set = "sysctl -w net/ipv6/neigh/default/gc_thresh3=4096 net/ipv6/neigh/default/gc_thresh2=2048 ";
        assert!(full[1].fix.starts_with(set), "{}", full[1].fix);
        assert!(full[1].cause.contains("and 1024 are taken"), "{}", full[1].cause);
        // The permanent ones take no room: those of the overlay's peers are such.
        assert!(of("0\n", &format!("{head}00002710 01 02\n"), 9_500, 100).is_empty());
        // Peers that have not been spoken to yet count as well.
        let many = of("0\n", head, 0, 2_500);
        assert!(many[0].cause.contains("and 2500 nodes on this node's link need one each"), "{}", many[0].cause);
        // A namespace without these files.
        assert!(judge(&kernel(&[]), Neighbours { uncounted: [0; 2], peers: [10_000; 2] }).is_empty());
    }
}
