//! Netlink itself: the socket, its messages and attributes, the kernel's errors, and the monitor of what others change.
//!
//! What may not live here: any object of the kernel's (a link, a route, an nftables chain); those know their messages and
//! have them executed here.

pub(crate) mod attribute;
mod dump;
pub mod error;
pub mod message;
pub mod monitor;
mod reply;
pub mod request;
pub mod socket;
