//! Properties of every set of ranges, from /8 to /30 and from /64 to /126, whatever is taken.

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;

/// A generated range: `range` turns it into one that the parser of the configuration would accept.
#[derive(Debug, Clone)]
pub(crate) struct Design {
    ipv4: bool,
    /// Designs with different places have different addresses.
    place: u8,
    host_bits: u128,
    prefix: u8,
    /// Index of the first address and how many there are; all of the subnet when there is no window.
    pub(crate) window: Option<(u64, u64)>,
    gateway: Option<u64>,
}

/// Designs of the ranges of one set.
pub(crate) fn designs(ipv4: bool, first_place: u8) -> impl Strategy<Value = Vec<Design>> {
    let prefix = if ipv4 { 8..=30_u8 } else { 64..=126 };
    let window = prop_oneof![1 => Just(None), 4 => window().prop_map(Some)];
    let design = (prefix, any::<u128>(), window, prop::option::of(0..16_u64));
    prop::collection::vec(design, 1..3).prop_map(move |designs| {
        let with_place = (first_place..).zip(designs);
        let design =
            |(place, (prefix, host_bits, window, gateway))| Design { ipv4, place, host_bits, prefix, window, gateway };
        with_place.map(design).collect()
    })
}

/// A window at the beginning, in the middle, or at the end, small enough to be used up.
pub(crate) fn window() -> impl Strategy<Value = (u64, u64)> {
    (prop_oneof![0..6_u64, any::<u64>(), Just(u64::MAX)], 1..12_u64)
}

impl Design {
    /// The range.
    pub(crate) fn range(&self) -> Range {
        let place = u128::from(self.place);
        let (width, base) = if self.ipv4 { (32, (10 + place) << 24) } else { (128, (0xfd00 + place) << 112) };
        let hosts = (1_u128 << (width - self.prefix)) - 1;
        let below = (1_u128 << (if self.ipv4 { 24 } else { 112 })) - 1;
        let network = base | (self.host_bits & below & !hosts);
        let (lowest, highest) = (network + 1, network + hosts - u128::from(self.ipv4));
        let at = |place: u64| (lowest + u128::from(place)).min(highest);
        let address = |number: u128| match self.ipv4 {
            true => IpAddr::V4(u32::try_from(number).unwrap().into()),
            false => IpAddr::V6(number.into()),
        };
        let window = self.window.map(|(start, length)| (at(start), at(start.saturating_add(length - 1))));
        Range {
            subnet: IpNetwork::new(address(network), self.prefix).unwrap(),
            start: window.map(|(first, _)| address(first)),
            end: window.map(|(_, last)| address(last)),
            gateway: self
                .gateway
                .map(|place| address(at(self.window.map_or(0, |(start, _)| start).saturating_add(place)))),
        }
    }
}

/// Addresses of the ranges at their ends and a little beside them, of which some are taken.
fn near(set: &[Range]) -> Vec<IpAddr> {
    let ends = set.iter().flat_map(|range| [bits(range.first()), bits(range.last()), bits(range.reserved())]);
    let beside = ends.flat_map(|end| end.saturating_sub(3)..=end.saturating_add(3));
    beside.map(|number| address(set, number)).collect()
}

fn set() -> impl Strategy<Value = Vec<Range>> {
    any::<bool>().prop_flat_map(|ipv4| designs(ipv4, 0)).prop_map(|designs| designs.iter().map(Design::range).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn free_is_the_set_without_what_is_taken_in_order(
        set in set(),
        taken in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        last in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let near = near(&set);
        let taken: Vec<IpAddr> = taken.iter().map(|taken| *taken.get(&near)).collect();
        let last = last.map_or(0, |last| bits(*last.get(&near)));
        let parts = free(&set, &taken, last);

        // Nothing taken, no gateway, nothing twice, and the right number.
        let given = |address: &&IpAddr| range_of(&set, **address).is_some_and(|range| range.reserved() != **address);
        let held: std::collections::HashSet<_> = taken.iter().filter(given).collect();
        let count: u128 = parts.iter().map(|part| part.last - part.first + 1).sum();
        prop_assert_eq!(count, size(&set) - held.len() as u128);
        for part in &parts {
            let range = range_of(&set, address(&set, part.first));
            prop_assert!(range.is_some_and(|range| bits(range.last()) >= part.last), "{:?} is in no range", part);
            let inside = |number: u128| (part.first..=part.last).contains(&number);
            prop_assert!(!taken.iter().any(|address| inside(bits(*address))), "{:?} is taken", part);
            prop_assert!(!set.iter().any(|range| inside(bits(range.reserved()))), "{:?} has the gateway", part);
        }

        // What is behind the last one comes first.
        let place = |number: u128| {
            let range = set.iter().position(|range| (bits(range.first())..=bits(range.last())).contains(&number));
            range.map(|range| (range, number))
        };
        let order = |part: &Interval| (place(last).is_some() && place(part.first) <= place(last), place(part.first));
        prop_assert!(parts.is_sorted_by(|one, other| order(one) < order(other)), "{:?} after {:x}", parts, last);
    }

    #[test]
    fn an_interval_without_an_address_keeps_all_others(first: u128, length in 0..9_u128, place in 0..12_u128) {
        let interval = Interval { first, last: first.saturating_add(length) };
        prop_assert_eq!(Interval::from_bytes(&interval.to_bytes()), interval);
        let address = first.saturating_add(place).saturating_sub(1);
        let left: Vec<u128> = interval.without(address).flat_map(|part| part.first..=part.last).collect();
        let expected: Vec<u128> = (interval.first..=interval.last).filter(|one| *one != address).collect();
        prop_assert_eq!(left, expected);
    }

    #[test]
    fn sets_have_the_same_name_exactly_if_they_give_the_same_addresses(
        designs in designs(true, 0),
        change in prop::option::of((any::<prop::sample::Index>(), prop::option::of(window()))),
    ) {
        let mut changed = designs.clone();
        if let Some((which, window)) = change {
            changed[which.index(designs.len())].window = window;
        }
        let sets = [designs, changed].map(|designs| designs.iter().map(Design::range).collect::<Vec<_>>());
        let ends = |range: &Range| [range.first(), range.last(), range.reserved()];
        let [one, other] = sets.each_ref().map(|set| set.iter().map(ends).collect::<Vec<_>>());
        prop_assert_eq!(fingerprint(&sets[0]) == fingerprint(&sets[1]), one == other);
    }
}
