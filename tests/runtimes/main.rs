//! The scenes of the container runtimes: containerd through its CRI and by ctr, podman with its CNI backend. They read
//! the conflist, execute the plugin in their own ways, and trust or check what it answers. And those of lists in
//! which podwire stands with the CNI project's plugins; and of systemd, which runs the unit, and its networkd, which has to leave podwire's devices alone.
//! `scripts/test` installs them.

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
