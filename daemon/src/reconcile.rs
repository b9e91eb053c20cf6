//! When to reconcile: woken by the membership, by the kernel's notifications, by a changed file, or by the clock, it
//! has a full sync made and publishes what came of it. A change of a few peers is applied by an incremental sync, and a full
//! sync that is under way makes room for it.
//!
//! What may not live here: what is changed and how (`datapath`), and what is shown of it (`observe`).

mod attachments;
mod backoff;
mod connections;
mod cutting;
mod full;
mod incremental;
pub(crate) mod policies;
mod problem_log;
mod recorded_pods;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use podwire_conf::defaults;
use podwire_kernel::netlink::monitor::Monitor;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::args::Run;
use crate::cluster::delta::Delta;
use crate::cluster::settings::Settings;
use crate::cluster::view::View;
use crate::datapath::policy::chains::Logging;
use crate::datapath::policy::table::{Listener, PolicyTable};
use crate::datapath::transactions::Transactions;
use crate::node::file_watch::FileWatch;
use crate::reconcile::backoff::{Backoff, GATHER, VERIFY};
use crate::reconcile::full::Reconciler;
use crate::reconcile::policies::Source;
use crate::reconcile::problem_log::ProblemLog;
use crate::report::Report;
use crate::report::outcome::Outcome;
use crate::sources::channel::Subscriber;

/// A full sync is stopped for a change of the membership only while the last one that was not is younger than this.
const FULL_WITHIN: Duration = Duration::from_secs(10);

/// Runs for ever; returns only when the kernel cannot be listened to.
pub(crate) async fn run(
    run: &Run,
    settings: Settings,
    mut membership: Subscriber,
    report: &watch::Sender<Report>,
    policies: Option<Source>,
) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let transactions = Transactions::default();
    let mut reconciler = Reconciler::new(settings, run, stop.clone(), transactions.clone())?;
    let logging = if report.borrow().settings.logs_refused() { Logging::On } else { Logging::Off };
    let mut table = PolicyTable::open(transactions, logging).map_err(io::Error::other)?;
    let (routes, firewall) = reconciler.ports();
    let (mut notifications, listener) = listen(&routes, &[firewall, table.port()])?;
    table.spare(listener);
    let wake_policies = match policies {
        Some(Source { objects, wake, woken, attaching, questions }) => {
            let source = (objects, (wake.clone(), woken), attaching, questions);
            policies::start(source, table, reconciler.forgetting(), report.clone())?;
            Some(wake)
        }
        // What an earlier daemon has left would stay in force for ever.
        None => {
            if let Err(error) = table.remove() {
                warn!("the policies that an earlier podwired has left stay in force: {error}");
            }
            None
        }
    };
    // Pods, peers and foreign rules: whatever a sync is made for may matter to the policies. One wake-up stands for all.
    let wake = || {
        let _ = wake_policies.as_ref().map(|wake| wake.try_send(()));
    };
    let syncs = SyncThread::start()?;
    let plugin = run.plugin_directory.iter().map(|directory| directory.join(defaults::PLUGIN));
    let mut files = FileWatch::new(plugin.chain([run.conflist_directory.join(defaults::CONFLIST)]).collect());
    let mut problem_log = ProblemLog::default();
    let mut backoff = Backoff::default();
    let mut last = Instant::now();
    let mut reports = report.subscribe();
    loop {
        reconciler.follow(&report.borrow().narrow);
        let mut view = View::new(&membership.take().0, &run.node_name).map(Arc::new);
        problem_log.view(&view);
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let before = files.stamps();
        if let Ok(view) = view.clone() {
            let may_stop = reconciler.can_change() && last.elapsed() < FULL_WITHIN;
            let sync = syncs.start_sync(reconciler, view);
            (reconciler, outcome) = unless_overtaken(sync, may_stop.then_some(&stop), &mut membership).await?;
        }
        let (mut pause, mut next) = (Duration::ZERO, Duration::ZERO);
        if !outcome.stopped {
            files.restored(before, outcome.wrote);
            if view.is_ok() {
                problem_log.problems(&outcome.problems);
            }
            report.send_modify(|report| report.add(view.clone(), &outcome, start.elapsed()));
            wake();
            (pause, next) = backoff.after(&outcome, start.elapsed(), last.elapsed());
            last = Instant::now();
        }
        let (earliest, mut due) = (Instant::now() + pause, Instant::now() + next);
        // When a full sync verifies the incremental ones, and when the first of them was made.
        let (mut verify, mut unverified) = (due, None);
        let mut pods = reconciler.pods_again().map(|again| Instant::now() + again);
        loop {
            tokio::select! {
                biased;
                changed = membership.changed() => {
                    changed?;
                    let Ok(before) = &view else { break };
                    let start = Instant::now();
                    let delta = Delta::new(before, &membership.take().1, &run.node_name);
                    let Some(delta) = delta.filter(|_| reconciler.can_change()) else { break };
                    // On this thread: it takes a millisecond, and waking another thread costs more.
                    let (after, outcome) = reconciler.change(before, &delta);
                    view = Ok(after);
                    if !reconciler.can_change() {
                        break;
                    }
                    report.send_modify(|report| report.add_incremental(view.clone(), &outcome, start.elapsed()));
                    wake();
                    // Not amid a burst of changes, which would have to wait for it.
                    let first = *unverified.get_or_insert(start);
                    verify = earliest.max((Instant::now() + VERIFY).min(first + FULL_WITHIN));
                }
                () = sleep_until(due.min(verify)) => break,
                () = sleep_until(pods.unwrap_or(due)), if pods.is_some() => {
                    let Ok(view) = &view else { break };
                    // On this thread: it is a millisecond or two.
                    let outcome = reconciler.sync_pods(view, report.borrow().mtu);
                    pods = reconciler.pods_again().map(|again| Instant::now() + again);
                    if outcome.changes > 0 || !outcome.problems.is_empty() {
                        break;
                    }
                }
                // Only the probes' part of it is not known here.
                Ok(()) = reports.changed() => {
                    if reports.borrow_and_update().narrow != *reconciler.narrow() {
                        due = due.min(earliest.max(Instant::now() + GATHER));
                    }
                }
                () = files.changed() => due = due.min(earliest.max(Instant::now() + GATHER)),
                heard = notifications.recv() => {
                    heard.unwrap_or_else(|| Err(io::Error::other("the kernel's notifications ended")))?;
                    due = due.min(earliest.max(Instant::now() + GATHER));
                }
            }
        }
    }
}

/// Waits for a full sync. Where it may be stopped, a change of the membership that arrives meanwhile sets `stop`, and is
/// left for the caller to see.
async fn unless_overtaken<T>(
    sync: impl Future<Output = io::Result<T>>,
    stop: Option<&Arc<AtomicBool>>,
    membership: &mut Subscriber,
) -> io::Result<T> {
    let mut sync = pin!(sync);
    let done = tokio::select! {
        done = &mut sync => done,
        changed = membership.changed(), if stop.is_some() => {
            changed?;
            membership.mark_changed();
            stop.inspect(|stop| stop.store(true, Ordering::Relaxed));
            sync.await
        }
    };
    stop.inspect(|stop| stop.store(false, Ordering::Relaxed));
    done
}

/// The thread that makes the full syncs. Always the same one: the C library gives each thread memory of its own and keeps
/// for it what is freed, so that syncs on several threads would hold the memory of several.
struct SyncThread {
    ask: Sender<Ask>,
}

/// A full sync that is asked for: the reconciler, the view, and where its outcome goes.
type Ask = (Reconciler, Arc<View>, oneshot::Sender<(Reconciler, Outcome)>);

impl SyncThread {
    fn start() -> io::Result<Self> {
        let (ask, asked) = channel::<Ask>();
        thread::Builder::new().name("sync".into()).spawn(move || {
            for (mut reconciler, view, done) in asked {
                let outcome = reconciler.sync(&view);
                // When the daemon stops, nothing waits for it any more.
                let _ = done.send((reconciler, outcome));
            }
        })?;
        Ok(Self { ask })
    }

    /// Has a full sync made; it is under way when this returns.
    fn start_sync(
        &self,
        reconciler: Reconciler,
        view: Arc<View>,
    ) -> impl Future<Output = io::Result<(Reconciler, Outcome)>> + use<> {
        let (done, waits) = oneshot::channel();
        // If the thread has ended, `waits` reports it.
        let _ = self.ask.send((reconciler, view, done));
        async { waits.await.map_err(|_| io::Error::other("the sync thread has ended")) }
    }
}

/// Listens, on a thread of its own since the socket blocks, to what other programs change. One notification in the channel
/// stands for all that arrived before it was taken out.
fn listen(routes: &[u32], nftables: &[u32]) -> io::Result<(mpsc::Receiver<io::Result<()>>, Listener)> {
    let notifications = Monitor::open(routes, nftables).map_err(io::Error::other)?;
    let (sender, receiver) = mpsc::channel(1);
    let (hearing, missed) = (notifications.nftables(), sender.clone());
    // What is in the channel already stands for this one, too.
    let missed = move || _ = missed.try_send(Ok(()));
    thread::Builder::new().name("notifications".into()).spawn(move || {
        loop {
            let heard = notifications.wait();
            let last = heard.is_err();
            match if last { sender.blocking_send(heard).map_err(Into::into) } else { sender.try_send(heard) } {
                // A full channel has a notification already.
                Ok(()) | Err(TrySendError::Full(_)) if !last => {}
                _ => return,
            }
        }
    })?;
    Ok((receiver, (hearing, Box::new(missed))))
}

#[cfg(test)]
mod tests {
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::cluster::membership::Membership;
    use crate::cluster::update::Update;
    use crate::sources;

    #[test]
    fn a_full_sync_makes_room_for_a_change_of_the_membership_that_is_still_seen_after_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (publisher, mut membership) = sources::channel::channel(Membership::default());
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            // Ends only when it is stopped.
            let sync = spawn_blocking(move || {
                while !stopped.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            });
            let sync = async { sync.await.map_err(io::Error::other) };
            publisher.publish(|_| Some(Update::member("node-2", None)));
            unless_overtaken(sync, Some(&stop), &mut membership).await.unwrap();
            assert!(!stop.load(Ordering::Relaxed), "the next sync is not stopped");
            membership.changed().await.unwrap();
            assert_eq!(membership.take().1, Update::member("node-2", None));
            // Where nothing may stop it, it goes on to its end.
            let sync = async { Ok(7) };
            assert_eq!(unless_overtaken(sync, None, &mut membership).await.unwrap(), 7);
        });
    }
}
