//! Scenes of traffic between nodes whose daemons are healthy: the overlay's layout in the kernel, its modes, the firewall and
//! the fast path, and how it follows the membership. What may not live here: whatever is broken first (`repair`).

mod checksums;
mod connectivity;
mod conversation;
mod fast_path;
pub(crate) mod firewall;
pub(crate) mod forged;
pub(crate) mod guards;
mod guest;
mod host_port_flows;
mod idle;
mod incremental;
mod local_sources;
mod loopback;
mod membership;
mod modes;
mod mtu;
pub(crate) mod narrow_paths;
mod neighbours;
mod node_changes;
mod outside;
mod path_mtu_guard;
mod plain;
mod reachability;
mod refused_destinations;
mod reuse;
mod second_addresses;
mod services;
mod too_large;
mod two_devices;
