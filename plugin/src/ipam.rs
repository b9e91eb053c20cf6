//! Which address is given next: a pure choice, without disk, clock or kernel.

use std::net::IpAddr;

use podwire_conf::Range;

/// What is known of a set of ranges at the moment of the choice.
pub struct Known<'a> {
    /// Whether somebody holds the address.
    pub taken: &'a dyn Fn(IpAddr) -> bool,
    /// Addresses that were released a moment ago, oldest first: they are not given while others are free.
    pub resting: &'a [IpAddr],
    /// The address that was given last.
    pub last: Option<IpAddr>,
}

/// The next free address after the last one given, around the ranges in order; when only resting ones are left, the one
/// that has rested longest. `None` when all are taken.
pub fn choose(ranges: &[Range], known: &Known<'_>) -> Option<IpAddr> {
    let usable = |range: &Range, address: IpAddr| address != range.reserved() && !(known.taken)(address);
    let start = known.last.and_then(|last| ranges.iter().position(|range| contains(range, last)).map(|at| (at, last)));
    let (first, mut from) = match start {
        Some((at, last)) => (at, next(last)),
        None => (0, None),
    };
    // One step more than there are ranges: the first is looked at from the last address on, and at the end from its start.
    for step in 0..=ranges.len() {
        let range = &ranges[(first + step) % ranges.len()];
        let mut candidate = from.take().filter(|address| contains(range, *address));
        if candidate.is_none() && !(step == 0 && start.is_some()) {
            candidate = Some(range.first());
        }
        while let Some(address) = candidate.filter(|address| *address <= range.last()) {
            if usable(range, address) && !known.resting.contains(&address) {
                return Some(address);
            }
            candidate = next(address);
        }
    }
    let rested = |address: &&IpAddr| ranges.iter().any(|range| contains(range, **address) && usable(range, **address));
    known.resting.iter().find(rested).copied()
}

/// How many addresses a set of ranges can give, for messages.
pub fn size(ranges: &[Range]) -> u128 {
    let count = |range: &Range| {
        let all = bits(range.last()).saturating_sub(bits(range.first())).saturating_add(1);
        all - u128::from(contains(range, range.reserved()))
    };
    ranges.iter().map(count).fold(0, u128::saturating_add)
}

fn contains(range: &Range, address: IpAddr) -> bool {
    address.is_ipv4() == range.subnet.is_ipv4() && (range.first()..=range.last()).contains(&address)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str) -> Range {
        Range { subnet: subnet.parse().unwrap(), start: None, end: None, gateway: None }
    }

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(ranges: &[&str], taken: &[&str], resting: &[&str], last: Option<&str>) -> Option<String> {
        let ranges: Vec<_> = ranges.iter().map(|subnet| range(subnet)).collect();
        let (taken, resting) = (addresses(taken), addresses(resting));
        let known = Known {
            taken: &|address| taken.contains(&address),
            resting: &resting,
            last: last.map(|text| text.parse().unwrap()),
        };
        choose(&ranges, &known).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_given_in_turn_and_around() {
        // A /29 gives .2 to .6: not the network, the gateway, the broadcast address.
        let set = &["10.0.0.0/29"];
        assert_eq!(chosen(set, &[], &[], None).unwrap(), "10.0.0.2");
        assert_eq!(chosen(set, &["10.0.0.2"], &[], None).unwrap(), "10.0.0.3");
        assert_eq!(chosen(set, &[], &[], Some("10.0.0.3")).unwrap(), "10.0.0.4");
        assert_eq!(chosen(set, &[], &[], Some("10.0.0.6")).unwrap(), "10.0.0.2");
        assert_eq!(chosen(set, &["10.0.0.4"], &[], Some("10.0.0.3")).unwrap(), "10.0.0.5");
        assert_eq!(
            chosen(set, &["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"], &[], Some("10.0.0.3")).unwrap(),
            "10.0.0.3"
        );
        let all = &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
        assert_eq!(chosen(set, all, &[], Some("10.0.0.3")), None);
        assert_eq!(chosen(&["fd00::/126"], &["fd00::2"], &[], None).unwrap(), "fd00::3");
    }

    #[test]
    fn the_next_range_of_a_set_follows_and_then_the_first_again() {
        let set = &["10.0.0.0/30", "10.1.0.0/30"];
        assert_eq!(chosen(set, &["10.0.0.2"], &[], None).unwrap(), "10.1.0.2");
        assert_eq!(chosen(set, &["10.1.0.2"], &[], Some("10.1.0.2")).unwrap(), "10.0.0.2");
        assert_eq!(chosen(set, &[], &[], Some("192.168.0.1")).unwrap(), "10.0.0.2");
    }

    #[test]
    fn a_resting_address_is_given_only_when_no_other_is_left() {
        let set = &["10.0.0.0/29"];
        assert_eq!(chosen(set, &[], &["10.0.0.2", "10.0.0.3"], None).unwrap(), "10.0.0.4");
        let held = &["10.0.0.4", "10.0.0.5", "10.0.0.6"];
        assert_eq!(chosen(set, held, &["10.0.0.3", "10.0.0.2"], None).unwrap(), "10.0.0.3");
    }

    #[test]
    fn the_size_of_a_set_is_what_it_can_give() {
        assert_eq!(size(&[range("10.0.0.0/16")]), 65_533);
        assert_eq!(size(&[range("10.0.0.0/29"), range("10.1.0.0/29")]), 10);
    }
}
