//! The tables of the legacy iptables, which nftables does not see: whether they drop forwarded packets.
//!
//! What may not live here: any change of them, and what is to be accepted.

mod call;
mod rules;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::rules::Rules;
use crate::decision::{self, Step};
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
/// `struct ipt_getinfo`, and its fields: the places of the hooks' first rules and of their policies, and the size of all
/// rules (uapi/linux/netfilter_ipv4/ip_tables.h; that of IPv6 is the same).
const INFO: usize = 84;
const FIRST: usize = 36;
const UNDERFLOWS: usize = 56;
const SIZE: usize = 80;
/// Where the rules begin in `struct ipt_get_entries`.
const RULES: usize = 40;
/// The most bytes of rules that are read.
const MOST: usize = 64 << 20;

/// The chain FORWARD of a table `filter` that drops what none of its rules decides about: by its policy, or by a rule for
/// all packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropPolicy {
    /// The version of IP that it is for.
    pub version: IpVersion,
    /// Whether a rule for all packets drops them, and not the policy.
    pub by_rule: bool,
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
    let place = |of: usize| number(&info, of + FORWARD * 4).ok_or_else(odd);
    let (first, policy) = (place(FIRST)?, place(UNDERFLOWS)?);
    let mut entries = name();
    entries.extend(u32::try_from(size).unwrap_or(u32::MAX).to_ne_bytes());
    entries.resize(RULES + size, 0);
    match call::entries(&socket, like, &mut entries) {
        Ok(()) => {}
        // Another program has replaced it between the two calls: the next look sees it.
        Err(error) if error.raw_os_error() == Some(nix::libc::EAGAIN) => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let rules = Rules { version, bytes: &entries[RULES..] };
    drop_policy(&rules, first, policy).ok_or_else(odd)
}

/// What the chain does whose rules begin at `first` and whose policy is the rule at `policy`, and what all rules match; nothing
/// inside where it accepts.
#[expect(clippy::option_option, reason = "outside: whether it could be read")]
fn drop_policy(rules: &Rules<'_>, first: usize, policy: usize) -> Option<Option<DropPolicy>> {
    let matched = rules.matched()?;
    let by_policy = match rules.at(policy)?.step() {
        Step::Drop => true,
        Step::Accept => false,
        _ => return None,
    };
    // The policy is the last of the rules, so they always decide, unless they could not be followed.
    let before_it = |place: &usize| rules.steps(*place, policy);
    let by_rule = decision::drops(&first, &before_it);
    let found = DropPolicy { version: rules.version, by_rule: by_rule.is_some(), rules: matched };
    Some(Some(found).filter(|_| by_rule.unwrap_or(by_policy)))
}

fn number(bytes: &[u8], place: usize) -> Option<usize> {
    let bytes = bytes.get(place..place + 4)?.try_into().ok()?;
    usize::try_from(u32::from_ne_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of IPv4 with a standard target, without a match but for the first byte of its source.
    fn rule(source: u8, verdict: i32) -> Vec<u8> {
        let mut rule = vec![0; 112];
        rule[0] = source;
        rule[88..90].copy_from_slice(&112_u16.to_ne_bytes());
        rule[90..92].copy_from_slice(&152_u16.to_ne_bytes());
        rule.extend([40, 0]);
        rule.resize(144, 0);
        rule.extend(verdict.to_ne_bytes());
        rule.resize(152, 0);
        rule
    }

    fn read(table: &[u8], first: usize, policy: usize) -> Option<Option<bool>> {
        let rules = Rules { version: IpVersion::V4, bytes: table };
        Some(drop_policy(&rules, first, policy)?.map(|found| found.by_rule))
    }

    #[test]
    fn a_policy_and_a_rule_for_all_packets_are_told_apart() {
        let (accept, drop) = (-2, -1);
        let table = |rules: &[(u8, i32)]| {
            rules.iter().flat_map(|(source, verdict)| rule(*source, *verdict)).collect::<Vec<_>>()
        };
        assert_eq!(read(&table(&[(0, accept), (0, drop), (0, accept)]), 152, 152), Some(Some(false)));
        assert_eq!(read(&table(&[(0, accept), (0, drop), (0, accept)]), 0, 0), Some(None));
        assert_eq!(read(&table(&[(9, accept), (0, drop), (0, accept)]), 0, 304), Some(Some(true)));
        assert_eq!(read(&table(&[(0, accept), (0, drop), (0, drop)]), 0, 304), Some(None));
        assert_eq!(read(&table(&[(9, drop), (0, accept)]), 0, 152), Some(None));
        // To the chain at 304, which drops; a jump to the next rule, which is none; one that returns.
        assert_eq!(read(&table(&[(0, 304), (0, accept), (0, drop)]), 0, 152), Some(Some(true)));
        assert_eq!(read(&table(&[(0, 152), (0, accept)]), 0, 152), Some(None));
        assert_eq!(read(&table(&[(0, 304), (0, drop), (0, -5)]), 0, 152), Some(Some(false)));
    }

    #[test]
    fn an_odd_table_is_no_panic() {
        let table = [rule(0, -2), rule(0, -1), rule(0, -2)].concat();
        for cut in 0..table.len() {
            assert!(read(&table[..cut], 152, 152).is_none_or(|found| found.is_some()), "{cut}");
        }
        let mut endless = table;
        endless[90..92].copy_from_slice(&[0, 0]);
        assert_eq!(read(&endless, 0, 152), None);
        // Round and round.
        assert_eq!(read(&[rule(0, 0), rule(0, -2)].concat(), 0, 152), Some(None));
    }
}
