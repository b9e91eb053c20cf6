//! The scenes: podwire on a real kernel, in worlds of their own. `scripts/test` runs them; see `scene` for how to look
//! around in one that fails.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod attachment;
mod conversation;
mod expect;
mod hostport;
mod kernel;
mod membership;
mod overlay;
mod plugin;
mod plugin_wishes;
mod plugin_protocol;
mod repair;
mod restart;
mod shaping;
