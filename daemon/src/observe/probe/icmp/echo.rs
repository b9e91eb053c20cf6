//! An echo request as its callers see it, and what may come back. Values only.

use std::net::IpAddr;

/// What shows that an answer is one to this very request.
pub(super) type Proof = [u8; 16];

/// An echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The source.
    pub source: IpAddr,
    /// The destination, of the same family.
    pub destination: IpAddr,
    /// Which of the socket's requests it is. A request of the same number that still waits does so no more.
    pub number: u16,
    /// The size of the IP packet in bytes, at least `smallest`.
    pub size: usize,
}

/// What was received for an echo request that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was answered.
    Answer {
        /// Which one.
        number: u16,
    },
    /// It was too large for a link on the path (RFC 1191, RFC 8201), says a router that saw it.
    TooLarge {
        /// Which one.
        number: u16,
    },
}
