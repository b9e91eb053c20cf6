//! Which connections a change may refuse that were allowed before it: only those have to be judged again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::policy::network_policy::Direction;

/// The connections that may be refused now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restricted {
    /// Those from or to an address that are judged at that end; of no address: none.
    Of {
        /// From these.
        sources: BTreeSet<IpAddr>,
        /// To these.
        destinations: BTreeSet<IpAddr>,
    },
    /// Any.
    Any,
}

impl Default for Restricted {
    fn default() -> Self {
        Self::Of { sources: BTreeSet::new(), destinations: BTreeSet::new() }
    }
}

impl Restricted {
    /// Those of which a direction judges one of these addresses.
    pub fn judged(direction: Direction, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = addresses.into_iter().collect();
        match direction {
            Direction::Egress => Self::Of { sources: addresses, destinations: BTreeSet::new() },
            Direction::Ingress => Self::Of { sources: BTreeSet::new(), destinations: addresses },
        }
    }

    /// Those that have one of these addresses at either end.
    pub fn with(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let sources: BTreeSet<_> = addresses.into_iter().collect();
        Self::Of { destinations: sources.clone(), sources }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Of { sources, destinations } if sources.is_empty() && destinations.is_empty())
    }

    /// Whether one between these two may be refused now.
    pub fn has(&self, source: IpAddr, destination: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Of { sources, destinations } => sources.contains(&source) || destinations.contains(&destination),
        }
    }

    /// These and others.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        let Self::Of { mut sources, mut destinations } = self else { return Self::Any };
        let Self::Of { sources: from, destinations: to } = others else { return Self::Any };
        sources.extend(from);
        destinations.extend(to);
        Self::Of { sources, destinations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_meant_by_the_end_that_is_judged() {
        let [one, two, three] = ["10.0.0.1", "fd00::2", "10.0.0.3"].map(|text| text.parse::<IpAddr>().unwrap());
        let (from, to) = (Restricted::judged(Direction::Egress, [one]), Restricted::judged(Direction::Ingress, [one]));
        assert!(from.has(one, two) && !from.has(two, one) && !from.is_empty());
        assert!(to.has(two, one) && !to.has(one, two) && !to.is_empty());
        let either = Restricted::with([one]);
        assert!(either.has(one, two) && either.has(two, one) && !either.has(two, three));
        assert_eq!(from.clone().and(to), either);
        let none = Restricted::default();
        assert!(none.is_empty() && !none.has(one, two));
        assert_eq!(none.clone().and(from.clone()), from);
        for any in [from.and(Restricted::Any), Restricted::Any.and(none)] {
            assert!(any == Restricted::Any && any.has(two, three) && !any.is_empty());
        }
    }
}
