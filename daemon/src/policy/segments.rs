//! Addresses cut into segments, each with the blocks that all of its addresses are in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use podwire_kernel::family::IpVersion;

use crate::policy::ip_block::{Span, number};

/// Addresses that are in the same blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) span: Span,
    /// The numbers of the blocks, in order.
    pub(super) blocks: Vec<u32>,
}

/// Segments in order that do not overlap; what is in no block is in none.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments(Vec<Segment>);

/// The blocks that begin at an address, and those that have ended before it.
#[derive(Default)]
struct Edge {
    begin: Vec<u32>,
    end: Vec<u32>,
}

impl Segments {
    /// Of blocks, each by its number and what is in it. Some addresses are in the blocks of others, instead of their own.
    pub(super) fn new<'a>(blocks: impl Iterator<Item = (u32, &'a [Span])>, judged_as: &[(IpAddr, IpAddr)]) -> Self {
        let mut edges: BTreeMap<(IpVersion, u128), Edge> = BTreeMap::new();
        for (block, spans) in blocks {
            for span in spans {
                edges.entry((span.version, span.first)).or_default().begin.push(block);
                if let Some(after) = span.last.checked_add(1) {
                    edges.entry((span.version, after)).or_default().end.push(block);
                }
            }
        }
        if edges.is_empty() {
            return Self::default();
        }
        for (address, _) in judged_as {
            let (version, number) = (IpVersion::of(*address), number(*address));
            edges.entry((version, number)).or_default();
            if let Some(after) = number.checked_add(1) {
                edges.entry((version, after)).or_default();
            }
        }
        let own = Self(sweep(edges));
        let mut judged = own.clone();
        for (address, other) in judged_as {
            let number = number(*address);
            let found = judged.find(*address).and_then(|place| judged.0.get_mut(place));
            // Its own edges have made a segment of it.
            if let Some(segment) = found.filter(|segment| (segment.span.first, segment.span.last) == (number, number)) {
                segment.blocks = own.at(*other).to_vec();
            }
        }
        judged.0.retain(|segment| !segment.blocks.is_empty());
        judged.0.dedup_by(|later, first| {
            let follows = first.span.version == later.span.version
                && first.span.last.checked_add(1) == Some(later.span.first)
                && first.blocks == later.blocks;
            if follows {
                first.span.last = later.span.last;
            }
            follows
        });
        judged
    }

    /// The blocks that an address is in.
    pub(super) fn at(&self, address: IpAddr) -> &[u32] {
        self.find(address).and_then(|place| self.0.get(place)).map_or(&[], |segment| &segment.blocks)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter()
    }

    fn find(&self, address: IpAddr) -> Option<usize> {
        let (version, number) = (IpVersion::of(address), number(address));
        let place = self.0.partition_point(|segment| (segment.span.version, segment.span.first) <= (version, number));
        let place = place.checked_sub(1)?;
        let span = self.0.get(place)?.span;
        (span.version == version && number <= span.last).then_some(place)
    }
}

/// The segments between edges, also those that are in no block.
fn sweep(edges: BTreeMap<(IpVersion, u128), Edge>) -> Vec<Segment> {
    let (mut segments, mut inside) = (Vec::new(), BTreeSet::new());
    let mut begun: Option<(IpVersion, u128)> = None;
    let mut close = |begun: Option<(IpVersion, u128)>, last: u128, inside: &BTreeSet<u32>| {
        if let Some((version, first)) = begun {
            segments.push(Segment { span: Span { version, first, last }, blocks: inside.iter().copied().collect() });
        }
    };
    for ((version, position), edge) in edges {
        // The blocks of a version end with its last address, so that nothing is carried into the next.
        close(begun.filter(|begun| begun.0 == version), position.saturating_sub(1), &inside);
        edge.end.iter().for_each(|block| _ = inside.remove(block));
        inside.extend(edge.begin);
        begun = Some((version, position));
    }
    close(begun.filter(|_| !inside.is_empty()), u128::MAX, &inside);
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ip_block::{IpBlock, address};

    fn segments(blocks: &[(&str, &[&str])], judged_as: &[(&str, &str)]) -> Vec<(String, String, Vec<u32>)> {
        let spans = blocks.iter().map(|(cidr, except)| {
            let except = except.iter().map(|prefix| prefix.parse().unwrap()).collect();
            IpBlock { cidr: cidr.parse().unwrap(), except }.spans()
        });
        let spans: Vec<_> = spans.collect();
        let judged_as: Vec<_> =
            judged_as.iter().map(|(one, other)| (one.parse().unwrap(), other.parse().unwrap())).collect();
        let segments = Segments::new((1..).zip(spans.iter().map(|spans| &spans[..])), &judged_as);
        let shown = |version, number| address(version, number).to_string();
        let segment = |segment: &Segment| {
            let span = segment.span;
            (shown(span.version, span.first), shown(span.version, span.last), segment.blocks.clone())
        };
        segments.iter().map(segment).collect()
    }

    fn segment(first: &str, last: &str, blocks: &[u32]) -> (String, String, Vec<u32>) {
        (first.into(), last.into(), blocks.into())
    }

    #[test]
    fn overlapping_blocks_are_cut_where_one_begins_or_ends() {
        let blocks: [(&str, &[&str]); 4] =
            [("10.0.0.0/30", &["10.0.0.1/32"]), ("10.0.0.2/31", &[]), ("0.0.0.0/0", &[]), ("::/0", &["::/127"])];
        let expected = [
            segment("0.0.0.0", "9.255.255.255", &[3]),
            segment("10.0.0.0", "10.0.0.0", &[1, 3]),
            segment("10.0.0.1", "10.0.0.1", &[3]),
            segment("10.0.0.2", "10.0.0.3", &[1, 2, 3]),
            segment("10.0.0.4", "255.255.255.255", &[3]),
            segment("::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[4]),
        ];
        assert_eq!(segments(&blocks, &[]), expected);
    }

    #[test]
    fn an_address_that_stands_for_another_is_in_its_blocks_alone() {
        let blocks: [(&str, &[&str]); 2] = [("192.168.0.3/32", &[]), ("10.244.0.0/23", &[])];
        let judged = [("10.244.0.0", "192.168.0.3"), ("10.244.1.0", "192.168.0.4"), ("10.244.9.0", "192.168.0.3")];
        let expected = [
            segment("10.244.0.0", "10.244.0.0", &[1]),
            segment("10.244.0.1", "10.244.0.255", &[2]),
            segment("10.244.1.1", "10.244.1.255", &[2]),
            segment("10.244.9.0", "10.244.9.0", &[1]),
            segment("192.168.0.3", "192.168.0.3", &[1]),
        ];
        assert_eq!(segments(&blocks, &judged), expected);
        assert_eq!(segments(&[("fd00::/127", &[])], &[("fd00::1", "fd00::2")]), [segment("fd00::", "fd00::", &[1])]);
    }
}
