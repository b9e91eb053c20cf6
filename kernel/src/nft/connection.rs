//! Matches of a rule by conntrack's state of the packet.

use netlink_packet_netfilter::nftables::{Expressions, Operator, Register};

use crate::nft::encode::{compare, compare_by, mask, number, other};
use crate::nft::rule::Rule;

/// `NFTA_CT_*`, `NFT_CT_STATE`, `NFT_CT_STATUS` (uapi/linux/netfilter/nf_tables.h).
const CONNECTION_REGISTER: u16 = 1;
const CONNECTION_KEY: u16 = 2;
const CONNECTION_STATE: u32 = 0;
const CONNECTION_DIRECTION: u32 = 1;
const CONNECTION_STATUS: u32 = 2;
const CONNECTION_MARK: u32 = 3;
/// `NF_CT_STATE_INVALID_BIT`, `NF_CT_STATE_UNTRACKED_BIT` (uapi/linux/netfilter/nf_conntrack_common.h).
const INVALID: u32 = 1;
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;
const UNTRACKED: u32 = 1 << 6;
/// `IP_CT_DIR_REPLY` (uapi/linux/netfilter/nf_conntrack_tuple_common.h).
const REPLY: u8 = 1;
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

    /// … that belongs to a connection that has had an answer, or is about one.
    pub fn in_connection(mut self) -> Self {
        self.extend(any_of(CONNECTION_STATE, ESTABLISHED | RELATED));
        self
    }

    /// … that answers to what has begun its connection.
    pub fn is_reply(mut self) -> Self {
        self.extend([load(CONNECTION_DIRECTION), compare(vec![REPLY])]);
        self
    }

    /// … whose connection has none of these bits in its mark.
    pub fn unmarked(mut self, bits: u32) -> Self {
        let bits = bits.to_ne_bytes().to_vec();
        let none = vec![0; bits.len()];
        let [load, mask] = masked(CONNECTION_MARK, bits);
        self.extend([load, mask, compare(none)]);
        self
    }

    /// … whose connection has one of these bits in its mark.
    pub fn marked(mut self, bits: u32) -> Self {
        self.extend(any_of(CONNECTION_MARK, bits));
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
    [load(key), mask(Register::Reg1, bits)]
}

fn load(key: u32) -> Expressions {
    other("ct", vec![number(CONNECTION_REGISTER, Register::Reg1.into()), number(CONNECTION_KEY, key)])
}
