//! Traffic control at a device: queueing disciplines, the shapers made of them, redirection, and the hooks of BPF programs.
//!
//! What may not live here: the programs themselves (`bpf`), and which pods are shaped.

pub mod bpf_hook;
pub mod loopback_filter;
pub mod qdisc;
pub mod redirect;
pub mod shaping;
