//! Scenes of container runtimes: containerd through its CRI and by ctr, podman with its CNI backend. They read the conflist,
//! execute the plugin in their own ways, and use what it answers. Also those of conflists that chain podwire with the
//! CNI project's plugins, of systemd, which runs the unit, and of its networkd, which has to leave podwire's devices alone.
//!
//! They need root and the packages that `scripts/test` installs. What may not live here: what a call by hand shows as well
//! (`tests/netns/plugin`).

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod capabilities;
mod chain;
mod cri;
mod ctr;
mod garbage;
mod networkd;
mod podman;
mod stage;
mod systemd;
mod uninstall;
