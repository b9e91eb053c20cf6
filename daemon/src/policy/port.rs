//! Protocols and ports, as policies and containers write them.

use std::fmt;

use serde::Deserialize;

use crate::policy::text::Text;

/// A protocol that policies know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP, also where none is written.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Its number in the IP header (IANA, "Protocol Numbers").
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.to_string() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Ports of one protocol that a rule allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// Which of its ports.
    pub which: Which,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// One.
    Number(u16),
    /// From the first to the last.
    Range(u16, u16),
    /// What the destination's containers call so.
    Named(Text),
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol;
        match &self.which {
            Which::Number(port) => write!(f, "{protocol} {port}"),
            &Which::ALL => write!(f, "{protocol}"),
            Which::Range(first, last) => write!(f, "{protocol} {first}-{last}"),
            Which::Named(name) => write!(f, "{protocol} {name}"),
        }
    }
}

impl Which {
    /// All ports of a protocol.
    pub const ALL: Self = Self::Range(0, u16::MAX);
}
