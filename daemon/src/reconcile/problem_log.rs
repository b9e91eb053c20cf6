//! What the log has said of the state of things, so that it says each thing once. What was changed is logged where it is.

use std::sync::Arc;

use tracing::{info, warn};

use crate::cluster::rejected::Rejected;
use crate::cluster::view::View;

/// What the log has said.
#[derive(Default)]
pub(crate) struct Told {
    refused: Vec<Rejected>,
    problems: Vec<String>,
    ready: bool,
}

impl Told {
    pub(crate) fn refusals(&mut self, view: &Result<Arc<View>, Rejected>) {
        let refused = match view {
            Ok(view) => view.rejected.clone(),
            Err(own) => vec![own.clone()],
        };
        for refusal in refused.iter().filter(|refusal| !self.refused.contains(refusal)) {
            warn!("{refusal}");
        }
        for refusal in self.refused.iter().filter(|refusal| !refused.contains(refusal)) {
            info!("put right: {refusal}");
        }
        self.refused = refused;
        self.ready &= view.is_ok();
    }

    pub(crate) fn problems(&mut self, problems: &[String]) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!("{problem}");
        }
        self.problems = problems.to_vec();
        if problems.is_empty() && !self.ready {
            info!("ready: the kernel and the conflist are as the cluster says");
        }
        self.ready = problems.is_empty();
    }
}
