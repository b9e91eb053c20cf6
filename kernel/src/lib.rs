//! Linux network state as values, and the one place that talks to the kernel about it.
//!
//! A [`route::Route`], a [`nexthop::Nexthop`], an [`nft::Chain`] is a plain value that can be compared; each knows the
//! netlink message that makes it so and how to read itself back from a dump. [`socket::Socket`] executes such messages,
//! blocking, one at a time or many in one system call.
//!
//! What may not live here: policy (which routes a node wants), tokio, the CNI protocol, anything that decides.

pub mod address;
mod attribute;
pub mod bpf;
pub mod classifier;
pub mod conntrack;
pub mod elsewhere;
pub mod error;
pub mod family;
pub mod filter;
pub mod forwarding;
pub mod link;
pub mod mac;
pub mod message;
pub mod neighbour;
pub mod netns;
pub mod nexthop;
pub mod nft;
pub mod notice;
pub mod port;
pub mod qdisc;
pub mod removal;
pub mod route;
pub mod rule;
pub mod shaping;
pub mod socket;
pub mod sysctl;
pub mod tunnel;

pub use error::{Error, Result};
pub use mac::Mac;
pub use socket::{Request, Socket};
