//! What others can ask of the daemon: the status socket, the metrics, health; the probes of the peers; and the log of refused packets. None of it is
//! needed for the daemon's work, and none of it can stop it.
//!
//! What may not live here: any change of the kernel's state, and any decision about it.

pub mod metrics;
pub mod policies;
pub mod probe;
pub mod snapshot;
pub mod socket;
pub mod status;

mod health;
mod http;
mod refused_log;
mod server;

use tokio::sync::watch;

use crate::args::Run;
use crate::report::Report;
use crate::report::attaching::Attaching;
use crate::report::policies::Questions;

/// Starts all of it on the runtime that this is called in.
pub(crate) fn start(run: &Run, report: &watch::Sender<Report>, attaching: &Attaching, questions: &Questions) {
    tokio::spawn(socket::serve(report.subscribe(), attaching.clone(), questions.clone()));
    if let Some(address) = run.metrics {
        tokio::spawn(http::serve(address, report.subscribe()));
    }
    if report.borrow().settings.logs_refused() {
        refused_log::start(report.clone(), questions.clone());
    }
    if report.borrow().settings.probes {
        tokio::spawn(probe::run(report.clone()));
    }
}
