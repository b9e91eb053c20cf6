//! The tables of the legacy iptables, which nftables does not see: whether they drop forwarded packets.
//!
//! What may not live here: any change of them, and what is to be accepted.

mod call;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::family::IpVersion;
use crate::netlink::error::{Error, Result};

/// The names of the tables that this network namespace has. To ask for one that it has not would make it.
const NAMES: [(IpVersion, &str); 2] = [
    (IpVersion::V4, "/proc/thread-self/net/ip_tables_names"),
    (IpVersion::V6, "/proc/thread-self/net/ip6_tables_names"),
];
const TABLE: &str = "filter";
/// `NF_INET_FORWARD` (uapi/linux/netfilter.h).
const FORWARD: usize = 2;
/// `-NF_DROP - 1`, as the verdict of a standard target (uapi/linux/netfilter/x_tables.h).
const DROPPED: i32 = -1;
/// `struct ipt_getinfo`, and its fields: the places of the hooks' last rules, and the size of all rules
/// (uapi/linux/netfilter_ipv4/ip_tables.h; that of IPv6 is the same).
const INFO: usize = 84;
const UNDERFLOWS: usize = 56;
const SIZE: usize = 80;
/// Where the rules begin in `struct ipt_get_entries`.
const RULES: usize = 40;
/// The most bytes of rules that are read.
const MOST: usize = 64 << 20;

/// Where the parts of a rule are: `struct ipt_entry` and `struct ip6t_entry`, whose match of addresses and devices comes
/// first, then the offsets of the target and of the next rule, and the counters last.
struct Layout {
    matched: usize,
    target: usize,
    next: usize,
    length: usize,
}

/// The chain FORWARD of a table `filter` whose policy is "drop".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropPolicy {
    /// The version of IP that it is for.
    pub version: IpVersion,
    /// What every rule of the table matches, as the kernel keeps it: the caller judges what they accept.
    pub rules: Vec<Vec<u8>>,
}

/// The legacy tables that drop forwarded packets unless a rule accepts them.
///
/// # Errors
/// When the kernel refuses: without `CAP_NET_ADMIN` it does.
pub fn drop_policies() -> Result<Vec<DropPolicy>> {
    let mut found = Vec::new();
    for (version, names) in NAMES {
        let tables = match std::fs::read_to_string(names) {
            Ok(tables) => tables,
            // The kernel has no such tables.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::system(format!("read {names}"), error)),
        };
        if tables.lines().any(|table| table == TABLE) {
            found.extend(read(version)?);
        }
    }
    Ok(found)
}

fn read(version: IpVersion) -> Result<Option<DropPolicy>> {
    let operation = format!("read table {TABLE} of the legacy iptables for IPv{}", version.digit());
    let failed = |error| Error::system(&operation, error);
    let like = match version {
        IpVersion::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpVersion::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let name = || {
        let mut name = TABLE.as_bytes().to_vec();
        name.resize(32, 0);
        name
    };
    let mut info = name();
    info.resize(INFO, 0);
    let socket = call::open(like).map_err(failed)?;
    call::info(&socket, like, &mut info).map_err(failed)?;
    let odd = || Error::unreadable(&operation, "it has another form");
    let size = number(&info, SIZE).filter(|size| *size <= MOST).ok_or_else(odd)?;
    let last = number(&info, UNDERFLOWS + FORWARD * 4).ok_or_else(odd)?;
    let mut entries = name();
    entries.extend(u32::try_from(size).unwrap_or(u32::MAX).to_ne_bytes());
    entries.resize(RULES + size, 0);
    match call::entries(&socket, like, &mut entries) {
        Ok(()) => {}
        // Another program has replaced it between the two calls: the next look sees it.
        Err(error) if error.raw_os_error() == Some(nix::libc::EAGAIN) => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    parse(version, &entries[RULES..], last).ok_or_else(odd)
}

fn layout(version: IpVersion) -> Layout {
    match version {
        IpVersion::V4 => Layout { matched: 84, target: 88, next: 90, length: 112 },
        IpVersion::V6 => Layout { matched: 136, target: 140, next: 142, length: 168 },
    }
}

/// The policy, which is the rule at `last`, and what all rules match; nothing where it accepts.
#[expect(clippy::option_option, reason = "outside: whether it could be read")]
fn parse(version: IpVersion, table: &[u8], last: usize) -> Option<Option<DropPolicy>> {
    let Layout { matched, target, next, length } = layout(version);
    let half =
        |rule: &[u8], place: usize| Some(usize::from(u16::from_ne_bytes(rule.get(place..place + 2)?.try_into().ok()?)));
    let policy = table.get(last..)?;
    // Behind the head of the target: its size, its name, its revision.
    let verdict = half(policy, target)? + 32;
    if i32::from_ne_bytes(policy.get(verdict..verdict + 4)?.try_into().ok()?) != DROPPED {
        return Some(None);
    }
    let (mut rules, mut rest) = (Vec::new(), table);
    while !rest.is_empty() {
        let end = half(rest, next)?;
        let rule = rest.get(..end).filter(|rule| rule.len() >= length)?;
        rules.push([&rule[..matched], &rule[length..]].concat());
        rest = &rest[end..];
    }
    Some(Some(DropPolicy { version, rules }))
}

fn number(bytes: &[u8], place: usize) -> Option<usize> {
    let bytes = bytes.get(place..place + 4)?.try_into().ok()?;
    usize::try_from(u32::from_ne_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of IPv4 without a match, with a standard target.
    fn rule(verdict: i32) -> Vec<u8> {
        let mut rule = vec![0; 112];
        rule[88..90].copy_from_slice(&112_u16.to_ne_bytes());
        rule[90..92].copy_from_slice(&152_u16.to_ne_bytes());
        rule.extend([40, 0]);
        rule.resize(144, 0);
        rule.extend(verdict.to_ne_bytes());
        rule.resize(152, 0);
        rule
    }

    #[test]
    fn a_policy_that_drops_is_found_and_an_odd_table_is_no_panic() {
        let table = [rule(-2), rule(-1), rule(-2)].concat();
        let found = parse(IpVersion::V4, &table, 152).unwrap().unwrap();
        assert_eq!((found.version, found.rules.len(), found.rules[0].len()), (IpVersion::V4, 3, 84 + 40));
        assert_eq!(parse(IpVersion::V4, &table, 0), Some(None));
        for cut in 0..table.len() {
            assert!(parse(IpVersion::V4, &table[..cut], 152).is_none_or(|found| found.is_some()), "{cut}");
        }
        let mut endless = table;
        endless[90..92].copy_from_slice(&[0, 0]);
        assert_eq!(parse(IpVersion::V4, &endless, 152), None);
    }
}
