//! Linux network state as values, and the one place that talks to the kernel about it.
//!
//! A [`route::Route`], a [`nexthop::Nexthop`], an [`nft::Chain`] is a plain value that can be compared; each knows the
//! netlink message that creates it and how to read itself back from a dump. [`netlink::socket::Socket`] executes such
//! messages, blocking, one at a time or many in one system call.
//!
//! What may not live here: policy (which routes a node wants), tokio, the CNI protocol, anything that decides.

#![warn(clippy::print_stderr, reason = "what others have named in it is to be escaped: `log::note`, or tracing")]

pub mod address;
pub mod bpf;
pub mod conntrack;
mod decision;
pub mod family;
pub mod forwarding;
pub mod iptables;
pub mod link;
pub mod mac;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nexthop;
pub mod nflog;
pub mod nft;
pub mod path_mtu;
pub mod proxy_neighbour;
pub mod route;
pub mod rule;
pub mod sysctl;
pub mod tc;

pub use mac::Mac;
pub use netlink::error::{Error, Result};
pub use netlink::request::Request;
pub use netlink::socket::Socket;
