//! NetworkPolicy in the kernel: the table `inet podwire-policy`, whose rules are fixed and whose sets have what the policies
//! were compiled to.
//!
//! What may not live here: what the policies mean (`policy`), and when they are compiled (`reconcile`).

pub(crate) mod chains;
mod combinations;
pub(crate) mod contents;
pub(crate) mod layout;
pub(crate) mod logged;
pub(crate) mod refused;
pub(crate) mod table;
pub(crate) mod tracked;
