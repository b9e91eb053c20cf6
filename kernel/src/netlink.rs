//! Netlink itself: the socket, its messages and attributes, the kernel's errors, and the monitor of changes by others.
//!
//! What may not live here: any kernel object (a link, a route, an nftables chain); those build their messages and
//! execute them through this module.

pub(crate) mod attribute;
mod dump;
pub mod error;
pub mod message;
pub mod monitor;
mod reply;
pub mod request;
pub mod socket;
