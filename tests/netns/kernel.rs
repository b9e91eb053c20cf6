//! Scenes of the crate that speaks with the kernel, on a kernel: what it sets is what is listed, what it removes is gone.
//! What may not live here: podwire's programs (`plugin`, `overlay`).

mod connections;
mod elements;
mod lookups;
mod nftables;
mod notifications;
mod objects;
mod overlay;
mod packet_log;
mod shaping;
