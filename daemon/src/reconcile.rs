//! The one road: woken by the membership, by the kernel's notices, or by the clock, it has a pass made, and publishes what
//! came of it.

use std::io;
use std::sync::Arc;
use std::thread;

use podwire_conf::defaults;
use podwire_kernel::notice::Notices;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::args::Run;
use crate::kept::Kept;
use crate::membership::Membership;
use crate::pace::{GATHER, Pace};
use crate::pass::{Outcome, Worker};
use crate::report::Report;
use crate::settings::Settings;
use crate::told::Told;
use crate::view::View;

/// Runs for ever; returns only when the kernel cannot be listened to.
pub(crate) async fn run(
    run: &Run,
    settings: Settings,
    mut membership: watch::Receiver<Membership>,
    report: &watch::Sender<Report>,
) -> io::Result<()> {
    let mut notices = listen()?;
    let mut worker = Worker::new(settings, run).map_err(io::Error::other)?;
    let plugin = run.plugin_directory.iter().map(|directory| directory.join(defaults::PLUGIN));
    let mut files = Kept::new(plugin.chain([run.conflist_directory.join(defaults::CONFLIST)]).collect());
    let mut told = Told::default();
    let mut pace = Pace::default();
    loop {
        let view = View::new(&membership.borrow_and_update(), &run.node_name).map(Arc::new);
        told.refusals(&view);
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let before = files.look();
        if let Ok(view) = view.clone() {
            let pass = tokio::task::spawn_blocking(move || {
                let outcome = worker.pass(&view);
                (worker, outcome)
            });
            (worker, outcome) = pass.await.map_err(io::Error::other)?;
            told.problems(&outcome.problems);
        }
        files.made_right(before, outcome.wrote);
        report.send_modify(|report| report.add(view, &outcome, start.elapsed()));
        let (pause, next) = pace.after(&outcome, start.elapsed());
        let (earliest, deadline) = (Instant::now() + pause, Instant::now() + next);
        tokio::select! {
            changed = membership.changed() => {
                changed.map_err(io::Error::other)?;
                continue;
            }
            heard = notices.recv() => heard.unwrap_or_else(|| Err(io::Error::other("the kernel's notices ended")))?,
            () = files.touched() => {}
            () = sleep_until(deadline) => continue,
        }
        tokio::select! {
            changed = membership.changed() => changed.map_err(io::Error::other)?,
            () = sleep_until(earliest.max(Instant::now() + GATHER)) => {}
        }
    }
}

/// Listens on a thread of its own: the socket of the notices is one that blocks. One notice in the channel stands for
/// all that came before it was taken out.
fn listen() -> io::Result<mpsc::Receiver<io::Result<()>>> {
    let notices = Notices::open().map_err(io::Error::other)?;
    let (sender, receiver) = mpsc::channel(1);
    thread::Builder::new().name("notices".into()).spawn(move || {
        loop {
            let heard = notices.wait();
            let last = heard.is_err();
            match if last { sender.blocking_send(heard).map_err(Into::into) } else { sender.try_send(heard) } {
                // A full channel has a notice already.
                Ok(()) | Err(TrySendError::Full(_)) if !last => {}
                _ => return,
            }
        }
    })?;
    Ok(receiver)
}
