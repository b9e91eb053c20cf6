//! Garbage collection: releases what pods hold that have gone without a DEL, because a runtime was killed or has
//! forgotten a sandbox. containerd does not call GC yet.
//!
//! `judge` is pure. Nothing is released that looks dead for the first time, or whose state is not known.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use podwire_attachment::error::Error;
use podwire_attachment::names::Attachment;
use podwire_attachment::release::{self, Attached};
use podwire_conf::defaults;
use podwire_kernel::Socket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::node::cri::{self, Reply};
use crate::report::Report;

/// A pod with a device may be one that the runtime is still starting: it is on the runtime's list only when its sandbox
/// runs. kubelet gives up on that after four minutes, so such a pod has to look dead this many times longer: five
/// minutes by default.
const LONGER_WITH_DEVICE: u32 = 5;

/// Checks in the time that a pod has to look dead, and the limits of the interval between two.
const CHECKS: u32 = 4;
const CHECK_INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The sandboxes of the container runtime.
#[derive(Debug, PartialEq, Eq)]
enum Runtime {
    /// There is no runtime with a CRI: the pod's device decides.
    Absent,
    /// The runtime does not reply.
    Silent(String),
    /// The ids of its sandboxes.
    Knows(HashSet<String>),
}

/// Why an attachment looks dead, and for how long it has to.
#[derive(Debug, PartialEq, Eq)]
struct Dead {
    why: &'static str,
    for_at_least: Duration,
}

/// Whether an attachment looks dead; `None` as well when that is not known.
fn judge(attached: &Attached, runtime: &Runtime, after: Duration) -> Option<Dead> {
    let Attached { record, has_device } = attached;
    match runtime {
        Runtime::Silent(_) => None,
        // Stopped or running, the runtime will call DEL when it removes it.
        Runtime::Knows(sandboxes) if sandboxes.contains(&record.attachment.container) => None,
        _ if !has_device => Some(Dead { why: "its device is gone", for_at_least: after }),
        Runtime::Knows(_) if record.sandbox => {
            Some(Dead { why: "the container runtime does not know it", for_at_least: after * LONGER_WITH_DEVICE })
        }
        // Podman's, or of a manual call of the plugin: it lives as long as its device.
        _ => None,
    }
}

/// The attachments that look dead, and since when.
type Suspects = HashMap<Attachment, Instant>;

/// The result of one check.
#[derive(Default)]
struct CheckResult {
    suspects: Suspects,
    released: u64,
    problems: Vec<String>,
}

/// Periodically releases what dead pods hold once they have looked dead for `after`; never when that is zero.
pub(crate) async fn run(after: Duration, socket: Option<&Path>, report: &watch::Sender<Report>) {
    if after.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = interval((after / CHECKS).clamp(CHECK_INTERVAL.0, CHECK_INTERVAL.1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut found = None;
    let (mut suspects, mut logged) = (Suspects::new(), Vec::new());
    loop {
        ticks.tick().await;
        let runtime = match socket {
            Some(named) => query(named, true).await,
            None => {
                // A socket that was found once is kept: it vanishes while the runtime restarts.
                found = found.or_else(|| cri::SOCKETS.into_iter().map(Path::new).find(|socket| socket.exists()));
                match found {
                    Some(found) => query(found, false).await,
                    None => Runtime::Absent,
                }
            }
        };
        let check = tokio::task::spawn_blocking(move || check(&suspects, &runtime, after));
        // A panic is a defect, and is reported as one; the next check starts anew.
        let result = check
            .await
            .unwrap_or_else(|error| CheckResult { problems: vec![error.to_string()], ..CheckResult::default() });
        suspects = result.suspects;
        for problem in result.problems.iter().filter(|problem| !logged.contains(*problem)) {
            warn!("{problem}");
        }
        if result.problems.is_empty() && !logged.is_empty() {
            info!("garbage collection resumed");
        }
        logged = result.problems;
        report.send_if_modified(|report| {
            report.released += result.released;
            result.released > 0
        });
    }
}

/// Queries the runtime. One that was configured must have a CRI; one that was found may have none.
async fn query(socket: &Path, named: bool) -> Runtime {
    match cri::list_sandboxes(socket).await {
        Ok(Reply::Sandboxes(sandboxes)) => Runtime::Knows(sandboxes),
        Ok(Reply::NoCri) if !named => Runtime::Absent,
        Ok(Reply::NoCri) => Runtime::Silent(format!("the container runtime at {} has no CRI", socket.display())),
        Err(error) => Runtime::Silent(error.to_string()),
    }
}

/// Judges every attachment, and releases those that have looked dead for long enough.
fn check(suspects: &Suspects, runtime: &Runtime, after: Duration) -> CheckResult {
    let mut result = CheckResult::default();
    if let Runtime::Silent(why) = runtime {
        result.problems.push(format!("{why}; garbage collection is paused"));
        return result;
    }
    let state = Path::new(defaults::RUN_DIRECTORY);
    let listed = Socket::route().map_err(Error::from).and_then(|mut host| {
        let attached = release::attachments(state, &mut host)?;
        Ok((attached, host))
    });
    let (attached, mut host) = match listed {
        Ok(listed) => listed,
        Err(failure) => {
            result.problems.push(format!("check for what dead pods hold: {failure}"));
            return result;
        }
    };
    let now = Instant::now();
    for attached in attached {
        let Some(dead) = judge(&attached, runtime, after) else { continue };
        let attachment = &attached.record.attachment;
        let since = suspects.get(attachment).copied().unwrap_or(now);
        if now.duration_since(since) >= dead.for_at_least {
            match release::release(state, &attached, &mut host) {
                Ok(true) => {
                    result.released += 1;
                    info!("released {}: {}", describe(&attached), dead.why);
                    continue;
                }
                // It is being attached or detached, or has changed: it is judged anew.
                Ok(false) => continue,
                Err(failure) => result.problems.push(format!("release {}: {failure}", describe(&attached))),
            }
        }
        result.suspects.insert(attachment.clone(), since);
    }
    result
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

    fn attached(container: &str, sandbox: bool, has_device: bool) -> Attached {
        let record = serde_json::json!({
            "attachment": {"network": "podwire", "container": container, "interface": "eth0"},
            "addresses": [{"address": "10.244.1.2", "set": "0"}, {"address": "fd00::2", "set": "1"}],
            "sandbox": sandbox,
        });
        Attached { record: serde_json::from_value::<Record>(record).unwrap(), has_device }
    }

    #[test]
    fn a_pod_that_the_runtime_may_know_is_alive_and_a_forgotten_one_is_given_time() {
        let after = Duration::from_secs(60);
        let (knows, silent) = (Runtime::Knows(HashSet::from(["known".to_owned()])), Runtime::Silent("why".into()));
        let seconds = |container, sandbox, device, runtime: &Runtime| {
            judge(&attached(container, sandbox, device), runtime, after).map(|dead| dead.for_at_least.as_secs())
        };
        for (sandbox, device) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(seconds("known", sandbox, device, &knows), None);
            assert_eq!(seconds("gone", sandbox, device, &silent), None);
            assert_eq!(seconds("gone", sandbox, device, &Runtime::Absent), (!device).then_some(60));
        }
        assert_eq!(seconds("gone", true, true, &knows), Some(300));
        assert_eq!(seconds("gone", true, false, &knows), Some(60));
        assert_eq!(seconds("podmans", false, true, &knows), None);
        assert_eq!(seconds("podmans", false, false, &knows), Some(60));
    }

    #[test]
    fn an_attachment_is_described_by_what_it_holds() {
        let described = describe(&attached("abc", true, false));
        assert_eq!(described, "10.244.1.2 and fd00::2 of container abc (eth0, network podwire)");
    }
}
