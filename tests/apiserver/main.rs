//! The scenes of Kubernetes: a real API server with etcd behind it, on the host outside of the lab's nodes, and daemons that
//! take their membership from it. `scripts/test` builds the programs by `scripts/kube-binaries`.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod access;
mod api;
mod away;
mod churn;
mod heartbeats;
mod nodes;
mod shipped;
mod stage;
