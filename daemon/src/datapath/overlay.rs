//! The VXLAN device, and the addresses, neighbours, nexthops and routes that belong to it.
//!
//! `desired` computes them from the view, `observed` reads them from the kernel, both as a `state`; `diff` orders the
//! difference, and `step` applies it. What may not live here: the firewall that guards the device, and pods.

pub mod desired;
pub mod diff;
pub mod observed;
pub mod state;
pub mod underlay;

pub(crate) mod step;
