//! The Kubernetes API as a source: its Nodes are listed and watched, and a few hundred bytes of each are kept.
//!
//! The API is only read. What may not live here: a second way to list and watch; every kind of object takes the same one
//! (`reflector`).

pub mod node_cache;

pub(crate) mod nodes;
pub(crate) mod policy_objects;

mod client;
mod reflector;
mod reply;
