//! What the daemon knows of itself and of the node, for whoever asks: status, metrics, health. Values only; nothing here
//! looks at the kernel.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::pass::Outcome;
use crate::view::{Refusal, View};

/// The state of things after the last pass.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The cluster as this node believes it, or why it believes nothing; `None` before the first membership.
    pub view: Option<Result<Arc<View>, Refusal>>,
    /// What could not be made as it should be, each a sentence.
    pub problems: Vec<String>,
    /// Whether the last pass has left everything as it should be.
    pub converged: bool,
    /// When the last pass ended.
    pub last_pass: Option<SystemTime>,
    /// How long the last pass took.
    pub pass_took: Duration,
    /// Passes since the start.
    pub passes: u64,
    /// Changes made since the start.
    pub changes: u64,
    /// Attachments of dead pods that were released since the start.
    pub released: u64,
}

impl Report {
    /// Enters what a pass has come to.
    pub(crate) fn add(&mut self, view: Result<Arc<View>, Refusal>, outcome: &Outcome, took: Duration) {
        self.converged = view.is_ok() && outcome.problems.is_empty();
        self.view = Some(view);
        self.problems.clone_from(&outcome.problems);
        self.last_pass = Some(SystemTime::now());
        self.pass_took = took;
        self.passes += 1;
        self.changes += outcome.changes as u64;
    }
}
