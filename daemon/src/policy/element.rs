//! Elements of the compiled form: small numbers for pods, peers and ports, and combinations of them that are allowed or decided.

use std::net::IpAddr;

use crate::policy::port::Protocol;

/// Isolated pods of this node with the same rules and the same numbers for named ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(pub u32);

/// Peers that are in the same selectors and blocks, and have the same numbers for named ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u32);

/// Ports that are in the same ranges of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange(pub u32);

/// A subject, peers and ports. What another combination says of them already is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Combination {
    /// Everybody, every protocol, every port.
    Everything(Subject),
    /// Everybody, one port.
    AnyPeer(Subject, Protocol, u16),
    /// Everybody, ports in one range.
    AnyPeerRange(Subject, Protocol, PortRange),
    /// A class, every protocol, every port.
    AnyPort(Subject, Class),
    /// A class, one port.
    Port(Subject, Class, Protocol, u16),
    /// A class, ports in one range.
    Range(Subject, Class, Protocol, PortRange),
}

impl Combination {
    /// Whose rules are about it.
    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::Everything(subject)
            | Self::AnyPeer(subject, ..)
            | Self::AnyPeerRange(subject, ..)
            | Self::AnyPort(subject, _)
            | Self::Port(subject, ..)
            | Self::Range(subject, ..) => *subject,
        }
    }
}

/// What becomes of a combination. Of several that a packet has the most special one says it: a class before everybody, and there
/// one port before a range, and a range before all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// It is allowed.
    Allow,
    /// It is refused.
    Refuse,
    /// It is allowed, and would be refused if policies were enforced that are not.
    WouldRefuse,
}

/// A combination, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decided {
    /// The combination.
    pub combination: Combination,
    /// What becomes of it.
    pub decision: Decision,
}

/// Addresses from the first to the last that are in the same blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSegment {
    /// The first address.
    pub first: IpAddr,
    /// The last address, of the same family.
    pub last: IpAddr,
    /// Their class.
    pub class: Class,
}

/// Ports from the first to the last that are in the same ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSegment {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// Their range; several segments may have one.
    pub range: PortRange,
}
