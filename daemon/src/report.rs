//! What the daemon knows of itself and of the node, for whoever asks: status, metrics, health. Values only; nothing here
//! looks at the kernel.

pub mod change_kind;
pub mod outcome;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::cluster::settings::Settings;
use crate::cluster::view::{Refusal, View};
use crate::report::change_kind::Counts;
use crate::report::outcome::{Mtu, Outcome};

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
    /// The name of this node.
    pub node: String,
    /// What was decided about the network.
    pub settings: Settings,
    /// Where the membership comes from, for humans.
    pub source: String,
    /// The conflist's place.
    pub conflist: PathBuf,
    /// The directory that the plugin is kept in, where it is.
    pub plugin_directory: Option<PathBuf>,
    /// When the daemon was started.
    pub started: Option<Instant>,
    /// Where the membership comes from.
    pub feed: Feed,
    /// The cluster as this node believes it, or why it believes nothing; `None` before the first membership.
    pub view: Option<Result<Arc<View>, Refusal>>,
    /// Since when it believes that.
    pub view_since: Option<Instant>,
    /// The sizes of the largest packets, once the underlay has been found.
    pub mtu: Option<Mtu>,
    /// "on", or why there is no fast path; empty before the first pass.
    pub fast_path: String,
    /// What could not be made as it should be, each a sentence.
    pub problems: Vec<String>,
    /// Whether the last pass has left everything as it should be.
    pub converged: bool,
    /// When the last pass ended.
    pub last_pass: Option<Instant>,
    /// How long the last pass took.
    pub pass_took: Duration,
    /// Passes since the start.
    pub passes: u64,
    /// Those of them that looked at a few changed peers only.
    pub short_passes: u64,
    /// Changes asked for since the start.
    pub changes: u64,
    /// Attachments of dead pods that were released since the start.
    pub released: u64,
    /// Changes made since the start, by kind.
    pub made: Counts,
    /// Those of them that put right what had been right before.
    pub repaired: Counts,
    /// When the last passes were that put right what had been right before: [`UNREST`] at most.
    pub(crate) repaired_at: VecDeque<Instant>,
    /// What the probes have found, by the peer's name.
    pub probes: BTreeMap<Arc<str>, Probed>,
    /// Whether the present view has been in the kernel as a whole.
    pub(crate) settled: bool,
}

/// What the probes of a peer have found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    /// What its overlay addresses have answered: that of IPv4, that of IPv6.
    pub overlay: [Option<Echoes>; 2],
    /// The way to its node's address.
    pub path: Option<Path>,
}

/// The last answers of an address, as few numbers as will do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Echoes {
    /// The last 16 probes, the latest in the lowest bit: 1 is answered.
    window: u16,
    /// How many of them there were, 16 at most.
    known: u8,
    /// The round trip in microseconds, smoothed over eight answers; 0 before the first one.
    round_trip: u32,
}

/// How large a packet may be on the way to a node's address, both in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The largest that came through whole.
    pub largest: u32,
    /// The largest that there was to try: the underlay's MTU.
    pub wanted: u32,
}

/// What [`Report::source`] is where the membership comes from the Kubernetes API.
pub(crate) const KUBERNETES: &str = "kubernetes";

/// So many passes with repairs within [`UNREST_WITHIN`] are somebody who undoes them. One who restarts a node's network takes
/// a few.
const UNREST: usize = 10;
const UNREST_WITHIN: Duration = Duration::from_secs(60);

/// So many probes in a row without an answer make a peer silent.
pub const SILENT_AFTER: u32 = 3;

impl Echoes {
    /// Enters an answer.
    pub fn answered(&mut self, round_trip: Duration) {
        self.enter(1);
        let latest = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX / 8).clamp(1, u32::MAX / 8);
        self.round_trip = match self.round_trip {
            0 => latest,
            before => (before * 7 + latest) / 8,
        };
    }

    /// The round trip in microseconds, smoothed over eight answers.
    pub fn round_trip(&self) -> Option<u32> {
        Some(self.round_trip).filter(|known| *known > 0)
    }

    /// Enters that there was none.
    pub fn unanswered(&mut self) {
        self.enter(0);
    }

    fn enter(&mut self, bit: u16) {
        self.window = self.window << 1 | bit;
        self.known = (self.known + 1).min(16);
    }

    /// Probes in a row, up to now, without an answer.
    pub fn silent_for(&self) -> u32 {
        self.window.trailing_zeros().min(self.known.into())
    }

    /// Whether it answers; `None` when that is not known yet.
    pub fn answers(&self) -> Option<bool> {
        match self.silent_for() {
            _ if self.known == 0 => None,
            0 => Some(true),
            silent if silent >= SILENT_AFTER => Some(false),
            // One lost packet makes nobody silent who has answered before.
            silent => (silent < self.known.into()).then_some(true),
        }
    }

    /// How many of the last 16 probes were lost, in percent.
    pub fn loss_percent(&self) -> u32 {
        let known = u32::from(self.known);
        (known - self.window.count_ones().min(known)) * 100 / known.max(1)
    }
}

impl Report {
    /// Enters what a pass has come to.
    pub(crate) fn add(&mut self, view: Result<Arc<View>, Refusal>, outcome: &Outcome, took: Duration) {
        let now = Instant::now();
        if self.view.as_ref() != Some(&view) {
            self.view_since = Some(now);
            self.settled = false;
        }
        self.converged = view.is_ok() && outcome.problems.is_empty();
        self.view = Some(view);
        self.mtu = outcome.mtu.or(self.mtu);
        if !outcome.fast_path.is_empty() {
            self.fast_path.clone_from(&outcome.fast_path);
        }
        self.problems.clone_from(&outcome.problems);
        self.last_pass = Some(now);
        self.pass_took = took;
        self.passes += 1;
        self.changes += outcome.changes as u64;
        self.made.add_all(&outcome.made);
        if self.settled {
            self.repaired.add_all(&outcome.made);
            if outcome.changes > 0 {
                self.repaired_at.push_back(now);
                let surplus = self.repaired_at.len().saturating_sub(UNREST);
                self.repaired_at.drain(..surplus);
            }
        }
        self.settled |= self.converged;
    }

    /// Whether somebody undoes what the passes repair, again and again.
    pub(crate) fn is_unrest(&self, now: Instant) -> bool {
        let first = self.repaired_at.front().filter(|_| self.repaired_at.len() == UNREST);
        first.is_some_and(|first| now.saturating_duration_since(*first) < UNREST_WITHIN)
    }

    /// The same for one that looked at a few changed peers only.
    pub(crate) fn add_short(&mut self, view: Result<Arc<View>, Refusal>, outcome: &Outcome, took: Duration) {
        self.add(view, outcome, took);
        self.short_passes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Membership;
    use crate::report::change_kind::Kind;

    #[test]
    fn what_is_changed_again_for_the_same_view_is_a_repair() {
        let membership = Membership::parse(include_str!("../../conf/nodes.toml")).unwrap();
        let view = || View::new(&membership, "node-1").map(Arc::new);
        let mut outcome = Outcome { changes: 1, ..Outcome::default() };
        outcome.made.add(Kind::Route);
        let mut report = Report::default();
        report.add(view(), &outcome, Duration::ZERO);
        assert_eq!((report.made, report.repaired), (outcome.made, Counts::default()));
        let since = report.view_since;
        report.add(view(), &outcome, Duration::ZERO);
        assert_eq!((report.repaired, report.view_since), (outcome.made, since));
        // Another view has to be brought into the kernel first.
        report.add(View::new(&membership, "node-2").map(Arc::new), &outcome, Duration::ZERO);
        assert_eq!((report.repaired, report.changes), (outcome.made, 3));
    }

    #[test]
    fn many_passes_with_repairs_in_a_short_time_are_unrest() {
        let membership = Membership::parse(include_str!("../../conf/nodes.toml")).unwrap();
        let mut report = Report::default();
        let mut pass = |changes| {
            let outcome = Outcome { changes, ..Outcome::default() };
            report.add(View::new(&membership, "node-1").map(Arc::new), &outcome, Duration::ZERO);
            let now = Instant::now();
            (report.is_unrest(now), report.is_unrest(now + UNREST_WITHIN))
        };
        // The first one makes all of it; those that find all well are none.
        assert_eq!(pass(100), (false, false));
        (0..20).for_each(|_| assert_eq!(pass(0), (false, false)));
        (1..UNREST).for_each(|_| assert_eq!(pass(1), (false, false)));
        assert_eq!(pass(1), (true, false));
        assert_eq!(pass(1), (true, false));
    }

    #[test]
    fn a_peer_is_silent_after_three_lost_probes_and_unknown_before_it_has_ever_answered() {
        let mut echoes = Echoes::default();
        assert_eq!((echoes.answers(), echoes.loss_percent()), (None, 0));
        echoes.unanswered();
        assert_eq!(echoes.answers(), None);
        echoes.answered(Duration::from_micros(800));
        echoes.unanswered();
        echoes.unanswered();
        assert_eq!((echoes.answers(), echoes.loss_percent()), (Some(true), 75));
        echoes.unanswered();
        assert_eq!((echoes.answers(), echoes.loss_percent()), (Some(false), 80));
        for _ in 0..20 {
            echoes.answered(Duration::from_micros(1600));
        }
        assert_eq!((echoes.answers(), echoes.loss_percent()), (Some(true), 0));
        let smoothed = echoes.round_trip().unwrap();
        assert!((1500..1600).contains(&smoothed), "{smoothed}");
        let mut never = Echoes::default();
        (0..3).for_each(|_| never.unanswered());
        assert_eq!(never.answers(), Some(false));
    }

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
