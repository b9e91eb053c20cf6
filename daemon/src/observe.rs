//! What others can ask of the daemon: the status socket, the metrics, health; and the probes of the peers. None of it is
//! needed for the daemon's work, and none of it can stop it.
//!
//! What may not live here: any change of the kernel's state, and any decision about it.

pub mod metrics;
pub mod probe;
pub mod snapshot;
pub mod socket;
pub mod status;

mod health;
mod http;
mod server;

use tokio::sync::watch;

use crate::args::Run;
use crate::report::Report;

/// Starts all of it on the runtime that this is called in.
pub(crate) fn start(run: &Run, report: &watch::Sender<Report>) {
    tokio::spawn(socket::serve(report.subscribe()));
    if let Some(address) = run.metrics {
        tokio::spawn(http::serve(address, report.subscribe()));
    }
    if report.borrow().settings.probes {
        tokio::spawn(probe::run(report.clone()));
    }
}
