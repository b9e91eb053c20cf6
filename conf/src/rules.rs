//! The nftables rules of a configuration, as values: the node's guards and masquerade, host ports, and the masquerade
//! of a network.
//!
//! What may not live here: talking to the kernel. The plugin and the daemon each apply their part of these rules.

pub mod host_ports;
pub mod isolation;
pub mod masquerade;
pub mod node;
pub mod pods;
mod services;
