//! What the daemon knows of itself and of the node, for status, metrics and health.
//!
//! What may not live here: anything but values. No socket, no file, no rendering (`observe`).

pub mod attaching;
pub mod change_kind;
pub mod container_runtime;
pub mod feed;
pub mod outcome;
pub mod policies;
pub mod probes;
pub mod problem;
pub mod underlay_link;

pub(crate) mod named;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::rejected::Rejected;
use crate::cluster::settings::Settings;
use crate::cluster::view::View;
use crate::report::change_kind::Counts;
use crate::report::container_runtime::ContainerRuntime;
use crate::report::feed::Feed;
use crate::report::outcome::{FastPathState, Mtu, Outcome};
use crate::report::policies::PolicyState;
use crate::report::probes::{NarrowPaths, Probed};
use crate::report::problem::Problem;
use crate::report::underlay_link::UnderlayLink;

/// The state of the node after the last reconcile.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The name of this node.
    pub node: String,
    /// What was decided about the network.
    pub settings: Settings,
    /// The membership file; none where the membership comes from the Kubernetes API.
    pub file: Option<PathBuf>,
    /// The path of the conflist.
    pub conflist: PathBuf,
    /// The directory that the plugin is kept in, where it is.
    pub plugin_directory: Option<PathBuf>,
    /// When the daemon was started.
    pub started: Option<Instant>,
    /// The state of the membership's source.
    pub feed: Feed,
    /// The membership as this node accepts it, or why this node is not joined; `None` before the first membership.
    pub view: Option<Result<Arc<View>, Rejected>>,
    /// Since when that is so.
    pub view_since: Option<Instant>,
    /// The sizes of the largest packets, once the underlay has been found.
    pub mtu: Option<Mtu>,
    /// The link of the underlay, as far as plain routes need it.
    pub link: UnderlayLink,
    /// The state of the policies; nothing where they are switched off.
    pub policies: Option<PolicyState>,
    /// Why packets that policies refuse are not read from the kernel's packet log, where they shall be.
    pub unread_log: Option<Problem>,
    /// The state of the fast path.
    pub fast_path: FastPathState,
    /// What the last reconcile could not do.
    pub problems: Vec<Problem>,
    /// Whether the last reconcile has left everything as desired.
    pub converged: bool,
    /// When the last reconcile ended.
    pub last_sync: Option<Instant>,
    /// How long the last reconcile took.
    pub sync_took: Duration,
    /// Reconciles since the start.
    pub syncs: u64,
    /// Those of them that were incremental syncs.
    pub incremental_syncs: u64,
    /// Changes asked for since the start.
    pub changes: u64,
    /// The container runtime that is asked which pods are alive.
    pub runtime: ContainerRuntime,
    /// Attachments of dead pods that were released since the start.
    pub released: u64,
    /// Changes made since the start, by kind.
    pub made: Counts,
    /// Those of them that were repairs: they restored what had been right before.
    pub repaired: Counts,
    /// When the last reconciles with repairs were: [`CONFLICT`] at most.
    pub(crate) repaired_at: VecDeque<Instant>,
    /// What the probes have found, by the peer's name.
    pub probes: BTreeMap<Arc<str>, Probed>,
    /// Those of the peers' paths that take less than the underlay's MTU. Whoever waits for the report is woken by a change.
    pub narrow: Arc<NarrowPaths>,
    /// Whether the present view has been in the kernel as a whole.
    pub(crate) settled: bool,
}

/// So many reconciles with repairs within [`CONFLICT_WITHIN`] are a conflict with another program. A restart of the node's
/// network takes a few.
const CONFLICT: usize = 10;
const CONFLICT_WITHIN: Duration = Duration::from_secs(60);

impl Report {
    /// Enters what a full sync has come to.
    pub(crate) fn add(&mut self, view: Result<Arc<View>, Rejected>, outcome: &Outcome, took: Duration) {
        let now = Instant::now();
        if self.view.as_ref() != Some(&view) {
            self.view_since = Some(now);
            self.settled = false;
        }
        self.converged = view.is_ok() && outcome.problems.is_empty();
        self.view = Some(view);
        self.mtu = outcome.mtu.or(self.mtu);
        if let Some(link) = &outcome.link {
            self.link.clone_from(link);
        }
        if outcome.fast_path != FastPathState::Unknown {
            self.fast_path.clone_from(&outcome.fast_path);
        }
        self.problems.clone_from(&outcome.problems);
        self.last_sync = Some(now);
        self.sync_took = took;
        self.syncs += 1;
        self.changes += outcome.changes as u64;
        self.made.add_all(&outcome.made);
        if self.settled {
            self.repaired.add_all(&outcome.made);
            if outcome.changes > 0 {
                self.repaired_at.push_back(now);
                let surplus = self.repaired_at.len().saturating_sub(CONFLICT);
                self.repaired_at.drain(..surplus);
            }
        }
        self.settled |= self.converged;
    }

    /// Whether another program keeps undoing the repairs.
    pub(crate) fn is_in_conflict(&self, now: Instant) -> bool {
        let first = self.repaired_at.front().filter(|_| self.repaired_at.len() == CONFLICT);
        first.is_some_and(|first| now.saturating_duration_since(*first) < CONFLICT_WITHIN)
    }

    /// The same for an incremental sync.
    pub(crate) fn add_incremental(&mut self, view: Result<Arc<View>, Rejected>, outcome: &Outcome, took: Duration) {
        self.add(view, outcome, took);
        self.incremental_syncs += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Membership;
    use crate::report::change_kind::ChangeKind;

    #[test]
    fn what_is_changed_again_for_the_same_view_is_a_repair() {
        let membership = Membership::parse(include_str!("../../conf/nodes.toml")).unwrap();
        let view = || View::new(&membership, "node-1").map(Arc::new);
        let mut outcome = Outcome { changes: 1, ..Outcome::default() };
        outcome.made.add(ChangeKind::Route);
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
    fn many_repairs_in_a_short_time_are_a_conflict() {
        let membership = Membership::parse(include_str!("../../conf/nodes.toml")).unwrap();
        let mut report = Report::default();
        let mut sync = |changes| {
            let outcome = Outcome { changes, ..Outcome::default() };
            report.add(View::new(&membership, "node-1").map(Arc::new), &outcome, Duration::ZERO);
            let now = Instant::now();
            (report.is_in_conflict(now), report.is_in_conflict(now + CONFLICT_WITHIN))
        };
        // The first one makes all of it; those that find nothing to do are none.
        assert_eq!(sync(100), (false, false));
        (0..20).for_each(|_| assert_eq!(sync(0), (false, false)));
        (1..CONFLICT).for_each(|_| assert_eq!(sync(1), (false, false)));
        assert_eq!(sync(1), (true, false));
        assert_eq!(sync(1), (true, false));
    }
}
