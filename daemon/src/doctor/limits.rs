//! Tables of the kernel that are all but full: tracked connections and neighbours. Where a namespace does not have these
//! files there is nothing to say.

use std::path::Path;

use podwire_kernel::{Result, Socket};

use super::{Finding, Node};

/// From this part of a table on, in percent, it is worth a word.
const ALL_BUT_FULL: u64 = 80;

/// A row of /proc/net/stat has its numbers in hexadecimal; the first one is that of the entries.
const STATISTICS: [(&str, &str); 2] = [("arp_cache", "ipv4"), ("ndisc_cache", "ipv6")];

#[expect(clippy::unnecessary_wraps, reason = "as the other looks")]
pub(super) fn look(node: &Node, _: &mut Socket) -> Result<Vec<Finding>> {
    let read = |path: &str| std::fs::read_to_string(Path::new("/proc").join(path)).ok();
    let peers = node.cluster.as_ref().map_or(0, |cluster| cluster.peers.len());
    Ok(judge(&read, peers as u64))
}

fn judge(read: &impl Fn(&str) -> Option<String>, peers: u64) -> Vec<Finding> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let mut findings = Vec::new();
    let (count, most) = ("sys/net/netfilter/nf_conntrack_count", "sys/net/netfilter/nf_conntrack_max");
    if let (Some(count), Some(most)) = (number(count), number(most).filter(|most| *most > 0))
        && count * 100 >= most * ALL_BUT_FULL
    {
        let cause = format!("{count} of {most} connections are tracked: when the table is full, new ones are dropped");
        let fix = format!("sysctl -w net/netfilter/nf_conntrack_max={}", most * 2);
        findings.push(Finding::new("conntrack", cause, fix));
    }
    for (statistics, family) in STATISTICS {
        let Some(most) = number(&format!("sys/net/{family}/neigh/default/gc_thresh3")) else { continue };
        let entries = read(&format!("net/stat/{statistics}")).and_then(|text| entries(&text)).unwrap_or(0);
        // A peer is a permanent neighbour of IPv6 on the overlay, and one of its node's family on the underlay.
        let needed = entries.max(peers);
        if needed * 100 < most * ALL_BUT_FULL {
            continue;
        }
        let cause = format!(
            "the neighbour table of {family} has room for {most} entries; it has {entries}, and {peers} peers need one \
             each: when it is full, nobody new is reached"
        );
        let room = (needed * 4).next_power_of_two();
        let fix = format!(
            "sysctl -w net/{family}/neigh/default/gc_thresh3={room} net/{family}/neigh/default/gc_thresh2={}",
            room / 2
        );
        findings.push(Finding::new("neighbours", cause, fix));
    }
    findings
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
    fn pain32_tables_that_are_all_but_full_are_found_before_they_are() {
        let of = |count: &str, statistics: &str, peers| {
            let files = [
                ("sys/net/netfilter/nf_conntrack_count", count),
                ("sys/net/netfilter/nf_conntrack_max", "262144\n"),
                ("sys/net/ipv6/neigh/default/gc_thresh3", "1024\n"),
                ("net/stat/ndisc_cache", statistics),
            ];
            let found = judge(&kernel(&files), peers);
            found.into_iter().map(|finding| (finding.check, finding.fix)).collect::<Vec<_>>()
        };
        let head = "entries,allocs,destroys\n";
        assert!(of("1000\n", &format!("{head}000000ff 01 02\n"), 100).is_empty());
        let full = of("250000\n", &format!("{head}00000400 01 02\n"), 100);
        assert_eq!(full[0], ("conntrack".into(), "sysctl -w net/netfilter/nf_conntrack_max=524288".into()));
        assert_eq!(
            full[1].1,
            "sysctl -w net/ipv6/neigh/default/gc_thresh3=4096 net/ipv6/neigh/default/gc_thresh2=2048"
        );
        // Peers that have not come yet count as well.
        assert_eq!(of("0\n", head, 2_500)[0].0, "neighbours");
        // A namespace without these files.
        assert!(judge(&kernel(&[]), 10_000).is_empty());
    }
}
