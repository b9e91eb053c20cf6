//! Rules that log packets to a group of the kernel's packet log, and that hold up to a rate: what is above it another rule can count.
//!
//! What may not live here: how a group is read (`crate::nflog`).

use netlink_packet_core::DefaultNla;

use crate::nft::encode::{number, other};
use crate::nft::rule::Rule;

/// `NFTA_LOG_*` (uapi/linux/netfilter/nf_tables.h).
const GROUP: u16 = 1;
const PREFIX: u16 = 2;
const LENGTH: u16 = 3;
/// `NFTA_LIMIT_*`, `NFT_LIMIT_PKTS`, `NFT_LIMIT_F_INV` (same file).
const RATE: u16 = 1;
const UNIT: u16 = 2;
const BURST: u16 = 3;
const LIMIT_TYPE: u16 = 4;
const LIMIT_FLAGS: u16 = 5;
const OF_PACKETS: u32 = 0;
const ABOVE: u32 = 1;
/// A second, in the unit of rates.
const SECOND: u64 = 1;

impl Rule {
    /// … is logged to a group: so many of its bytes at most, with a word of its own. Where nobody reads the group nothing happens.
    pub fn log(mut self, group: u16, word: &str, bytes: u32) -> Self {
        // In the kernel's order.
        let attributes = vec![
            DefaultNla::new(PREFIX, [word.as_bytes(), &[0]].concat()),
            DefaultNla::new(GROUP, group.to_be_bytes().to_vec()),
            number(LENGTH, bytes),
        ];
        self.push(other("log", attributes));
        self
    }

    /// … that is more than so many in a second, of all that this rule sees; after a quiet time a burst passes below it.
    pub fn above(mut self, packets_per_second: u64, burst: u32) -> Self {
        let long = |kind, value: u64| DefaultNla::new(kind, value.to_be_bytes().to_vec());
        let attributes = vec![
            long(RATE, packets_per_second),
            long(UNIT, SECOND),
            number(BURST, burst),
            number(LIMIT_TYPE, OF_PACKETS),
            number(LIMIT_FLAGS, ABOVE),
        ];
        self.push(other("limit", attributes));
        self
    }
}
