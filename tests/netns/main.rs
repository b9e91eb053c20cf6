//! The scenes: podwire on a real kernel, in network namespaces of their own. `scripts/test netns` plays them; see
//! `lab::scene::scene` for how to look around in one that fails.
//!
//! They need Linux, the tools that `scripts/test` names, and no more: no container runtime (`tests/runtimes`), no Kubernetes
//! (`tests/apiserver`, `tests/e2e`), no network.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod kernel;
mod operations;
mod overlay;
mod plugin;
mod policy;
mod repair;
