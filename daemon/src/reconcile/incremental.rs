//! An incremental sync: a few peers came, left or changed. What differs between the view of the last sync and the new one
//! is applied at once, without a list of all the others; a full sync comes some time later and looks at everything.
//!
//! What may not live here: how careful that is (`datapath::overlay::step`). Whatever is not as expected ends it, and a full
//! sync finds out what there is and says what is wrong.

use std::sync::Arc;

use tracing::debug;

use crate::cluster::delta::Delta;
use crate::cluster::view::View;
use crate::reconcile::full::{Reconciler, inputs};
use crate::report::outcome::Outcome;

impl Reconciler {
    /// Whether a few changed peers can be applied by themselves.
    pub(crate) fn can_change(&self) -> bool {
        self.overlay.is_settled()
    }

    /// Makes the kernel follow a delta of the view that the last sync was made with: the new view, and what came of it.
    /// Where it was not the whole delta, [`Reconciler::can_change`] says no, and only a full sync helps.
    pub(crate) fn change(&mut self, view: &Arc<View>, delta: &Delta) -> (Arc<View>, Outcome) {
        let mut outcome = Outcome::default();
        if delta.is_empty() {
            return (view.clone(), outcome);
        }
        self.overlay.change(&inputs(view, &self.settings, &self.fast_path, &self.narrow), delta, &mut outcome);
        self.fast_path.forget();
        let view = Arc::new(view.with(delta));
        self.firewall.step(&inputs(&view, &self.settings, &self.fast_path, &self.narrow), &mut outcome);
        if !outcome.problems.is_empty() {
            // The full sync, which comes at once, says what is left of them.
            outcome.problems.drain(..).for_each(|problem| debug!("{problem}"));
            self.overlay.put_back(None);
        }
        (view, outcome)
    }
}
