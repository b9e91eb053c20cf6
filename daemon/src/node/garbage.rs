//! Pods that have gone without a word to the plugin: a runtime that was killed, a sandbox that it has forgotten. What they
//! hold is released, by the plugin's own code. containerd does not call GC yet, so nobody else does it.
//!
//! `judge` is pure. Nothing is released that looks dead for the first time, or that cannot be judged.

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

use crate::node::cri::{self, Answer};
use crate::report::Report;

/// A pod whose device is there may be one that the runtime is still starting: it is on the runtime's list only when its
/// first container runs. kubelet gives up on that after four minutes, so such a pod has to look dead this many times longer:
/// five minutes by default.
const LONGER_WITH_DEVICE: u32 = 5;

/// Looks in the time that a pod has to look dead, and the limits of the time between two.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What the container runtime says of its sandboxes.
#[derive(Debug, PartialEq, Eq)]
enum Runtime {
    /// There is none with a CRI: what the kernel has decides.
    Absent,
    /// There is one, and it does not answer.
    Silent(String),
    /// The ids of its sandboxes.
    Knows(HashSet<String>),
}

/// Why an attachment looks dead, and how long it has to.
#[derive(Debug, PartialEq, Eq)]
struct Dead {
    why: &'static str,
    for_at_least: Duration,
}

/// Whether an attachment looks dead; `None` as well when that cannot be told.
fn judge(attached: &Attached, runtime: &Runtime, after: Duration) -> Option<Dead> {
    let Attached { record, has_device } = attached;
    match runtime {
        Runtime::Silent(_) => None,
        // Stopped or running, the runtime will say DEL when it removes it.
        Runtime::Knows(sandboxes) if sandboxes.contains(&record.attachment.container) => None,
        _ if !has_device => Some(Dead { why: "its device is gone", for_at_least: after }),
        Runtime::Knows(_) if record.sandbox => {
            Some(Dead { why: "the container runtime does not know it", for_at_least: after * LONGER_WITH_DEVICE })
        }
        // Podman's, or somebody's who calls the plugin by hand: it lives as long as its device.
        _ => None,
    }
}

/// The attachments that look dead, each since when.
type Suspects = HashMap<Attachment, Instant>;

/// What a look has come to.
#[derive(Default)]
struct Outcome {
    suspects: Suspects,
    released: u64,
    problems: Vec<String>,
}

/// Releases what dead pods hold, again and again, when they have looked dead for so long; never, where that is no time.
pub(crate) async fn run(after: Duration, socket: Option<&Path>, report: &watch::Sender<Report>) {
    if after.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = interval((after / LOOKS).clamp(BETWEEN_LOOKS.0, BETWEEN_LOOKS.1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut found = None;
    let (mut suspects, mut told) = (Suspects::new(), Vec::new());
    loop {
        ticks.tick().await;
        let runtime = match socket {
            Some(named) => ask(named, true).await,
            None => {
                // One that was there once will be back: its socket goes while it is restarted.
                found = found.or_else(|| cri::SOCKETS.into_iter().map(Path::new).find(|socket| socket.exists()));
                match found {
                    Some(found) => ask(found, false).await,
                    None => Runtime::Absent,
                }
            }
        };
        let look = tokio::task::spawn_blocking(move || look(&suspects, &runtime, after));
        // A panic is a defect, and is told as one; the next look begins anew.
        let outcome =
            look.await.unwrap_or_else(|error| Outcome { problems: vec![error.to_string()], ..Outcome::default() });
        suspects = outcome.suspects;
        for problem in outcome.problems.iter().filter(|problem| !told.contains(*problem)) {
            warn!("{problem}");
        }
        if outcome.problems.is_empty() && !told.is_empty() {
            info!("what dead pods hold is released again");
        }
        told = outcome.problems;
        report.send_if_modified(|report| {
            report.released += outcome.released;
            outcome.released > 0
        });
    }
}

/// Asks the runtime. One that somebody has named has a CRI; one that was found may have none.
async fn ask(socket: &Path, named: bool) -> Runtime {
    match cri::ask(socket).await {
        Ok(Answer::Sandboxes(sandboxes)) => Runtime::Knows(sandboxes),
        Ok(Answer::NoCri) if !named => Runtime::Absent,
        Ok(Answer::NoCri) => Runtime::Silent(format!("the container runtime at {} has no CRI", socket.display())),
        Err(why) => Runtime::Silent(why),
    }
}

/// Judges every attachment, and releases those that have looked dead for long enough.
fn look(suspects: &Suspects, runtime: &Runtime, after: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    if let Runtime::Silent(why) = runtime {
        outcome.problems.push(format!("{why}; what dead pods hold is not released meanwhile"));
        return outcome;
    }
    let state = Path::new(defaults::RUN_DIRECTORY);
    let listed = Socket::route().map_err(Error::from).and_then(|mut host| {
        let attached = release::attachments(state, &mut host)?;
        Ok((attached, host))
    });
    let (attached, mut host) = match listed {
        Ok(listed) => listed,
        Err(failure) => {
            outcome.problems.push(format!("look for what dead pods hold: {failure}"));
            return outcome;
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
                    outcome.released += 1;
                    info!("released {}: {}", describe(&attached), dead.why);
                    continue;
                }
                // It is being attached or detached right now, or is not any more what it was: it is looked at anew.
                Ok(false) => continue,
                Err(failure) => outcome.problems.push(format!("release {}: {failure}", describe(&attached))),
            }
        }
        outcome.suspects.insert(attachment.clone(), since);
    }
    outcome
}

/// An attachment and what it holds, for humans.
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
    fn what_the_runtime_knows_or_does_not_tell_is_alive_and_what_it_has_forgotten_is_given_time() {
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
