//! The scenes: podwire on a real kernel, in worlds of their own. `scripts/test` runs them; see `scene` for how to look
//! around in one that fails.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod attachment;
mod conformance;
mod conversation;
mod expect;
mod firewall;
mod forged;
mod guards;
mod hostport;
mod kernel;
mod membership;
mod overlay;
mod plugin;
mod plugin_add;
mod plugin_check;
mod plugin_del;
mod plugin_delegate;
mod plugin_gc;
mod plugin_protocol;
mod plugin_status;
mod plugin_wishes;
mod pods;
mod repair;
mod restart;
mod shaping;
