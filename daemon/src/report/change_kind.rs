//! What a change is of, and how many changes there were of each kind: pure.

use podwire_kernel::netlink::message::Subject;

/// What a change is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The VXLAN device.
    Link,
    /// An address on it.
    Address,
    /// A neighbour on it.
    Neighbour,
    /// A nexthop object.
    Nexthop,
    /// A route.
    Route,
    /// A network that the device accepts.
    Network,
    /// A setting of the kernel.
    Sysctl,
    /// The nftables table.
    Firewall,
    /// The conflist.
    Conflist,
    /// A program of the fast path.
    FastPath,
    /// Something else.
    Other,
}

impl ChangeKind {
    const ALL: [(Self, &str); 11] = [
        (Self::Link, "link"),
        (Self::Address, "address"),
        (Self::Neighbour, "neighbour"),
        (Self::Nexthop, "nexthop"),
        (Self::Route, "route"),
        (Self::Network, "network"),
        (Self::Sysctl, "sysctl"),
        (Self::Firewall, "firewall"),
        (Self::Conflist, "conflist"),
        (Self::FastPath, "fast-path"),
        (Self::Other, "other"),
    ];
}

impl From<Subject> for ChangeKind {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::Link => Self::Link,
            Subject::Address => Self::Address,
            Subject::Neighbour => Self::Neighbour,
            Subject::Route => Self::Route,
            Subject::Nexthop => Self::Nexthop,
            Subject::Network => Self::Network,
            Subject::Other => Self::Other,
        }
    }
}

/// A number of changes of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; ChangeKind::ALL.len()]);

impl Counts {
    /// Counts one.
    pub fn add(&mut self, kind: ChangeKind) {
        self.0[kind as usize] += 1;
    }

    /// Counts what another has counted.
    pub fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| *own += more);
    }

    /// The name of each kind and how many there were.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ChangeKind::ALL.into_iter().map(|(kind, name)| (name, self.0[kind as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_under_its_own_name() {
        let mut counts = Counts::default();
        counts.add(ChangeKind::Route);
        counts.add(Subject::Route.into());
        counts.add(ChangeKind::Conflist);
        let mut twice = counts;
        twice.add_all(&counts);
        let some: Vec<_> = twice.named().filter(|(_, count)| *count > 0).collect();
        assert_eq!(some, [("route", 4), ("conflist", 2)]);
        // The table is in the order of the numbers.
        assert!(ChangeKind::ALL.iter().enumerate().all(|(place, (kind, _))| *kind as usize == place));
    }
}
