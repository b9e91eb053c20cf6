//! How much the kernel is given for one node, and the error where policies are more.

use thiserror::Error;

/// The most elements of one direction, and the most ports of all lists: some 115 bytes of the kernel's memory each.
pub(super) const ELEMENTS: usize = 1_000_000;

/// The most port ranges of the rules that are in force on one node: each may be cut by all others.
pub(super) const PORT_RANGES: usize = 1024;

/// The policies cannot be compiled: they are too many, or of too many different kinds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TooLarge {
    /// More elements than the kernel is given.
    #[error(
        "the policies of this node's pods tell {count} combinations of pod, peers and ports apart or more, at most {ELEMENTS} \
         can be in force; let rules share selectors and ports"
    )]
    Elements {
        /// So many have been counted.
        count: usize,
    },
    /// More port ranges.
    #[error(
        "the policies of this node's pods have {count} different port ranges, at most {PORT_RANGES} can be in force; let \
         rules share ranges"
    )]
    PortRanges {
        /// So many.
        count: usize,
    },
}

/// Refuses more elements than the kernel is given.
pub(super) fn bounded(count: usize) -> Result<(), TooLarge> {
    if count > ELEMENTS { Err(TooLarge::Elements { count }) } else { Ok(()) }
}
