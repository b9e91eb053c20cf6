//! Policies in force: on a thread of its own, since a full sync may take half a second, the objects of the API and the pods that
//! are attached here are compiled and written into the kernel whenever one of them has changed.
//!
//! What may not live here: what a policy means (`policy`), and how the kernel is told (`datapath`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;
use std::{io, thread};

use podwire_attachment::ledger::{Ledger, PodName};
use podwire_conf::defaults;
use podwire_kernel::nft::Entries;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::datapath::fast_path::forgetting::Forgetting;
use crate::datapath::policy::contents::contents;
use crate::datapath::policy::table::PolicyTable;
use crate::policy::compiled::Compiled;
use crate::policy::compiler::Compiler;
use crate::policy::inputs::{Inputs, Local};
use crate::policy::network_policy::Direction;
use crate::policy::pod::Pod;
use crate::policy::rejected::Rejected;
use crate::report::Report;
use crate::report::policies::PolicyState;
use crate::report::problem::{Problem, ProblemKind};
use crate::sources::kubernetes::policy_objects::{Objects, PolicyObjects};

/// How often the kernel is checked without a cause.
const VERIFY: Duration = Duration::from_secs(30);

/// The time to the next attempt after a failure; it doubles each time, up to [`VERIFY`].
const AGAIN: Duration = Duration::from_secs(1);

/// Where the objects come from, and the wake-up that each of their changes gives.
pub(crate) struct Source {
    pub(crate) objects: PolicyObjects,
    pub(crate) wake: SyncSender<()>,
    pub(crate) woken: Receiver<()>,
}

/// Starts the thread.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(
    source: (PolicyObjects, Receiver<()>),
    table: PolicyTable,
    forgetting: Option<Forgetting>,
    report: watch::Sender<Report>,
) -> io::Result<()> {
    let (objects, woken) = source;
    let mut policies = Policies {
        objects,
        table,
        forgetting,
        report,
        compiler: Compiler::default(),
        attached: BTreeMap::new(),
        last: None,
        cut: 0,
        logged: None,
    };
    let run = move || {
        let (mut wait, mut again) = (VERIFY, AGAIN);
        while !matches!(woken.recv_timeout(wait), Err(RecvTimeoutError::Disconnected)) {
            (wait, again) = if policies.bring_up() { (VERIFY, AGAIN) } else { (again, (again * 2).min(VERIFY)) };
        }
    };
    thread::Builder::new().name("policies".into()).spawn(run).map(drop)
}

/// A pod that is attached here: what its object was last, and its addresses.
type Attached = BTreeMap<PodName, (Option<Arc<Pod>>, Vec<IpAddr>)>;

struct Policies {
    objects: PolicyObjects,
    table: PolicyTable,
    forgetting: Option<Forgetting>,
    report: watch::Sender<Report>,
    compiler: Compiler,
    /// The pods that are attached here. What a pod's object was last stays until its DEL.
    attached: Attached,
    last: Option<InForce>,
    /// How many connections are cut, as far as it is known.
    cut: usize,
    /// The failure that lasts, once it is logged.
    logged: Option<String>,
}

/// What the last round that succeeded went by, and what it has put into the kernel.
struct InForce {
    version: u64,
    attached: Attached,
    judged_as: Vec<(IpAddr, IpAddr)>,
    compiled: Compiled,
    /// How many pods of this node are isolated.
    isolated: usize,
}

fn rejected(rejected: &Rejected) -> Problem {
    Problem::new(ProblemKind::PolicyRejected, &rejected.name, format!("{rejected}: it has no effect"))
}

fn not_in_force(why: impl std::fmt::Display) -> Problem {
    let text = format!("the NetworkPolicies are not in force as they are, what was in force stays: {why}");
    Problem::general(ProblemKind::PoliciesNotInForce, text)
}

/// Attachments of which it is not known whose they are: policies do not see their pods.
fn unnamed(nameless: &[IpAddr], damaged: &[String]) -> Option<Problem> {
    let address = nameless.first();
    let why = match (address, damaged.first()) {
        (_, Some(record)) => format!(
            "{} records of the ledger cannot be read, {record} among them, and policies do not see their pods if these are new: \
             restart the pods",
            damaged.len()
        ),
        (Some(address), None) => format!(
            "the ledger has no name for {} attachments, that of {address} among them, and policies do not see their pods: they \
             were attached by an earlier podwire, or not by Kubernetes; restart the pods",
            nameless.len()
        ),
        (None, None) => return None,
    };
    Some(Problem { subject: address.map(ToString::to_string), ..not_in_force(why) })
}

impl Policies {
    /// Whether everything is as desired now.
    fn bring_up(&mut self) -> bool {
        let objects = self.objects.newest();
        let (rejected, failures) = (objects.rejected().map(rejected), objects.failures().map(not_in_force));
        let unseen =
            objects.unseen().map(|unseen| Problem { subject: Some(unseen.name.clone()), ..not_in_force(unseen) });
        let mut problems: Vec<_> = rejected.chain(failures).chain(unseen).collect();
        // Until all is known nothing is enforced, and nothing that is in force is taken away.
        let done = match objects.are_complete() {
            true => self.look_for_pods(&objects).and_then(|nameless| {
                problems.extend(nameless);
                self.round(&objects)
            }),
            false => Ok(()),
        };
        let failure = done.as_ref().err();
        if let Some(failure) = failure.filter(|failure| self.logged.as_ref() != Some(failure)) {
            error!("the policies are not in force as they are: {failure}");
        }
        self.logged = failure.cloned();
        problems.extend(failure.map(not_in_force));
        let state = PolicyState {
            in_force: done.is_ok() && self.last.is_some(),
            policies: objects.policies().count(),
            isolated: self.last.as_ref().map_or(0, |last| last.isolated),
            problems,
        };
        self.report.send_if_modified(|report| {
            let is_new = report.policies.as_ref() != Some(&state);
            report.policies = Some(state);
            is_new
        });
        done.is_ok()
    }

    fn round(&mut self, objects: &Objects) -> Result<(), String> {
        let judged_as = self.judged_as();
        let is_first = self.last.is_none();
        let same = self.last.take_if(|last| {
            (last.version, &last.attached, &last.judged_as) == (objects.version(), &self.attached, &judged_as)
        });
        let (desired, applied) = match same {
            Some(last) => (last, self.table.verify()),
            None => {
                let (desired, contents) = self.compile(objects, judged_as)?;
                (desired, self.table.set(contents))
            }
        };
        let applied = applied.map_err(|error| error.to_string())?;
        if applied.restricts
            && let Some(forgetting) = &self.forgetting
            && let Err(error) = forgetting.forget()
        {
            warn!("the fast path goes on with connections that policies refuse now, for a second: {error}");
        }
        // What may be refused by now, or is allowed again; at the start also what an earlier daemon has cut.
        if is_first || applied.restricts || (applied.changes > 0 && self.cut > 0) {
            let judged = self.table.judge(&desired.compiled).map_err(|error| error.to_string())?;
            self.cut = judged.all;
            if judged.cut + judged.resumed > 0 {
                info!(cut = judged.cut, resumed = judged.resumed, "judged connections that had begun before");
            }
        }
        if is_first {
            info!(policies = objects.policies().count(), pods = desired.isolated, "the policies are in force");
        }
        self.last = Some(desired);
        Ok(())
    }

    fn compile(
        &mut self,
        objects: &Objects,
        judged_as: Vec<(IpAddr, IpAddr)>,
    ) -> Result<(InForce, Vec<Entries>), String> {
        let local =
            self.attached.values().filter_map(|(pod, addresses)| Some(Local { pod: pod.as_deref()?, addresses }));
        let node = self.report.borrow().node.clone();
        let inputs = Inputs {
            node: &node,
            pods: objects.pods().map(|pod| &**pod).collect(),
            namespaces: objects.namespaces().map(|namespace| &**namespace).collect(),
            policies: objects.policies().map(|policy| &**policy).collect(),
            local: local.collect(),
            judged_as: judged_as.clone(),
        };
        let compiled = self.compiler.compile(&inputs).map_err(|error| error.to_string())?;
        let is_isolated = |address: &IpAddr| {
            Direction::BOTH.iter().any(|direction| compiled.matrix(*direction).subjects.contains_key(address))
        };
        let isolated = self.attached.values().filter(|(_, addresses)| addresses.iter().any(is_isolated)).count();
        let (version, attached, contents) = (objects.version(), self.attached.clone(), contents(&compiled));
        Ok((InForce { version, attached, judged_as, compiled, isolated }, contents))
    }

    /// The pods that hold addresses here, by the plugin's ledger. What is wrong with the ledger, so that policies do not see pods.
    fn look_for_pods(&mut self, objects: &Objects) -> Result<Option<Problem>, String> {
        let ledger = Ledger::of_this_boot(Path::new(defaults::RUN_DIRECTORY), defaults::NETWORK);
        let (records, damaged) = match ledger.map_err(|error| error.to_string())? {
            Some(ledger) => ledger.records().map_err(|error| error.to_string())?,
            None => Default::default(),
        };
        let mut attached = Attached::new();
        // A record that cannot be read now may be of a pod that is isolated already.
        if !damaged.is_empty() {
            attached.clone_from(&self.attached);
            attached.values_mut().for_each(|(_, addresses)| addresses.clear());
        }
        let mut nameless = Vec::new();
        for record in records {
            let addresses = record.addresses();
            match record.pod {
                Some(name) => attached.entry(name).or_default().1.extend(addresses),
                None => nameless.extend(addresses.first().copied()),
            }
        }
        for (name, (_, addresses)) in attached.iter_mut().filter(|(_, (_, addresses))| addresses.is_empty()) {
            addresses.extend(self.attached.get(name).into_iter().flat_map(|(_, before)| before));
        }
        for (name, (pod, _)) in &mut attached {
            let present = objects.pod(&name.namespace, &name.name).cloned();
            let before = || self.attached.get(name).and_then(|(pod, _)| pod.clone());
            // Another pod of the same name, which has not come here yet, or a static pod, whose UID is another one here.
            let is_same = |pod: &Arc<Pod>| *pod.uid == *name.uid || name.uid.is_empty();
            *pod = match present {
                Some(present) if is_same(&present) => Some(present),
                other => before().or(other),
            };
        }
        self.attached = attached;
        Ok(unnamed(&nameless, &damaged))
    }

    /// The nodes' addresses on the overlay, each with the node's own: what a node forwards arrives from the former.
    fn judged_as(&self) -> Vec<(IpAddr, IpAddr)> {
        let report = self.report.borrow();
        let Some(Ok(view)) = &report.view else { return Vec::new() };
        let overlay =
            view.peers.values().flat_map(|peer| peer.pod_cidrs.iter().map(|cidr| (cidr.network(), peer.address)));
        overlay.collect()
    }
}
