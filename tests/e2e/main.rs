//! The scenes of a whole Kubernetes, which `scripts/kube up` has brought up: `scripts/kube test` plays them in its world, one
//! after another. Each begins with three Ready nodes and podwire's DaemonSet rolled out, in a namespace of its own, and
//! leaves it so.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod crowd;
mod examples;
mod kubectl;
mod nodes;
mod pods;
mod reach;
mod ready;
mod stage;
mod survive;
mod uninstall;
