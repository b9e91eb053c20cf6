//! That nothing is left behind, whatever happens to a call and whenever: it is killed, or something fails, at every system
//! call and at every netlink message; many calls at once are killed at random; the node is started anew.
//!
//! A random choice of the points is played (PODWIRE_POINTS=all plays all), by a seed that is printed (PODWIRE_SEED plays
//! the same choice again). The crowd plays for PODWIRE_SOAK_SECONDS.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

#[cfg(target_arch = "x86_64")]
mod crowd;
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
