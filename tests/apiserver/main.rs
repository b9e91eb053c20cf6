//! Scenes with a real API server and etcd, on the host outside of the lab's nodes, and daemons that take their membership
//! from it.
//!
//! They need the programs that `scripts/kube-binaries` builds, and namespaces. What may not live here: whatever needs a
//! kubelet or a controller (`tests/e2e`), and membership that comes from a file (`tests/netns`).

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod access;
mod api;
mod away;
mod churn;
mod cluster_policies;
mod explained;
mod heartbeats;
mod nodes;
mod policies;
mod shipped;
mod stage;
mod starting;
