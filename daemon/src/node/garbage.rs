//! Garbage collection: releases what pods hold that have gone without a DEL, because a runtime was killed or has
//! forgotten a sandbox. containerd does not call GC yet.
//!
//! Whether an attachment is dead is judged in `verdict`, which is pure. Nothing is released that looks dead for the first time.
//! What may not live here: how the runtime is asked (`cri`, `cri_socket`), and how what an attachment holds is released.

mod verdict;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use podwire_attachment::error::Error;
use podwire_attachment::names::{self, Attachment};
use podwire_attachment::release::{self, Attached};
use podwire_conf::defaults;
use podwire_kernel::Socket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::node::cri::{self, Listing, Reply};
use crate::node::cri_socket::{self, CriSocket, Why};
use crate::node::garbage::verdict::{Pods, Runtime, Verdict, judge};
use crate::node::listed_sandboxes::ListedSandboxes;
use crate::report::Report;
use crate::report::container_runtime::ContainerRuntime;
use crate::report::problem::{Problem, ProblemKind};

/// Checks in the time that a pod has to look dead, and the limits of the interval between two.
const CHECKS: u32 = 4;
const CHECK_INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Pods that are named in one problem; the others are counted.
const NAMED: usize = 3;

/// The attachments that look dead or that the runtime does not list: as what they were judged last, and since when. Time under
/// one verdict does not count for another: who was not listed for an hour has not looked dead for an hour.
type Suspects = HashMap<Attachment, (Verdict, Instant)>;

/// What is kept from one check to the next.
struct State {
    suspects: Suspects,
    listed: ListedSandboxes,
    /// Whether `listed` has changed since it was written.
    unwritten: bool,
    /// Since when the runtime does not answer.
    silent: Option<Instant>,
}

impl State {
    fn new() -> Self {
        Self { suspects: Suspects::new(), listed: read_listed(), unwritten: false, silent: None }
    }
}

/// The result of one check.
#[derive(Default)]
struct CheckResult {
    released: u64,
    problems: Vec<String>,
    /// That the runtime does not answer, or does not list pods, where that has lasted.
    of_runtime: Option<Problem>,
}

/// Periodically releases what dead pods hold once they have looked dead for `after`; never when that is zero.
pub(crate) async fn run(after: Duration, socket: Option<&Path>, report: &watch::Sender<Report>) {
    if after.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = interval((after / CHECKS).clamp(CHECK_INTERVAL.0, CHECK_INTERVAL.1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = State::new();
    let (mut kept, mut logged, mut unlisted, mut asked) = (None, Vec::new(), None, None);
    loop {
        ticks.tick().await;
        let runtime = query(socket, &mut kept).await;
        log_socket(&runtime, &mut asked);
        let known = known(&runtime);
        let check = tokio::task::spawn_blocking(move || {
            let result = check(&mut state, &runtime, after);
            (state, result)
        });
        // A panic is a defect, and is reported as one; the next check starts anew.
        let result;
        (state, result) = check.await.unwrap_or_else(|error| {
            (State::new(), CheckResult { problems: vec![error.to_string()], ..CheckResult::default() })
        });
        for problem in result.problems.iter().filter(|problem| !logged.contains(*problem)) {
            warn!("{problem}");
        }
        if result.problems.is_empty() && !logged.is_empty() {
            info!("garbage collection resumed");
        }
        logged = result.problems;
        // That it does not answer is logged at once, above.
        let of_runtime = result.of_runtime.as_ref();
        log_unlisted(of_runtime.filter(|it| it.kind == ProblemKind::SandboxesUnlisted), &mut unlisted);
        let runtime = ContainerRuntime { problem: result.of_runtime, ..known };
        report.send_if_modified(|report| {
            report.released += result.released;
            let changed = result.released > 0 || report.runtime != runtime;
            report.runtime = runtime;
            changed
        });
    }
}

/// What an earlier daemon has remembered of this boot. Without it pods are kept that could be released.
fn read_listed() -> ListedSandboxes {
    ListedSandboxes::read(Path::new(defaults::RUN_DIRECTORY)).unwrap_or_else(|error| {
        warn!("{error}; which sandboxes the container runtime has listed before is learned anew");
        ListedSandboxes::default()
    })
}

/// Logs which socket is asked, and why, whenever that is another one.
fn log_socket(runtime: &Runtime, asked: &mut Option<CriSocket>) {
    let (Runtime::Silent(socket, _) | Runtime::Lists(socket, _)) = runtime else { return };
    if asked.as_ref() != Some(socket) {
        info!("the container runtime at {socket} is asked which pods are alive");
        *asked = Some(socket.clone());
    }
}

/// Logs that pods are not listed, when that begins, concerns another socket, and ends.
fn log_unlisted(problem: Option<&Problem>, logged: &mut Option<Problem>) {
    let subject = |problem: &Problem| problem.subject.clone();
    match problem {
        Some(problem) if logged.as_ref().map(subject) != Some(subject(problem)) => {
            warn!(kind = problem.kind.name(), "{problem}");
        }
        None if logged.is_some() => info!("resolved: the container runtime lists this node's pods"),
        _ => {}
    }
    *logged = problem.cloned();
}

/// What status says of a runtime.
fn known(runtime: &Runtime) -> ContainerRuntime {
    let of = |socket: &CriSocket| ContainerRuntime {
        socket: Some(socket.path.clone()),
        why: socket.why.to_string(),
        ..ContainerRuntime::default()
    };
    match runtime {
        Runtime::Absent => ContainerRuntime::default(),
        Runtime::Silent(socket, failure) => ContainerRuntime { failure: Some(failure.clone()), ..of(socket) },
        Runtime::Lists(socket, Listing { name, sandboxes }) => {
            ContainerRuntime { name: name.clone(), sandboxes: Some(sandboxes.len()), ..of(socket) }
        }
    }
}

/// Queries the runtime. One that is named must have a CRI; of those that are found the first is taken that lists sandboxes. It
/// is kept, since its socket vanishes while it restarts, until it turns out to have no CRI. While one before it is silent it is
/// asked in its place and not kept: the other may be starting still, or have left nothing but its socket.
async fn query(set: Option<&Path>, kept: &mut Option<PathBuf>) -> Runtime {
    let candidates = cri_socket::candidates(set);
    let is_found = candidates.iter().all(|socket| socket.why == Why::Found);
    if let Some(path) = kept.take_if(|_| is_found) {
        let runtime = ask(CriSocket { path: path.clone(), why: Why::Found }).await;
        if runtime != Runtime::Absent {
            *kept = Some(path);
            return runtime;
        }
    }
    let mut silent = None;
    for socket in candidates {
        let path = socket.path.clone();
        match ask(socket).await {
            Runtime::Absent => {}
            runtime @ Runtime::Silent(..) => _ = silent.get_or_insert(runtime),
            runtime @ Runtime::Lists(..) => {
                *kept = (is_found && silent.is_none()).then_some(path);
                return runtime;
            }
        }
    }
    silent.unwrap_or(Runtime::Absent)
}

/// Asks the runtime at a socket; there is none where one that was found has no CRI.
async fn ask(socket: CriSocket) -> Runtime {
    match cri::list_sandboxes(&socket.path).await {
        Ok(Reply::Listing(listing)) => Runtime::Lists(socket, listing),
        Ok(Reply::NoCri) if socket.why == Why::Found => Runtime::Absent,
        Ok(Reply::NoCri) => {
            let why = format!("the container runtime at {socket} has no CRI");
            Runtime::Silent(socket, why)
        }
        Err(error) => Runtime::Silent(socket, error.to_string()),
    }
}

/// Judges every attachment, and releases those that have looked dead for long enough.
fn check(state: &mut State, runtime: &Runtime, after: Duration) -> CheckResult {
    let mut result = CheckResult::default();
    let suspects = std::mem::take(&mut state.suspects);
    if let Runtime::Silent(socket, why) = runtime {
        result.problems.push(format!("{why}; garbage collection is paused"));
        let since = *state.silent.get_or_insert_with(Instant::now);
        // A runtime that restarts is back by then.
        result.of_runtime = (since.elapsed() >= after).then(|| silent_problem(socket, why));
        return result;
    }
    state.silent = None;
    let directory = Path::new(defaults::RUN_DIRECTORY);
    let listed = Socket::route().map_err(Error::from).and_then(|mut host| {
        let attached = release::attachments(directory, &mut host)?;
        Ok((attached, host))
    });
    let (all, mut host) = match listed {
        Ok(listed) => listed,
        Err(failure) => {
            result.problems.push(format!("check for what dead pods hold: {failure}"));
            return result;
        }
    };
    let mut pods = Pods { listed: 0, all: 0 };
    if let Runtime::Lists(socket, listing) = runtime {
        pods = Pods::count(&all, listing);
        result.problems.extend(remember(state, &all, socket, listing, directory));
    }
    let (now, mut unlisted) = (Instant::now(), Vec::new());
    for attached in &all {
        let attachment = &attached.record.attachment;
        let verdict = judge(attached, runtime, &state.listed, pods, after);
        let since = suspects.get(attachment).filter(|(before, _)| *before == verdict).map_or(now, |(_, since)| *since);
        match verdict {
            Verdict::Alive => continue,
            Verdict::Unlisted { for_at_least } => {
                unlisted.extend((now.duration_since(since) >= for_at_least).then_some(attachment));
            }
            Verdict::Dead { why, for_at_least } if now.duration_since(since) >= for_at_least => {
                match release::release(directory, attached, &mut host) {
                    Ok(true) => {
                        result.released += 1;
                        info!("released {}: {why}", describe(attached));
                        continue;
                    }
                    // It is being attached or detached, or has changed: it is judged anew.
                    Ok(false) => continue,
                    Err(failure) => result.problems.push(format!("release {}: {failure}", describe(attached))),
                }
            }
            Verdict::Dead { .. } => {}
        }
        state.suspects.insert(attachment.clone(), (verdict, since));
    }
    if let Runtime::Lists(socket, listing) = runtime {
        // In an order of their own: the ledger's changes.
        unlisted.sort_by_key(|attachment| &attachment.container);
        result.of_runtime = unlisted_problem(&unlisted, pods, socket, listing);
    }
    result
}

/// Remembers what a runtime lists, on disk too where that has changed.
fn remember(
    state: &mut State,
    all: &[Attached],
    socket: &CriSocket,
    listing: &Listing,
    directory: &Path,
) -> Option<String> {
    let attached: HashSet<_> = all.iter().map(|attached| attached.record.attachment.container.as_str()).collect();
    let before = state.listed.clone();
    state.listed.enter(&socket.path, listing, &attached);
    state.unwritten |= state.listed != before;
    if !state.unwritten {
        return None;
    }
    let written = state.listed.write(directory);
    state.unwritten = written.is_err();
    written.err().map(|error| format!("{error}; after a restart podwired knows less of which pods are dead"))
}

/// That a runtime does not list pods of this node, and has not for long.
fn unlisted_problem(unlisted: &[&Attachment], pods: Pods, socket: &CriSocket, listing: &Listing) -> Option<Problem> {
    if unlisted.is_empty() {
        return None;
    }
    let name = |attachment: &&Attachment| format!("{} ({})", attachment.container, names::host_device(attachment));
    let mut named: Vec<_> = unlisted.iter().take(NAMED).map(name).collect();
    if unlisted.len() > NAMED {
        named.push(format!("{} more", unlisted.len() - NAMED));
    }
    let runtime = if listing.name.is_empty() { "the container runtime" } else { listing.name.as_str() };
    let count = listing.sandboxes.len();
    let what = match pods.are_unknown() {
        true => format!("none of this node's {} pods", pods.all),
        false => format!("not these of this node's {} pods", pods.all),
    };
    let text = format!(
        "{runtime} at {socket} lists {count} sandboxes, and {what}: {}. They are kept, whether they are alive or not: set \
         --cri-socket to the socket of the runtime that runs them",
        named.join(", ")
    );
    Some(Problem::new(ProblemKind::SandboxesUnlisted, socket.path.display().to_string(), text))
}

fn silent_problem(socket: &CriSocket, why: &str) -> Problem {
    let text = format!(
        "the container runtime at {socket} does not say which pods are alive ({why}): what dead pods hold is not released. \
         Start it, or set --cri-socket to the socket of the runtime that runs them"
    );
    Problem::new(ProblemKind::RuntimeSilent, socket.path.display().to_string(), text)
}

/// An attachment and what it holds, for people.
pub(crate) fn describe(attached: &Attached) -> String {
    let Attachment { network, container, interface } = &attached.record.attachment;
    let addresses: Vec<_> = attached.record.addresses().iter().map(ToString::to_string).collect();
    format!("{} of container {container} ({interface}, network {network})", addresses.join(" and "))
}

#[cfg(test)]
mod tests {
    use podwire_attachment::ledger::Record;

    use super::*;

    fn attachment(container: &str) -> Attachment {
        Attachment { network: "podwire".into(), container: container.into(), interface: "eth0".into() }
    }

    #[test]
    fn an_attachment_is_described_by_what_it_holds() {
        let record = serde_json::json!({
            "attachment": {"network": "podwire", "container": "abc", "interface": "eth0"},
            "addresses": [{"address": "10.244.1.2", "set": "0"}, {"address": "fd00::2", "set": "1"}],
        });
        let attached = Attached { record: serde_json::from_value::<Record>(record).unwrap(), has_device: false };
        assert_eq!(describe(&attached), "10.244.1.2 and fd00::2 of container abc (eth0, network podwire)");
    }

    #[test]
    fn pods_that_are_not_listed_are_a_problem_that_names_socket_reason_and_pods() {
        let socket = CriSocket { path: "/run/a.sock".into(), why: Why::Set };
        let listing = Listing { name: "containerd".into(), sandboxes: HashSet::from(["x".to_owned()]) };
        let pods = Pods { listed: 0, all: 5 };
        assert_eq!(unlisted_problem(&[], pods, &socket, &listing), None);
        let all: Vec<_> = ["a", "b", "c", "d", "e"].map(attachment).into();
        let problem = unlisted_problem(&all.iter().collect::<Vec<_>>(), pods, &socket, &listing).unwrap();
        let start =
            "containerd at /run/a.sock (as --cri-socket says) lists 1 sandboxes, and none of this node's 5 pods: a (pw";
        assert!(problem.text.starts_with(start) && problem.text.contains("), 2 more. They are kept"), "{problem}");
        assert_eq!(problem.subject.as_deref(), Some("/run/a.sock"));
        let some = unlisted_problem(&[&all[0]], Pods { listed: 4, all: 5 }, &socket, &Listing::default()).unwrap();
        assert!(some.text.starts_with("the container runtime at "), "{some}");
        assert!(some.text.contains("and not these of this node's 5 pods: a (pw"), "{some}");
    }
}
