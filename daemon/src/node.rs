//! The node's own files and its runtime: the conflist, the plugin's binary, the instance lock, garbage collection, pods
//! with stale addresses, and uninstalling.
//!
//! What may not live here: how the overlay and the firewall are made and repaired (uninstalling only removes them), and
//! anything about other nodes.

pub mod conflist;

pub(crate) mod cri;
pub(crate) mod cri_socket;
pub(crate) mod file_watch;
pub mod forward_policies;
pub(crate) mod garbage;
pub(crate) mod instance_lock;
pub(crate) mod listed_sandboxes;
pub(crate) mod plugin_binary;
pub(crate) mod stale_addresses;
pub(crate) mod uninstall;
