//! Scenes of the CNI plugin: it is executed as a runtime executes it, on hosts without a daemon. They need nothing but the
//! programs of this workspace. What may not live here: what the daemon does (`overlay`, `repair`), and runtimes
//! (`tests/runtimes`).

mod add;
mod addresses;
pub(crate) mod attachment;
mod capabilities;
mod check;
mod configuration;
mod conformance;
mod del;
mod delegate;
mod gc;
pub(crate) mod hand_made;
mod host;
mod host_ports;
mod ledger_files;
mod lifecycle;
mod limits;
mod locks;
mod node_ready;
mod protocol;
mod result;
pub(crate) mod stage;
mod status;
mod version;
