//! The cluster as values: who is a member, what is set, which of it this node accepts (`view`), and what two views differ in
//! (`delta`).
//!
//! Pure: no socket of the kernel's, no clock, no log, no API. Whoever reads a membership is in `sources`; what follows from
//! it for the kernel is in `datapath`.

pub mod delta;
pub mod membership;
pub mod settings;
pub mod view;
