//! What one reconcile came to: the changes that were made, what could not be made, and what was measured on the way.
//!
//! Values only. What may not live here: where any of it is shown (`observe`), or decided (`reconcile`).

use serde::{Deserialize, Serialize};

use crate::report::change_kind::Counts;
use crate::report::problem::Problem;
use crate::report::underlay_link::UnderlayLink;

/// What a reconcile came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many changes were asked for.
    pub(crate) changes: usize,
    /// What could not be made as desired.
    pub(crate) problems: Vec<Problem>,
    /// Whether it was stopped before it had compared everything.
    pub(crate) stopped: bool,
    /// Whether a file was written.
    pub(crate) wrote: bool,
    /// The changes that were made, by what they are of.
    pub(crate) made: Counts,
    /// The sizes of the largest packets, where they are known.
    pub(crate) mtu: Option<Mtu>,
    /// The link of the underlay, where it has been looked at.
    pub(crate) link: Option<UnderlayLink>,
    /// Whether the overlay, or the plain routes instead of it, could be brought up at all.
    pub(crate) overlay_is_up: bool,
    /// The state of the fast path.
    pub(crate) fast_path: FastPathState,
    /// The devices that were found on the way, for the steps that come later.
    pub(crate) devices: Devices,
}

/// The devices that one step finds and a later one needs.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// Index of the overlay's device, where there is one.
    pub(crate) overlay: Option<u32>,
    /// Why the overlay's device, which has just been made, has no hooks for the fast path.
    pub(crate) hooks_refused: Option<podwire_kernel::Error>,
    /// Indexes of the devices of pods whose ADD has come to its end; `None` where they are not known.
    pub(crate) pods: Option<Vec<u32>>,
}

impl Outcome {
    /// Enters something that could not be made as desired.
    pub(crate) fn problem(&mut self, problem: impl Into<Problem>) {
        self.problems.push(problem.into());
    }
}

/// Sizes of the largest packets, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu {
    /// Of the device that has this node's address.
    pub underlay: u32,
    /// Of the overlay device and the pods.
    pub overlay: u32,
}

/// Whether established connections between pods take the fast path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum FastPathState {
    /// No full sync has come to it yet.
    #[default]
    Unknown,
    /// They do.
    On {
        /// Devices that have no hooks for its programs: what comes from and goes to these takes the normal forwarding path.
        devices_left_out: usize,
    },
    /// They do not: every packet takes the normal forwarding path.
    Off {
        /// The reason, a sentence.
        why: String,
    },
}
