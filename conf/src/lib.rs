//! podwire's network configuration as a type, with its defaults and its validation.
//!
//! The daemon writes a [`Network`] into a conflist, the plugin reads it: the contract exists once. What both must agree
//! on beyond it (names, numbers, the firewall that follows from a configuration) is here too. No file is opened and no
//! kernel is asked in this crate.

pub mod conflist;
pub mod defaults;
pub mod dns;
pub mod hash;
mod json;
mod network;
mod pod;
pub mod rules;

pub use dns::Dns;
pub use network::{Invalid, Ipam, Network, Range, Route};
pub use pod::{Bandwidth, Port, Requested, TokenBucket};
