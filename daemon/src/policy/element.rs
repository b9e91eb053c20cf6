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

/// Ports of which the same is said: those that subjects allow peers, or decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortList(pub u32);

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
}

impl Combination {
    /// Whose rules are about it.
    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::Everything(subject)
            | Self::AnyPeer(subject, ..)
            | Self::AnyPeerRange(subject, ..)
            | Self::AnyPort(subject, _) => *subject,
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

/// The ports of which a subject says something for one class. What it says of everybody is left out. A subject and a class have one list at
/// most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listing {
    /// The subject.
    pub subject: Subject,
    /// The class.
    pub class: Class,
    /// The list.
    pub list: PortList,
}

/// One port, or those of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortOrRange {
    /// One port.
    Port(u16),
    /// Ports in one range.
    Range(PortRange),
}

/// What is said of a port: it is allowed, where subjects have nothing but what they allow.
pub type Listed = (Protocol, PortOrRange, Decision);

/// One line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedPort {
    /// The list.
    pub list: PortList,
    /// What it says.
    pub listed: Listed,
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
