//! podwire's network configuration as a type, with its defaults and its validation.
//!
//! The daemon writes a [`Network`] into a conflist, the plugin reads it: the contract exists once. What else both must
//! agree on (names, numbers, the firewall rules of a configuration) is here too.

pub mod conflist;
pub mod defaults;
pub mod dns;
pub mod hash;
mod invalid;
mod ipam;
mod json;
pub mod labels;
mod network;
mod network_policy;
mod pod;
pub mod question;
mod range;
mod route;
pub mod rules;
pub mod shown;
pub mod syntax;

pub use dns::Dns;
pub use invalid::Invalid;
pub use ipam::Ipam;
pub use network::Network;
pub use network_policy::{NetworkPolicy, Unknown};
pub use pod::{Bandwidth, Port, Requested, TokenBucket};
pub use range::Range;
pub use route::Route;
