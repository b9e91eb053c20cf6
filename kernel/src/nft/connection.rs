//! Matches of a rule by conntrack's state of the packet.

use netlink_packet_netfilter::nftables::{Expressions, Operator, Register};

use crate::nft::encode::{compare, compare_by, mask, number, other};
use crate::nft::rule::Rule;

/// `NFTA_CT_*`, `NFT_CT_STATE`, `NFT_CT_STATUS` (uapi/linux/netfilter/nf_tables.h).
const CONNECTION_REGISTER: u16 = 1;
const CONNECTION_KEY: u16 = 2;
const CONNECTION_STATE: u32 = 0;
const CONNECTION_STATUS: u32 = 2;
/// `NF_CT_STATE_INVALID_BIT`, `NF_CT_STATE_UNTRACKED_BIT` (uapi/linux/netfilter/nf_conntrack_common.h).
const INVALID: u32 = 1;
const UNTRACKED: u32 = 1 << 6;
/// `IPS_*` (uapi/linux/netfilter/nf_conntrack_common.h): assured; source NAT, destination NAT, adjusted sequence
/// numbers; dying; with a helper.
const ASSURED: u32 = 1 << 2;
const DESTINATION_TRANSLATED: u32 = 1 << 5;
const NOT_PLAIN: u32 = 1 << 4 | DESTINATION_TRANSLATED | 1 << 6 | 1 << 9 | 1 << 13;

impl Rule {
    /// … whose destination was translated, by podwire or by others.
    pub fn dnatted(mut self) -> Self {
        self.extend(any_of(CONNECTION_STATUS, DESTINATION_TRANSLATED));
        self
    }

    /// … that belongs to an assured connection without NAT and without a helper.
    pub fn established(mut self) -> Self {
        let bits = (ASSURED | NOT_PLAIN).to_ne_bytes().to_vec();
        let [load, mask] = masked(CONNECTION_STATUS, bits);
        self.extend([load, mask, compare(ASSURED.to_ne_bytes().to_vec())]);
        self
    }

    /// … that belongs to no connection: invalid, or not tracked. It is never translated.
    pub fn without_connection(mut self) -> Self {
        self.extend(any_of(CONNECTION_STATE, INVALID | UNTRACKED));
        self
    }
}

/// That at least one of these bits is set.
fn any_of(key: u32, bits: u32) -> [Expressions; 3] {
    let bits = bits.to_ne_bytes().to_vec();
    let none = vec![0; bits.len()];
    let [load, mask] = masked(key, bits);
    [load, mask, compare_by(Operator::NotEqual, none)]
}

fn masked(key: u32, bits: Vec<u8>) -> [Expressions; 2] {
    let attributes = vec![number(CONNECTION_REGISTER, Register::Reg1.into()), number(CONNECTION_KEY, key)];
    [other("ct", attributes), mask(Register::Reg1, bits)]
}
