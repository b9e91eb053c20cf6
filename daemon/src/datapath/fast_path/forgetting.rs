//! Has the fast path forget every flow that it remembers, from whichever thread has changed what packets may do.
//!
//! What may not live here: when that is due.

use std::sync::Arc;
use std::time::Duration;

use podwire_kernel::Result;
use podwire_kernel::bpf::Number;
use rustix::time::{ClockId, clock_gettime};

use crate::datapath::fast_path::program;

/// How long a packet that was routed earlier may take until its flow is remembered, and how far the programs' clock may
/// lag (it ticks at least a hundred times a second).
const IN_FLIGHT: Duration = Duration::from_millis(20);

/// The means to forget.
#[derive(Clone)]
pub(crate) struct Forgetting(pub(super) Arc<Number>);

impl Forgetting {
    /// Invalidates all remembered flows, and those that are about to be remembered of packets that were judged before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn forget(&self) -> Result<()> {
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default() + IN_FLIGHT;
        let life = Duration::from_nanos(program::LIFE.unsigned_abs().into());
        self.0.set(u64::try_from((now + life).as_nanos()).unwrap_or(u64::MAX))
    }
}
