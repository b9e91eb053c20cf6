//! The container runtime that is asked for its sandboxes: which one, why, and what it has answered. Values only; garbage
//! collection asks it.

use std::path::PathBuf;

use crate::report::problem::Problem;

/// What is known of the container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerRuntime {
    /// The socket that is asked; none where no runtime with a CRI is known.
    pub socket: Option<PathBuf>,
    /// Why that one, for people.
    pub why: String,
    /// The runtime's name, as it says it.
    pub name: String,
    /// How many sandboxes it lists; `None` while it does not answer.
    pub sandboxes: Option<usize>,
    /// Why it does not answer.
    pub failure: Option<String>,
    /// That it does not answer, or does not list pods of this node, where that lasts.
    pub problem: Option<Problem>,
}
