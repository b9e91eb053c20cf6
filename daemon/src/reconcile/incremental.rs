//! The short way: a few peers came, left or changed. What differs between the view of the last pass and the new one is
//! applied at once, without a list of all the others; a whole pass comes some time later and looks at everything.
//!
//! It is as careful as a whole pass. It is taken only after one that left nothing to be desired. An id of a nexthop that
//! is changed or removed is asked for first, and one that is new is taken only if nobody has it; whatever else is
//! touched is ours by its destination and protocol, or by its device. Whatever is not as expected ends it, and a whole
//! pass finds out what there is and says what is wrong.

use std::path::Path;
use std::sync::Arc;

use podwire_kernel::nexthop::{self, Nexthop};
use tracing::debug;

use crate::cluster::delta::Change;
use crate::cluster::view::View;
use crate::datapath::overlay::desired::{self, NexthopIds};
use crate::datapath::overlay::diff;
use crate::datapath::overlay::underlay::Underlay;
use crate::reconcile::pass::Worker;
use crate::report::outcome::Outcome;

/// What a pass has left.
pub(super) struct Left {
    /// Index of the overlay's device, where there is one.
    pub(super) tunnel: Option<u32>,
    /// The node's interface.
    pub(super) underlay: Underlay,
    /// The ids of nexthops.
    pub(super) ids: NexthopIds,
}

impl Worker {
    /// Whether the short way can be taken.
    pub(crate) fn can_change(&self) -> bool {
        self.left.is_some()
    }

    /// Makes the kernel follow a change of the view that the last pass was made with: the new view, and what came of it.
    /// Where it was not the whole change, [`Worker::can_change`] says no, and only a whole pass helps.
    pub(crate) fn change(&mut self, view: &Arc<View>, change: &Change) -> (Arc<View>, Outcome) {
        let mut outcome = Outcome::default();
        if change.is_empty() {
            return (view.clone(), outcome);
        }
        let done = self.left.take().and_then(|left| self.change_overlay(view, change, left, &mut outcome));
        self.fast_path.forget();
        let view = Arc::new(view.with(change));
        let fast_path = self.fast_path.is_on();
        let state = Path::new(podwire::STATE);
        let firewall = self.firewall.pass(&view, &self.settings, fast_path, state, &mut outcome);
        self.left = done.filter(|_| match firewall {
            Ok(()) => true,
            Err(error) => {
                debug!("{error}");
                false
            }
        });
        (view, outcome)
    }

    fn change_overlay(&mut self, view: &View, change: &Change, mut left: Left, outcome: &mut Outcome) -> Option<Left> {
        // What these peers share with all others (guards, own addresses) is in both, so that it stays.
        let Left { tunnel, underlay, ids } = &left;
        let state = |peers| desired::state(&view.with_only(peers), &self.settings, *tunnel, underlay, ids);
        let ((before, _), (after, problems)) = (state(&change.before), state(&change.after));
        let known = |nexthop: &Nexthop| ids.ours.get(&nexthop.gateway) == Some(&nexthop.id);
        if !problems.is_empty() || !before.nexthops.values().all(known) {
            return None;
        }
        match nexthop::has_all(&mut self.route, before.nexthops.values()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                debug!("{error}");
                return None;
            }
        }
        let refused = self.apply(diff::state(&after, &before, *tunnel), outcome);
        refused.iter().for_each(|error| debug!("{error}"));
        left.ids.replace(&before, &after);
        refused.is_empty().then_some(left)
    }
}
