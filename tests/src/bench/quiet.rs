//! The kernel's rest between two measured calls.

use std::path::Path;

use podwire_tests::lab::host::Host;

use crate::step::Step;
use crate::tools::Tools;

/// A host of its own, on which nothing is measured.
#[derive(Debug)]
pub(crate) struct Quiet {
    host: Host,
    step: Step,
}

impl Quiet {
    /// # Errors
    /// When the host cannot be made.
    pub(crate) fn new(shared: &Path, tools: &Tools) -> Result<Self, String> {
        let step = Step::bare(tools.floor.clone(), vec!["quiet".into()]);
        Ok(Self { host: Host::new("quiet", shared)?, step })
    }

    /// Waits until the kernel has done with every device that was removed before: it finishes removals in turn
    /// (`netdev_run_todo`, `rcu_barrier`), so one more that is waited for is the end of all. Whoever answers before the
    /// kernel has finished leaves no work to whoever is measured next.
    ///
    /// # Errors
    /// When that removal fails.
    pub(crate) fn wait(&self) -> Result<(), String> {
        self.host.enter(|| self.step.execute()).map(drop)
    }
}
