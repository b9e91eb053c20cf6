//! Scenes of a whole Kubernetes. Each begins with three Ready nodes and podwire's DaemonSet rolled out, in a namespace of its
//! own, and leaves it so. They are played one after another.
//!
//! They need root, 4 GB of memory, and a cluster that `scripts/kube up` has brought up; `scripts/kube test` plays them. What
//! may not live here: what can be shown without kubelet and scheduler (`tests/apiserver`, `tests/runtimes`, `tests/netns`).

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod examples;
mod full_node;
mod kubectl;
mod nodes;
mod pods;
mod reach;
mod ready;
mod stage;
mod survive;
mod uninstall;
