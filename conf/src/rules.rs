//! The nftables rules that follow from a configuration, as values: the node's guards and host ports, what a pod adds to
//! them, the masquerade of a network.
//!
//! What may not live here: talking to the kernel. The plugin and the daemon apply these rules, each its part.

pub mod host_ports;
pub mod masquerade;
pub mod node;
pub mod pods;
