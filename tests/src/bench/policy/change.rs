//! One pod that comes to another node and goes, beside many policies: from the event on the daemon's connection to the commit.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::{self, Size};
use super::generations::Generations;
use super::stage::Stage;
use crate::daemon::plan;
use crate::statistics::Summary;

/// Of so many pods of each sort it is looked at whether they are what was committed.
const LOOKED_AT: u32 = 10;

/// The changes are as many rounds, of each of which 99 of 100 are looked at.
pub(crate) const ROUNDS: usize = 5;

/// Between two events: each is measured alone.
const PAUSE: Duration = Duration::from_millis(5);

/// What is measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Change {
    /// Policies of the cluster.
    pub(crate) policies: u32,
    /// Pods of the cluster.
    pub(crate) pods: u32,
    /// A pod comes whose labels others have.
    pub(crate) known: Summary,
    /// A pod comes whose labels nobody else has in its namespace: what it may do is written too.
    pub(crate) new: Summary,
    /// One goes, of either sort.
    pub(crate) gone: Summary,
}

/// Lets pods come and go one by one.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(size: Size, changes: u32, podwired: &Path, shared: &Path) -> Result<Change, String> {
    let stage = Stage::new(size, podwired, &shared.join("change"))?;
    stage.put_in_force()?;
    thread::sleep(Duration::from_secs(2));
    let mut generations = Generations::of(&stage.host)?;
    let (mut known, mut new, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..changes {
        for (times, pod) in [(&mut known, as_others(size, number)), (&mut new, of_its_own(size, number))] {
            times.push(tell(&stage, &mut generations, "ADDED", &pod)?);
            if number < LOOKED_AT {
                is_known(&stage, &pod, true)?;
            }
            gone.push(tell(&stage, &mut generations, "DELETED", &pod)?);
            if number < LOOKED_AT {
                is_known(&stage, &pod, false)?;
            }
        }
    }
    let of = |times: &[Duration]| Summary::of_rounds(times, ROUNDS).ok_or("no pod came");
    Ok(Change { policies: size.policies, pods: size.pods, known: of(&known)?, new: of(&new)?, gone: of(&gone)? })
}

/// How long an event of a pod takes until it is in force.
fn tell(stage: &Stage, generations: &mut Generations, what: &str, pod: &Value) -> Result<Duration, String> {
    thread::sleep(PAUSE);
    let before = generations.quiet()?;
    let start: Instant = stage.api.tell("pods", what, pod)?;
    Ok(generations.wait_after(before)? - start)
}

/// That what was committed was this: the pod has a class now, or none any more.
fn is_known(stage: &Stage, pod: &Value, wanted: bool) -> Result<(), String> {
    let address = address(pod)?;
    let element = format!("{{ {address} }}");
    let found = stage.host.run("nft", &["get", "element", "inet", "podwire-policy", "peers6", &element]);
    match found.is_ok() == wanted {
        true => Ok(()),
        false => Err(format!("{address} is in peers6: {}, and should: {wanted}", found.is_ok())),
    }
}

/// The second address of a pod: no four bytes of something else are taken for it.
pub(super) fn address(pod: &Value) -> Result<IpAddr, String> {
    let text = pod["status"]["podIPs"][1]["ip"].as_str().unwrap_or_default();
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// A client like some that are there.
pub(super) fn as_others(size: Size, number: u32) -> Value {
    pod(size, 2 * number, "team-7", &json!({"app": "app-0", "tier": "tier-1", "client": "yes"}))
}

/// A client of a namespace and an application of which there is none.
fn of_its_own(size: Size, number: u32) -> Value {
    let (namespace, app) = (number % 7, number / 7 % cluster::APPS);
    let labels = json!({"app": format!("app-{app}"), "tier": "tier-0", "client": "yes"});
    pod(size, 2 * number + 1, &format!("team-{namespace}"), &labels)
}

fn pod(size: Size, number: u32, namespace: &str, labels: &Value) -> Value {
    let (four, six) = cluster::addresses(size.pods + number, size.nodes);
    let (name, node) = (format!("new-{number}"), plan::name(cluster::NODE + 1));
    cluster::pod(namespace, &name, &node, labels, &[four.to_string(), six.to_string()])
}
