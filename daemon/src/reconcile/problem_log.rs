//! The problems that the log has named, so that it names each once. Changes are logged where they are made.

use std::sync::Arc;

use tracing::{info, warn};

use crate::cluster::rejected::Rejected;
use crate::cluster::view::View;
use crate::report::problem::Problem;

/// What the log has named.
#[derive(Default)]
pub(crate) struct ProblemLog {
    membership: Vec<Problem>,
    problems: Vec<Problem>,
    ready: bool,
}

impl ProblemLog {
    /// Logs rejected entries, and those that are not rejected any more.
    pub(crate) fn view(&mut self, view: &Result<Arc<View>, Rejected>) {
        let rejected: Vec<_> = match view {
            Ok(view) => view.rejected.iter().map(Problem::from).collect(),
            Err(own) => vec![own.into()],
        };
        log_new(&rejected, &self.membership);
        for problem in self.membership.iter().filter(|problem| !rejected.contains(problem)) {
            info!("resolved: {problem}");
        }
        self.membership = rejected;
        self.ready &= view.is_ok();
    }

    /// Logs the problems of a sync, and that there are none any more.
    pub(crate) fn problems(&mut self, problems: &[Problem]) {
        log_new(problems, &self.problems);
        self.problems = problems.to_vec();
        if problems.is_empty() && !self.ready {
            info!("ready: the kernel and the conflist are as the cluster says");
        }
        self.ready = problems.is_empty();
    }
}

fn log_new(problems: &[Problem], before: &[Problem]) {
    for problem in problems.iter().filter(|problem| !before.contains(problem)) {
        warn!(kind = problem.kind.name(), "{problem}");
    }
}
