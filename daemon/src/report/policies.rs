//! What is in force of the cluster's policies on this node. Values only.

use crate::report::problem::Problem;

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyState {
    /// Whether the policies were in the kernel, as the API had them, after the last round.
    pub in_force: bool,
    /// How many policies the cluster has.
    pub policies: usize,
    /// How many pods of this node they isolate, in one direction or in both.
    pub isolated: usize,
    /// What is wrong with them: policies that are rejected, lists that cannot be had, what the kernel has refused.
    pub problems: Vec<Problem>,
}
