//! What can be seen of the daemon from outside is started here: the status socket, the metrics, the probes. None of it is
//! needed for the daemon's work, and none of it can stop it.

use std::path::Path;

use tokio::sync::watch;

use crate::args::Run;
use crate::report::Report;
use crate::settings::Overlay;
use crate::{http, probe, socket};

/// Starts all of it on the runtime that this is called in.
pub(crate) fn start(run: &Run, report: &watch::Sender<Report>) {
    tokio::spawn(socket::serve(Path::new(socket::SOCKET), report.subscribe()));
    if let Some(address) = run.metrics {
        tokio::spawn(http::serve(address, report.subscribe()));
    }
    // Without the overlay nobody has an address on it to ask.
    let asks = |report: &Report| report.settings.probes && report.settings.overlay != Overlay::Never;
    if asks(&report.borrow()) {
        tokio::spawn(probe::run(report.clone()));
    }
}
