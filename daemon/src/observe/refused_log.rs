//! The log of refused packets, where it is switched on: a line for each packet that a policy has refused, or that one would have refused
//! which is not enforced. On a thread of its own: whoever has put the policies in force is asked which they are.
//!
//! What may not live here: how a line is put together (`line`), and what is counted (`Unlogged`).

mod line;
mod unlogged;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info, warn};

use self::line::Line;
use self::unlogged::Unlogged;
use crate::datapath::policy::logged::{LoggedPacket, LoggedPackets};
use crate::report::Report;
use crate::report::policies::Questions;
use crate::report::problem::{Problem, ProblemKind};

/// How long is waited for a packet at most.
const WAIT: Duration = Duration::from_secs(30);

/// The time to the next attempt where the packets cannot be read.
const AGAIN: Duration = Duration::from_secs(10);

/// How long is waited for whoever knows the policies: a change of all of them takes less than a second.
const BUSY: Duration = Duration::from_secs(2);

/// Starts the thread. Without one there is no log, and a problem.
pub(super) fn start(report: watch::Sender<Report>, questions: Questions) {
    let own = report.clone();
    let run = move || {
        loop {
            let Err(failure) = follow(&own, &questions);
            tell(&own, Some(failure.to_string()));
            thread::sleep(AGAIN);
        }
    };
    if let Err(error) = thread::Builder::new().name("refused-log".into()).spawn(run) {
        tell(&report, Some(error.to_string()));
    }
}

/// Enters why the packets cannot be read, or that they can.
fn tell(report: &watch::Sender<Report>, failure: Option<String>) {
    let text = failure.map(|failure| {
        format!(
            "packets that policies refuse are not logged: {failure}; another program may read the group, or the kernel has no \
             nfnetlink_log. podwired tries again"
        )
    });
    let problem = text.map(|text| Problem::general(ProblemKind::RefusedNotLogged, text));
    report.send_if_modified(|report| {
        let is_new = report.unread_log != problem;
        if let Some(problem) = problem.as_ref().filter(|_| is_new) {
            error!("{problem}");
        }
        report.unread_log = problem;
        is_new
    });
}

/// Logs until the packets cannot be read.
fn follow(report: &watch::Sender<Report>, questions: &Questions) -> podwire_kernel::Result<std::convert::Infallible> {
    let mut packets = LoggedPackets::open()?;
    let mut unlogged = Unlogged::since(packets.unlogged()?);
    tell(report, None);
    loop {
        let (logged, lost) = packets.wait(unlogged.due(Instant::now()).map_or(WAIT, |due| due.min(WAIT)))?;
        if !logged.is_empty() || lost > 0 {
            unlogged.heard(lost, Instant::now());
        }
        if !logged.is_empty() {
            lines(logged, report, questions).iter().for_each(Line::log);
        }
        if unlogged.due(Instant::now()).is_some_and(|due| due.is_zero()) {
            let more = unlogged.more(packets.unlogged()?, Instant::now());
            if more > 0 {
                info!(packets = more, "more such packets were not logged");
            }
        }
    }
}

/// The lines of packets, in their order.
fn lines(logged: Vec<LoggedPacket>, report: &watch::Sender<Report>, questions: &Questions) -> Vec<Line> {
    let view = report.borrow().view.as_ref().and_then(|view| view.as_ref().ok().cloned());
    let node = report.borrow().node.clone();
    let (answered, answer) = mpsc::sync_channel(1);
    let asked = logged.clone();
    let has_room = questions.ask(move |enforced| {
        let lines = asked.iter().map(|packet| Line::new(packet, enforced, &node, view.as_deref()));
        // Whoever has asked may not wait any more.
        let _ = answered.try_send(lines.collect::<Vec<_>>());
    });
    match answer.recv_timeout(if has_room { BUSY } else { Duration::ZERO }) {
        Ok(lines) => lines,
        Err(_) => {
            warn!("nobody says by which policies the following packets were refused: the policies are being changed");
            logged.iter().map(Line::without_names).collect()
        }
    }
}
