//! What one reconcile came to: the changes that were made, what could not be made, and what was measured on the way.
//!
//! Values only. What may not live here: where any of it is shown (`observe`), or decided (`reconcile`).

use crate::report::change_kind::Counts;

/// What a pass has come to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many changes were asked for.
    pub(crate) changes: usize,
    /// What could not be made as it should be, each a sentence.
    pub(crate) problems: Vec<String>,
    /// Whether it was told to stop before it had looked at all there is.
    pub(crate) stopped: bool,
    /// Whether a file was written.
    pub(crate) wrote: bool,
    /// The changes that were made, by what they are of.
    pub(crate) made: Counts,
    /// The sizes of the largest packets, where they are known.
    pub(crate) mtu: Option<Mtu>,
    /// How it is with the fast path.
    pub(crate) fast_path: String,
}

/// Sizes of the largest packets, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu {
    /// Of the device that has this node's address.
    pub underlay: u32,
    /// Of the overlay device and the pods.
    pub overlay: u32,
}
