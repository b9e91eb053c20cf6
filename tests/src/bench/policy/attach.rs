//! ADD that returns once the pod's policies are in force, beside one that does not ask for them, on the same node and in turn.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::{self, NODE, Size};
use super::stage::Stage;
use crate::daemon::plan;
use crate::statistics::Summary;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::wire;

/// The API tells of a pod before a runtime is told to attach it: some time is between.
const AHEAD: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Attach {
    /// Policies of the cluster; those of the pod's namespace select it.
    pub(crate) policies: u32,
    /// ADD that does not ask.
    pub(crate) without: Summary,
    /// ADD that asks.
    pub(crate) with: Summary,
}

/// Attaches and detaches pods, in turn.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(size: Size, rounds: u32, podwired: &Path, shared: &Path) -> Result<Attach, String> {
    let stage = Stage::new(size, podwired, &shared.join("attach"))?;
    stage.put_in_force()?;
    let mut times = [Vec::new(), Vec::new()];
    let turns = (0..rounds).flat_map(|round| crate::race::turn(round as usize, 2));
    for (number, place) in (0..).zip(turns) {
        times[place].push(attach(&stage, number, &stage.configurations[place])?);
    }
    let of = |times: &[Duration]| Summary::of(times).ok_or("nothing was attached");
    let [without, with] = times;
    Ok(Attach { policies: size.policies, without: of(&without)?, with: of(&with)? })
}

/// One pod, whose object is known: how long its ADD takes. It is detached again.
fn attach(stage: &Stage, number: u32, configuration: &Value) -> Result<Duration, String> {
    let (namespace, name) = ("team-0", format!("late-{number}"));
    let labels = json!({"app": "app-3", "group": "hub"});
    let object = cluster::pod(namespace, &name, &plan::name(NODE), &labels, &[]);
    stage.api.tell("pods", "ADDED", &object)?;
    std::thread::sleep(AHEAD);
    let (host, path) = stage.host.pod(&name)?;
    wire::set_up(&host, "lo")?;
    let uid = cluster::uid(&name);
    let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}");
    let call = |verb| Call::new(verb, &name, &path, configuration).with("CNI_ARGS", &arguments).execute(&stage.host);
    let added = call("ADD")?;
    let took = added.took;
    added.result().map_err(|why| format!("ADD of {name}: {why}"))?;
    call("DEL")?.result().map_err(|why| format!("DEL of {name}: {why}"))?;
    stage.api.tell("pods", "DELETED", &object)?;
    Ok(took)
}
