//! A block of addresses: a prefix without its exceptions, and the ranges of addresses that are in it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family::{self, IpVersion};
use serde::Deserialize;

use crate::policy::rejected::{Complaints, Reason, quoted};

/// The most exceptions of a block.
const EXCEPTIONS: usize = 1024;

/// A prefix without its exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpBlock {
    /// The prefix.
    pub cidr: IpNetwork,
    /// What of it is not in the block.
    pub except: Box<[IpNetwork]>,
}

/// Addresses of one version from the first to the last, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    pub(super) version: IpVersion,
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Span {
    /// All addresses of a prefix.
    pub(super) fn of(prefix: IpNetwork) -> Self {
        let version = IpVersion::of(prefix.ip());
        let bits = version.address_length() * 8;
        let hosts = bits - usize::from(prefix.prefix());
        let mask = if hosts == 128 { u128::MAX } else { (1 << hosts) - 1 };
        let first = number(prefix.network());
        Self { version, first, last: first | mask }
    }
}

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    family::bytes(address).into_iter().fold(0, |number, byte| number << 8 | u128::from(byte))
}

/// The address of a number.
pub(super) fn address(version: IpVersion, number: u128) -> IpAddr {
    let bytes = number.to_be_bytes();
    let own = bytes.get(bytes.len() - version.address_length()..).and_then(|bytes| version.address(bytes));
    own.unwrap_or(version.unspecified())
}

impl IpBlock {
    /// What is in it, as ranges that do not touch, sorted: two blocks with the same addresses have the same.
    pub(super) fn spans(&self) -> Vec<Span> {
        let whole = Span::of(self.cidr);
        let mut holes: Vec<_> = self.except.iter().copied().map(Span::of).collect();
        holes.sort();
        let (mut spans, mut next) = (Vec::new(), Some(whole.first));
        for hole in holes {
            let Some(first) = next else { break };
            if hole.first > first {
                spans.push(Span { first, last: hole.first - 1, ..whole });
            }
            next = hole.last.checked_add(1).map(|after| after.max(first));
        }
        spans.extend(next.filter(|first| *first <= whole.last).map(|first| Span { first, ..whole }));
        spans
    }
}

/// An `ipBlock` as the API writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    cidr: String,
    except: Option<Vec<String>>,
}

impl Wire {
    /// The block, where nothing is wrong with its prefix.
    pub(super) fn read(self, field: &str, complaints: &mut Complaints) -> Option<IpBlock> {
        let cidr = prefix(&format!("{field}.cidr"), &self.cidr, complaints);
        let written = self.except.unwrap_or_default();
        complaints.bound(&format!("{field}.except"), written.len(), EXCEPTIONS);
        let mut except = Vec::new();
        for (place, text) in written.iter().take(EXCEPTIONS).enumerate() {
            let field = format!("{field}.except[{place}]");
            let (Some(hole), Some(cidr)) = (prefix(&field, text, complaints), cidr) else { continue };
            if family::contains(cidr, hole) && cidr.prefix() < hole.prefix() {
                except.push(hole);
            } else {
                complaints.add(field, Reason::OutsideOfCidr { except: hole, cidr });
            }
        }
        Some(IpBlock { cidr: cidr?, except: except.into() })
    }
}

/// A prefix; host bits are allowed, and mean nothing.
pub(super) fn prefix(field: &str, text: &str, complaints: &mut Complaints) -> Option<IpNetwork> {
    // A bare address is none, though it can be read as one.
    let read = text.contains('/').then(|| text.parse::<IpNetwork>().ok()).flatten();
    if read.is_none() {
        complaints.add(field, Reason::NoPrefix(quoted(text)));
    }
    read.map(family::masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(cidr: &str, except: &[&str]) -> Vec<(String, String)> {
        let except = except.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let spans = IpBlock { cidr: cidr.parse().unwrap(), except }.spans();
        let shown = |version, number| address(version, number).to_string();
        spans.iter().map(|span| (shown(span.version, span.first), shown(span.version, span.last))).collect()
    }

    #[test]
    fn exceptions_are_cut_out_also_where_they_overlap_or_are_at_an_end() {
        let pair = |first: &str, last: &str| (first.to_owned(), last.to_owned());
        assert_eq!(spans("0.0.0.0/0", &[]), [pair("0.0.0.0", "255.255.255.255")]);
        assert_eq!(spans("::/0", &[]), [pair("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
        assert_eq!(spans("::/0", &["8000::/1"]), [pair("::", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
        assert_eq!(spans("10.0.0.0/8", &["10.0.0.0/9", "10.128.0.0/9"]), []);
        assert_eq!(
            spans("10.0.0.0/24", &["10.0.0.16/28", "10.0.0.0/30", "10.0.0.16/29", "10.0.0.128/25"]),
            [pair("10.0.0.4", "10.0.0.15"), pair("10.0.0.32", "10.0.0.127")]
        );
        assert_eq!(spans("10.0.0.7/32", &[]), [pair("10.0.0.7", "10.0.0.7")]);
    }
}
