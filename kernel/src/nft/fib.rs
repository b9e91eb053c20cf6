//! Matches of a rule by the routing tables: what a destination is, and where a source is routed.

use netlink_packet_netfilter::nftables::{Expressions, Operator, Register};

use crate::nft::device_name::DeviceName;
use crate::nft::encode::{compare, compare_by, number, other};
use crate::nft::rule::Rule;

/// `NFTA_FIB_*`, `NFT_FIB_RESULT_*`, `NFTA_FIB_F_*` (uapi/linux/netfilter/nf_tables.h).
const FIB_REGISTER: u16 = 1;
const FIB_RESULT: u16 = 2;
const FIB_FLAGS: u16 = 3;
const FIB_DEVICE: u32 = 1;
const FIB_DEVICE_NAME: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_OF_DESTINATION: u32 = 2;
const FIB_OF_SOURCE: u32 = 1;
/// Of the source, through the incoming device, and only whether there is one.
const FIB_BACK_AGAIN: u32 = FIB_OF_SOURCE | 8 | 32;
/// `RTN_UNICAST`, `RTN_LOCAL` (uapi/linux/rtnetlink.h).
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;

impl Rule {
    /// … whose destination is a local address of this host.
    pub fn to_local(self) -> Self {
        self.destination(LOCAL)
    }

    /// … whose destination is a unicast address of another host, by the routing tables.
    pub fn to_remote_unicast(self) -> Self {
        self.destination(UNICAST)
    }

    fn destination(mut self, kind: u32) -> Self {
        self.extend([fib(FIB_ADDRESS_TYPE, FIB_OF_DESTINATION), compare(kind.to_ne_bytes().to_vec())]);
        self
    }

    /// … whose source is not routed to its incoming device.
    pub fn without_reverse_route(mut self) -> Self {
        self.extend([fib(FIB_DEVICE, FIB_BACK_AGAIN), compare(vec![0; 4])]);
        self
    }

    /// … whose source is routed to its incoming device.
    pub fn with_reverse_route(mut self) -> Self {
        self.extend([fib(FIB_DEVICE, FIB_BACK_AGAIN), compare_by(Operator::NotEqual, vec![0; 4])]);
        self
    }

    /// … whose source is routed to a device whose name begins so.
    pub fn from_behind(mut self, prefix: &str) -> Self {
        self.extend([fib(FIB_DEVICE_NAME, FIB_OF_SOURCE), compare(prefix.into())]);
        self
    }

    /// … whose source is routed to the device of this very name.
    pub fn from_behind_device(mut self, name: &str) -> Self {
        self.extend([fib(FIB_DEVICE_NAME, FIB_OF_SOURCE), compare(DeviceName::new(name).bytes())]);
        self
    }
}

fn fib(result: u32, flags: u32) -> Expressions {
    let (register, result) = (number(FIB_REGISTER, Register::Reg1.into()), number(FIB_RESULT, result));
    other("fib", vec![register, result, number(FIB_FLAGS, flags)])
}
