//! Calls of the plugin that are disturbed at any point, and that nothing is left behind: a call is killed, or something fails,
//! at every system call and at every netlink message; many calls at once are killed at random; the node is rebooted.
//!
//! A random choice of the points is played (PODWIRE_POINTS=all plays all), by a seed that is printed (PODWIRE_SEED plays
//! the same choice again). The concurrent calls run for PODWIRE_SOAK_SECONDS.
//!
//! They need namespaces and an x86-64 processor, whose registers the tracer knows. What may not live here: faults that others
//! cause on the host (`tests/netns/repair`).

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

#[cfg(target_arch = "x86_64")]
mod concurrent;
#[cfg(target_arch = "x86_64")]
mod errors;
#[cfg(target_arch = "x86_64")]
mod look;
#[cfg(target_arch = "x86_64")]
mod points;
#[cfg(target_arch = "x86_64")]
mod random;
#[cfg(target_arch = "x86_64")]
mod reboot;
#[cfg(target_arch = "x86_64")]
mod steps;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(target_arch = "x86_64")]
mod world;

#[cfg(not(target_arch = "x86_64"))]
#[test]
#[ignore = "the tracer knows the registers of x86-64 only"]
fn a_call_is_disturbed_at_every_step() {}
