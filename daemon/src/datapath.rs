//! The kernel state that the daemon maintains: the overlay, the firewall, the host side of pods, the fast path. Each
//! compares desired and observed state and applies the difference.
//!
//! What may not live here: where the membership comes from (`sources`), when a reconcile is due (`reconcile`), what is
//! shown of it (`observe`).

pub mod firewall;
pub mod overlay;

pub(crate) mod fast_path;
pub(crate) mod inputs;
pub(crate) mod kernel_support;
mod narrow_path;
pub(crate) mod pods;
pub(crate) mod policy;
pub(crate) mod service_addresses;
pub(crate) mod transactions;
