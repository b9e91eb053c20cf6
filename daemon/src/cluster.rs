//! The cluster as values: its members, its settings, what of it this node accepts (`view`), what two memberships differ in
//! (`update`), and two views (`delta`).
//!
//! What may not live here: a socket of the kernel's, a file, a clock, a log, the API; all of it is pure. `sources` reads a
//! membership, and what follows from it for the kernel is in `datapath`.

pub mod delta;
pub mod membership;
pub mod rejected;
pub mod settings;
pub mod update;
pub mod view;
