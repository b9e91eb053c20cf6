//! Where the membership comes from, and whether it can be read there. Values only; `sources` reads it.

use std::time::SystemTime;

/// Where the membership comes from, and how that goes.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    /// Where the present membership comes from; `None` before the first one.
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

    /// Enters that the source answers.
    pub(crate) fn answers(&mut self) {
        if !self.connected {
            self.since = Some(SystemTime::now());
        }
        (self.connected, self.error) = (true, None);
    }

    /// Enters that the source does not answer.
    pub(crate) fn fails(&mut self, why: String) {
        if self.connected || self.since.is_none() {
            self.since = Some(SystemTime::now());
        }
        (self.connected, self.error) = (false, Some(why));
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
