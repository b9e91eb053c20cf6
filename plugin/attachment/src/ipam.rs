//! Which addresses a set of ranges has, and in which order they are given. Pure: no disk, no clock, no kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podwire_conf::{Range, hash};

/// Consecutive addresses of one family, as numbers, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The first address.
    pub first: u128,
    /// The last address.
    pub last: u128,
}

impl Interval {
    /// Its encoding in a free list.
    pub fn to_bytes(&self) -> [u8; 32] {
        let [first, last] = [self.first, self.last].map(u128::to_be_bytes);
        std::array::from_fn(|place| if place < 16 { first[place] } else { last[place - 16] })
    }

    /// Decodes it from a free list.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let number = |from: usize| u128::from_be_bytes(std::array::from_fn(|place| bytes[from + place]));
        Self { first: number(0), last: number(16) }
    }

    /// What remains of it without one address.
    pub fn without(self, address: u128) -> impl Iterator<Item = Self> {
        let inside = (self.first..=self.last).contains(&address);
        let before = address.checked_sub(1).map(|last| Self { last, ..self });
        let behind = address.checked_add(1).map(|first| Self { first, ..self });
        let parts = if inside { [before, behind] } else { [Some(self), None] };
        parts.into_iter().flatten().filter(|part| part.first <= part.last)
    }
}

/// The addresses of a set that are not taken, in the order in which they are given: from the one behind `last` on, and
/// around the ranges in their order. `taken` may be in any order and may contain addresses of other sets.
pub fn free(set: &[Range], taken: &[IpAddr], last: u128) -> Vec<Interval> {
    let mut intervals = Vec::new();
    for range in set {
        let whole = Interval { first: bits(range.first()), last: bits(range.last()) };
        let same = |address: &&IpAddr| address.is_ipv4() == range.subnet.is_ipv4();
        let mut holes: Vec<_> = taken.iter().filter(same).map(|address| bits(*address)).collect();
        holes.push(bits(range.reserved()));
        holes.retain(|hole| (whole.first..=whole.last).contains(hole));
        holes.sort_unstable();
        holes.dedup();
        let mut next = Some(whole.first);
        for hole in holes {
            if let Some(first) = next.filter(|first| *first < hole) {
                intervals.push(Interval { first, last: hole - 1 });
            }
            next = hole.checked_add(1);
        }
        intervals.extend(next.filter(|first| *first <= whole.last).map(|first| Interval { first, last: whole.last }));
    }
    // Start behind the last one given. A later range of the set counts as behind an earlier one.
    let range =
        |number: u128| set.iter().position(|range| (bits(range.first())..=bits(range.last())).contains(&number));
    let Some(of_last) = range(last) else { return intervals };
    let behind = |interval: &Interval| (range(interval.last), interval.last) > (Some(of_last), last);
    let Some(place) = intervals.iter().position(behind) else { return intervals };
    let split = intervals[place];
    if (split.first..split.last).contains(&last) {
        intervals[place].last = last;
        intervals.insert(place + 1, Interval { first: last + 1, ..split });
        intervals.rotate_left(place + 1);
    } else {
        intervals.rotate_left(place);
    }
    intervals
}

/// The range of a set that contains an address.
pub fn range_of(set: &[Range], address: IpAddr) -> Option<&Range> {
    let contains = |range: &&Range| {
        address.is_ipv4() == range.subnet.is_ipv4() && (range.first()..=range.last()).contains(&address)
    };
    set.iter().find(contains)
}

/// How many addresses a set of ranges can give.
pub fn size(ranges: &[Range]) -> u128 {
    let count = |range: &Range| {
        let all = bits(range.last()).saturating_sub(bits(range.first())).saturating_add(1);
        let reserved = (range.first()..=range.last()).contains(&range.reserved());
        all - u128::from(reserved)
    };
    ranges.iter().map(count).fold(0, u128::saturating_add)
}

/// A name for a set, for messages.
pub fn describe(set: &[Range]) -> String {
    set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A name for the addresses of a set: two sets with the same addresses have the same name.
pub fn fingerprint(set: &[Range]) -> String {
    let parts: Vec<_> = set
        .iter()
        .flat_map(|range| [range.first(), range.last(), range.reserved()].map(|end| end.to_string()))
        .collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    format!("{:016x}", hash::stable(&parts))
}

/// An address as a number.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of a set that has this number.
pub fn address(set: &[Range], number: u128) -> IpAddr {
    let ipv4 = set.first().is_some_and(|range| range.subnet.is_ipv4());
    match u32::try_from(number) {
        Ok(number) if ipv4 => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(subnets: &[&str]) -> Vec<Range> {
        let range = |text: &&str| Range { subnet: text.parse().unwrap(), start: None, end: None, gateway: None };
        subnets.iter().map(range).collect()
    }

    fn number(text: &str) -> u128 {
        if text.is_empty() { 0 } else { bits(text.parse().unwrap()) }
    }

    fn text(set: &[Range], intervals: &[Interval]) -> String {
        let name = |number: u128| address(set, number).to_string();
        let one = |interval: &Interval| format!("{}-{}", name(interval.first), name(interval.last));
        intervals.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn order(subnets: &[&str], taken: &[&str], last: &str) -> String {
        let set = set(subnets);
        let taken: Vec<IpAddr> = taken.iter().map(|text| text.parse().unwrap()).collect();
        text(&set, &free(&set, &taken, number(last)))
    }

    #[test]
    fn i1_i2_i5_addresses_are_given_in_order_without_network_gateway_and_broadcast() {
        let small = &["10.0.0.0/29"];
        assert_eq!(order(small, &[], ""), "10.0.0.2-10.0.0.6");
        assert_eq!(
            order(small, &["10.0.0.2", "10.0.0.4", "192.168.0.1", "fd00::2"], ""),
            "10.0.0.3-10.0.0.3 10.0.0.5-10.0.0.6"
        );
        assert_eq!(order(small, &[], "10.0.0.3"), "10.0.0.4-10.0.0.6 10.0.0.2-10.0.0.3");
        assert_eq!(order(small, &["10.0.0.4"], "10.0.0.3"), "10.0.0.5-10.0.0.6 10.0.0.2-10.0.0.3");
        assert_eq!(order(small, &[], "10.0.0.6"), "10.0.0.2-10.0.0.6");
        assert_eq!(order(small, &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"], "10.0.0.3"), "");
        assert_eq!(order(&["fd00::/126"], &["fd00::2"], ""), "fd00::3-fd00::3");
        let middle = Range {
            start: Some("10.0.0.2".parse().unwrap()),
            end: Some("10.0.0.4".parse().unwrap()),
            gateway: Some("10.0.0.3".parse().unwrap()),
            ..set(small)[0].clone()
        };
        assert_eq!(text(&set(small), &free(&[middle], &[], 0)), "10.0.0.2-10.0.0.2 10.0.0.4-10.0.0.4");
    }

    #[test]
    fn i4_the_ranges_of_a_set_are_used_one_after_another_and_then_the_first_again() {
        let two = &["10.1.0.0/30", "10.0.0.0/30"];
        assert_eq!(order(two, &[], ""), "10.1.0.2-10.1.0.2 10.0.0.2-10.0.0.2");
        assert_eq!(order(two, &["10.1.0.2"], "10.1.0.2"), "10.0.0.2-10.0.0.2");
        assert_eq!(order(two, &[], "10.1.0.2"), "10.0.0.2-10.0.0.2 10.1.0.2-10.1.0.2");
        assert_eq!(order(&["10.0.0.0/30", "10.1.0.0/30"], &["10.0.0.2"], "10.0.0.2"), "10.1.0.2-10.1.0.2");
        assert_eq!(order(two, &[], "192.168.0.1"), "10.1.0.2-10.1.0.2 10.0.0.2-10.0.0.2");
    }

    #[test]
    fn one_address_can_be_removed_anywhere_in_an_interval() {
        let interval = Interval { first: 5, last: 7 };
        let left = |address| interval.without(address).map(|part| (part.first, part.last)).collect::<Vec<_>>();
        assert_eq!(left(5), [(6, 7)]);
        assert_eq!(left(6), [(5, 5), (7, 7)]);
        assert_eq!(left(7), [(5, 6)]);
        assert_eq!(left(8), [(5, 7)]);
        assert_eq!(Interval { first: 0, last: 0 }.without(0).count(), 0);
        assert_eq!(Interval { first: u128::MAX, last: u128::MAX }.without(u128::MAX).count(), 0);
        assert_eq!(Interval::from_bytes(&interval.to_bytes()), interval);
    }

    #[test]
    fn the_size_of_a_set_is_how_many_addresses_it_can_give() {
        assert_eq!(size(&set(&["10.0.0.0/16"])), 65_533);
        assert_eq!(size(&set(&["10.0.0.0/29", "10.1.0.0/29"])), 10);
    }

    #[test]
    fn every_free_address_is_in_exactly_one_interval() {
        // All subsets of the addresses of a /29 and a /30, with every last address.
        let set = set(&["10.0.0.0/29", "10.0.0.8/30"]);
        let all: Vec<u128> = [2, 3, 4, 5, 6, 10].map(|low| number("10.0.0.0") + low).to_vec();
        for mask in 0..1_u32 << all.len() {
            let is_taken = |place: usize| mask & (1 << place) != 0;
            let taken: Vec<_> =
                (0..all.len()).filter(|place| is_taken(*place)).map(|place| address(&set, all[place])).collect();
            for last in number("10.0.0.0")..number("10.0.0.12") {
                let intervals = free(&set, &taken, last);
                let listed: Vec<_> = intervals.iter().flat_map(|interval| interval.first..=interval.last).collect();
                let mut sorted = listed.clone();
                sorted.sort_unstable();
                let expected: Vec<_> =
                    (0..all.len()).filter(|place| !is_taken(*place)).map(|place| all[place]).collect();
                assert_eq!(sorted, expected, "{mask:b}");
                // In order: what is behind the last one, then what is before it.
                let given = (number("10.0.0.1")..=number("10.0.0.6")).contains(&last)
                    || (number("10.0.0.9")..=number("10.0.0.10")).contains(&last);
                let order = expected
                    .iter()
                    .filter(|one| given && **one > last)
                    .chain(expected.iter().filter(|one| !(given && **one > last)));
                assert_eq!(listed, order.copied().collect::<Vec<_>>(), "{mask:b} after {last:x}");
            }
        }
    }
}
