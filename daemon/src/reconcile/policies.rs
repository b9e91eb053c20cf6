//! Policies in force: on a thread of its own, since a full sync may take half a second, the objects of the API or of files and
//! the pods that are attached here are compiled and written into the kernel whenever one of them has changed.
//!
//! What may not live here: what a policy means (`policy`), and how the kernel is told (`datapath`).

mod followed;
mod judging;
mod pods_here;
mod problems;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use std::{io, thread};

use podwire_kernel::Socket;
use tokio::sync::watch;
use tracing::{error, info};

use crate::cluster::view::View;
use crate::datapath::fast_path::forgetting::Forgetting;
use crate::datapath::policy::table::{Applied, PolicyTable};
use crate::datapath::policy::tracked::Judged;
use crate::policy::changes::Changes;
use crate::policy::incremental::{Changed, Incremental};
use crate::policy::inputs::{Inputs, Local};
use crate::policy::network_policy::Direction;
use crate::policy::owners::Owners;
use crate::policy::restricted::Restricted;
use crate::reconcile::attachments::Attachments;
use crate::reconcile::connections::Connections;
use crate::reconcile::cutting::{Cutting, Soon};
use crate::reconcile::policies::followed::Followed;
use crate::reconcile::policies::problems::{not_in_force, not_logged, of_objects};
use crate::reconcile::recorded_pods;
use crate::report::Report;
use crate::report::attaching::Attaching;
use crate::report::policies::{Attached, Enforced, PolicyState, Waiting};
use crate::report::problem::Problem;
use crate::sources::policy_objects::{Objects, PolicyObjects};

/// How often the kernel is checked without a cause.
const VERIFY: Duration = Duration::from_secs(30);

/// The time to the next attempt after a failure; it doubles each time, up to [`VERIFY`].
const AGAIN: Duration = Duration::from_secs(1);

/// Where the objects come from, and the wake-up that each of their changes gives.
pub(crate) struct Source {
    pub(crate) objects: PolicyObjects,
    pub(crate) wake: SyncSender<()>,
    pub(crate) woken: Receiver<()>,
    /// Attachments that wait for their policies.
    pub(crate) attaching: Attaching,
    /// What is asked about what is in force; each question wakes, too.
    pub(crate) questions: Waiting,
}

/// Starts the thread.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(
    source: (PolicyObjects, (SyncSender<()>, Receiver<()>), Attaching, Waiting),
    table: PolicyTable,
    forgetting: Option<Forgetting>,
    report: watch::Sender<Report>,
) -> io::Result<()> {
    let (objects, (wake, woken), attaching, questions) = source;
    let owners = Owners::new(&report.borrow().node);
    let mut policies = Policies {
        objects,
        table,
        forgetting,
        report,
        incremental: Incremental::default(),
        owners,
        attachments: Attachments::default(),
        attached: Arc::default(),
        nameless: Vec::new(),
        seen: Arc::default(),
        are_known: false,
        of_objects: Arc::default(),
        judged_as: (None, Arc::default()),
        attaching,
        questions,
        followed: Followed::default(),
        is_in_force: false,
        isolated: 0,
        is_refused: false,
        owed: Applied::default(),
        cutting: Cutting::default(),
        conntrack: None,
        connections: Connections::start(wake)?,
        listing: None,
        unlisted: None,
        are_cut: false,
        logged: None,
        unjudged: None,
        wait: VERIFY,
        again: AGAIN,
    };
    let run = move || {
        loop {
            match woken.recv_timeout(policies.wait()) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            policies.turn();
            policies.judge_again();
            policies.judge(&woken);
        }
    };
    thread::Builder::new().name("policies".into()).spawn(run).map(drop)
}

/// The view that the nodes' addresses on the overlay are of, and these, each with the node's own.
type JudgedAs = (Option<Arc<View>>, Arc<[(IpAddr, IpAddr)]>);

struct Policies {
    objects: PolicyObjects,
    table: PolicyTable,
    forgetting: Option<Forgetting>,
    report: watch::Sender<Report>,
    incremental: Incremental,
    owners: Owners,
    attachments: Attachments,
    /// The pods that are attached here. What a pod's object was last stays until its DEL.
    attached: Arc<Attached>,
    /// The addresses of attachments that have no pod's name.
    nameless: Vec<IpAddr>,
    /// The objects as they were the last time, whether all pods that are attached here were known by them, and what is wrong with them.
    seen: Arc<Objects>,
    are_known: bool,
    of_objects: Arc<[Problem]>,
    judged_as: JudgedAs,
    attaching: Attaching,
    questions: Waiting,
    followed: Followed,
    /// Whether policies have been put in force since the start.
    is_in_force: bool,
    /// How many pods of this node are isolated.
    isolated: usize,
    /// Whether the kernel has refused the last change: what it has is not what is compiled.
    is_refused: bool,
    /// What changes asked for of connections that the kernel does not have yet.
    owed: Applied,
    /// What is due for connections that had begun before.
    cutting: Cutting,
    /// The socket that they are marked by.
    conntrack: Option<Socket>,
    /// Where they are listed, for what they are listed at present and what has come of it; for what they could not be, and when
    /// that is tried again.
    connections: Connections,
    listing: Option<(Restricted, podwire_kernel::Result<Judged>)>,
    unlisted: Option<(Restricted, Instant)>,
    /// Whether connections are cut, as far as it is known.
    are_cut: bool,
    /// The failure that lasts, once it is logged.
    logged: Option<String>,
    /// Why connections could not be judged.
    unjudged: Option<String>,
    /// How long nothing is done without a cause, and how long after the next failure.
    wait: Duration,
    again: Duration,
}

impl Policies {
    /// How long it is until something is due without a cause.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        // While connections are listed, that wakes.
        let judge = self.cutting.judge_due(now).filter(|_| self.listing.is_none());
        let again = self.unlisted.as_ref().map(|(_, due)| due.saturating_duration_since(now));
        self.cutting.forget_due(now).into_iter().chain(judge).chain(again).fold(self.wait, Duration::min)
    }

    /// Does all that does not wait: brings everything to what is desired now, and answers what is asked about it.
    fn turn(&mut self) {
        // Due from an earlier change: before a round, which may take long, and also where it fails.
        self.forget();
        self.bring_up();
        self.forget();
        self.questions.take().into_iter().for_each(|question| self.answer(question));
    }

    /// Brings everything to what is desired now.
    fn bring_up(&mut self) {
        let objects = self.objects.newest();
        if !objects.fail_as(&self.seen) {
            self.of_objects = of_objects(&objects).into();
        }
        let mut problems = Vec::new();
        // Until all is known nothing is enforced, and nothing that is in force is taken away.
        let done = match objects.are_complete() {
            true => self.look_for_pods(&objects).and_then(|found| {
                problems.extend(found);
                self.round(&objects)
            }),
            // Where there is no table, as after a reboot, new pods are isolated by it until all is known.
            false => self.table.prepare().map_err(|error| error.to_string()),
        };
        self.seen = objects.clone();
        let failure = done.as_ref().err();
        if let Some(failure) = failure.filter(|failure| self.logged.as_ref() != Some(failure)) {
            error!("the policies are not in force as they are: {failure}");
        }
        self.logged = failure.cloned();
        problems.extend(failure.into_iter().chain(&self.unjudged).map(not_in_force));
        problems.extend(self.table.unloggable().map(not_logged));
        if done.is_ok() && self.is_in_force {
            self.attaching.tell(|address| self.is_settled(address));
        }
        let state = PolicyState {
            in_force: done.is_ok() && self.is_in_force,
            policies: objects.policies().count(),
            cluster_policies: objects.cluster_policies().count(),
            isolated: if self.is_in_force { self.isolated } else { 0 },
            of_objects: self.of_objects.clone(),
            problems,
        };
        self.report.send_if_modified(|report| {
            let is_new = report.policies.as_ref() != Some(&state);
            report.policies = Some(state);
            is_new
        });
        (self.wait, self.again) = match done.is_ok() && self.unjudged.is_none() {
            true => (VERIFY, AGAIN),
            false => (self.again, (self.again * 2).min(VERIFY)),
        };
    }

    /// Answers a question about what is in force.
    fn answer(&self, question: impl FnOnce(Option<&Enforced<'_>>)) {
        let objects = &self.followed.objects;
        let enforced = (self.is_in_force && !self.is_refused).then(|| Enforced {
            compiled: self.incremental.compiled(),
            attached: &self.followed.attached,
            pods: objects.pods().map(|pod| &**pod).collect(),
            namespaces: self.followed.namespaces().collect(),
            policies: objects.policies().map(|policy| &**policy).collect(),
            cluster_policies: objects.cluster_policies().map(|policy| &**policy).collect(),
            service_ranges: objects.service_ranges().map(|range| &**range).collect(),
        });
        question(enforced.as_ref());
    }

    fn round(&mut self, objects: &Arc<Objects>) -> Result<(), String> {
        let is_first = !self.is_in_force;
        // Until it has succeeded.
        self.is_refused = true;
        let (changes, changed) = self.compile(objects).inspect_err(|_| self.owed.restricted = Restricted::Any)?;
        self.owe(&changes);
        self.forget();
        let soon = if changed == Changed::Attached { Soon::Gathered } else { Soon::Now };
        if changed != Changed::Owners {
            self.isolated = self.isolated();
        }
        let compiled = self.incremental.compiled();
        let failed = |error: podwire_kernel::Error| error.to_string();
        if !changes.is_empty() {
            let applied = self.table.change(&changes, compiled).map_err(failed)?;
            let owed = std::mem::take(&mut self.owed);
            self.cut_after(applied.and(owed), soon);
        }
        // What another program has changed: behind the change, which does not wait for it.
        let restored = self.table.verify(self.incremental.compiled()).map_err(failed)?;
        self.is_refused = false;
        // Of an earlier change that the kernel has refused.
        let owed = std::mem::take(&mut self.owed);
        self.cut_after(restored.and(owed), Soon::Now);
        if is_first {
            // What an earlier daemon has cut is not known.
            self.cutting.judge(Restricted::Any, Soon::Now, Instant::now());
        }
        if is_first {
            info!(policies = objects.policies().count(), pods = self.isolated, "the policies are in force");
        }
        self.is_in_force = true;
        Ok(())
    }

    /// What a change asks for is due once the kernel has it, also if that takes another attempt.
    fn owe(&mut self, changes: &Changes) {
        let (restricted, left_behind) = (changes.restricted.clone(), changes.left_behind.clone());
        self.owed = std::mem::take(&mut self.owed).and(Applied { changes: 0, restricted, left_behind });
    }

    /// Has the compiled form follow what has changed: pods one by one, policies and the pods of this node as far as peers are known by
    /// the same selectors as before, and everything else by compiling everything. Which of these it was.
    fn compile(&mut self, objects: &Arc<Objects>) -> Result<(Changes, Changed), String> {
        let node = self.report.borrow().node.clone();
        let judged_as = self.judged_as();
        let own = self.attached.values().filter_map(|(pod, _)| pod.as_deref());
        let now = Followed {
            objects: objects.clone(),
            attached: self.attached.clone(),
            without_object: recorded_pods::namespaces(objects, own),
            judged_as,
        };
        let changed = now.follows(&self.followed, &mut self.owners);
        self.followed = now;
        let Followed { judged_as, attached, .. } = &self.followed;
        let local = attached.values().filter_map(|(pod, addresses)| Some(Local { pod: pod.as_deref()?, addresses }));
        let changed = if self.incremental.stands() { changed } else { Changed::All };
        let unknown = self.unknown();
        let inputs = match changed {
            // What is not looked at is not gathered.
            Changed::Owners => Inputs { unknown, ..Inputs::default() },
            Changed::Attached | Changed::Subjects | Changed::All => Inputs {
                node: &node,
                pods: Vec::new(),
                namespaces: self.followed.namespaces().collect(),
                policies: objects.policies().map(|policy| &**policy).collect(),
                cluster_policies: objects.cluster_policies().map(|policy| &**policy).collect(),
                local: local.collect(),
                unknown,
                judged_as: judged_as.to_vec(),
            },
        };
        let (pods, owners) = (objects.pods().map(|pod| &**pod), self.owners.changed());
        let owners = owners.iter().map(|(address, pod)| (*address, pod.as_deref()));
        let changes = self.incremental.follow(changed, inputs, pods, owners).map_err(|error| {
            // What was followed before the error is not in the kernel.
            self.table.mistrust();
            error.to_string()
        })?;
        Ok((changes, changed))
    }

    /// How many pods of this node are isolated.
    fn isolated(&self) -> usize {
        let compiled = self.incremental.compiled();
        let is_isolated = |address: &IpAddr| {
            Direction::BOTH.iter().any(|direction| !compiled.isolating(*direction, *address).is_empty())
        };
        self.attached.values().filter(|(_, addresses)| addresses.iter().any(is_isolated)).count()
    }

    /// The nodes' addresses on the overlay, each with the node's own: what a node forwards arrives from the former.
    fn judged_as(&mut self) -> Arc<[(IpAddr, IpAddr)]> {
        let view = self.report.borrow().view.as_ref().and_then(|view| view.as_ref().ok()).cloned();
        if view.as_ref().map(Arc::as_ptr) != self.judged_as.0.as_ref().map(Arc::as_ptr) {
            let peers = view.iter().flat_map(|view| view.peers.values());
            let overlay = peers.flat_map(|peer| peer.pod_cidrs.iter().map(|cidr| (cidr.network(), peer.address)));
            self.judged_as = (view.clone(), overlay.collect());
        }
        self.judged_as.1.clone()
    }
}
