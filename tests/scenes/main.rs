//! The scenes: podwire on a real kernel, in worlds of their own. `scripts/test` runs them; see `scene` for how to look
//! around in one that fails.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod attachment;
mod change;
mod conformance;
mod conversation;
mod doctor;
mod expect;
mod fast_path;
mod firewall;
mod forged;
mod garbage;
mod glance;
mod guards;
mod hostport;
mod install;
mod installer;
mod kernel;
mod kernel_nftables;
mod kernel_overlay;
mod membership;
mod metrics;
mod overlay;
mod overlay_changes;
mod overlay_modes;
mod overlay_mtu;
mod plugin;
mod plugin_add;
mod plugin_addresses;
mod plugin_check;
mod plugin_configuration;
mod plugin_del;
mod plugin_delegate;
mod plugin_gc;
mod plugin_host;
mod plugin_protocol;
mod plugin_result;
mod plugin_status;
mod plugin_turns;
mod plugin_version;
mod plugin_wishes;
mod pods;
mod podwired;
mod prepared;
mod reachability;
mod repair;
mod repair_links;
mod repair_notices;
mod restart;
mod restart_streams;
mod safe;
mod shaping;
mod status;
mod uninstall_wait;
