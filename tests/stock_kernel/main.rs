//! What only a kernel as distributions ship it can show, on Debian's in a virtual machine (`podwire-stock`): limits of the
//! whole machine, modules that are loaded when they are needed, another release than the developer's.
//!
//! They need qemu and a kernel that `scripts/stock-kernel` fetches. What may not live here: what a network namespace shows as
//! well (`tests/netns`): every scene of that can be played here, too.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod limits;
mod machine;
mod node;
