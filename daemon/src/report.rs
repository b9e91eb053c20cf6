//! What the daemon knows of itself and of the node, for whoever asks: status, metrics, health. Values only; nothing here
//! looks at the kernel.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::pass::Outcome;
use crate::view::{Refusal, View};

/// Where the membership comes from, and how that goes.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    /// Where what is believed now comes from; `None` before the first membership.
    pub source: Option<Source>,
    /// Whether the file can be read, or the API answers, at present.
    pub connected: bool,
    /// Since when that has been as it is.
    pub since: Option<SystemTime>,
    /// What went wrong the last time, a sentence, while not connected.
    pub error: Option<String>,
    /// Nodes of the Kubernetes API that have no address or no pod CIDR yet.
    pub unready: usize,
    /// What this node lacks in Kubernetes to take part, before its first membership from there.
    pub waits_for: Option<String>,
}

/// Where a membership comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The membership file.
    File,
    /// The Kubernetes API.
    Kubernetes,
    /// The Kubernetes API, as it was before this start.
    Stored,
}

impl Feed {
    /// Enters where the membership comes from, and that it can be asked for there.
    pub(crate) fn comes_from(&mut self, source: Source) {
        self.source = Some(source);
        self.answers();
    }

    /// Enters that whoever it comes from can be asked.
    pub(crate) fn answers(&mut self) {
        if !self.connected {
            self.since = Some(SystemTime::now());
        }
        (self.connected, self.error) = (true, None);
    }

    /// Enters that nobody can be asked.
    pub(crate) fn fails(&mut self, why: String) {
        if self.connected || self.since.is_none() {
            self.since = Some(SystemTime::now());
        }
        (self.connected, self.error) = (false, Some(why));
    }
}

/// The state of things after the last pass.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Where the membership comes from.
    pub feed: Feed,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_tells_since_when_it_is_as_it_is() {
        let mut feed = Feed::default();
        feed.fails("first".into());
        let away = feed.since;
        feed.fails("second".into());
        assert_eq!((feed.since, feed.error.as_deref()), (away, Some("second")));
        feed.comes_from(Source::Kubernetes);
        let back = feed.since;
        assert!(back > away && feed.connected && feed.error.is_none());
        feed.comes_from(Source::Kubernetes);
        assert_eq!(feed.since, back);
    }
}
