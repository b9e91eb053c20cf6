//! Ports cut into segments, each with the ranges of rules that all of its ports are in. Segments that are in the same ranges
//! have one number.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::element::{PortRange, PortSegment};
use crate::policy::numbers::Numbers;

/// A range as a rule has it, from the first port to the last.
pub(super) type Ports = (u16, u16);

/// The segments, and the numbers that each range is made of.
#[derive(Debug, Default)]
pub(super) struct PortRanges {
    pub(super) segments: Vec<PortSegment>,
    parts: BTreeMap<Ports, BTreeSet<PortRange>>,
}

impl PortRanges {
    /// Of the ranges of all rules.
    pub(super) fn new(ranges: &BTreeSet<Ports>, numbers: &mut Numbers<Vec<Ports>>) -> Self {
        let edges: BTreeSet<u32> =
            ranges.iter().flat_map(|(first, last)| [u32::from(*first), u32::from(*last) + 1]).collect();
        let edges: Vec<_> = edges.into_iter().collect();
        let mut made = Self::default();
        for pair in edges.windows(2) {
            let &[first, after] = pair else { continue };
            // Both are edges of ports, and the second one is greater.
            let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(after - 1)) else { continue };
            let inside: Vec<Ports> =
                ranges.iter().copied().filter(|range| range.0 <= first && last <= range.1).collect();
            if inside.is_empty() {
                continue;
            }
            let range = PortRange(numbers.number(inside.clone()));
            made.segments.push(PortSegment { first, last, range });
            inside.into_iter().for_each(|ports| _ = made.parts.entry(ports).or_default().insert(range));
        }
        made
    }

    /// The number of the range that a port is in.
    pub(super) fn of(&self, port: u16) -> Option<PortRange> {
        let after = self.segments.partition_point(|segment| segment.first <= port);
        let before = self.segments.get(after.checked_sub(1)?)?;
        (port <= before.last).then_some(before.range)
    }

    /// What a range is made of.
    pub(super) fn parts(&self, ports: Ports) -> impl Iterator<Item = PortRange> + '_ {
        self.parts.get(&ports).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_they_overlap_and_equal_parts_have_one_number() {
        let mut numbers = Numbers::default();
        let ranges = PortRanges::new(&[(0, u16::MAX), (80, 90), (85, 95)].into(), &mut numbers);
        let segments: Vec<_> =
            ranges.segments.iter().map(|segment| (segment.first, segment.last, segment.range.0)).collect();
        assert_eq!(segments, [(0, 79, 1), (80, 84, 2), (85, 90, 3), (91, 95, 4), (96, u16::MAX, 1)]);
        let parts = |ports| ranges.parts(ports).map(|part| part.0).collect::<Vec<_>>();
        assert_eq!(
            [parts((0, u16::MAX)), parts((80, 90)), parts((85, 95))],
            [vec![1, 2, 3, 4], vec![2, 3], vec![3, 4]]
        );
    }
}
