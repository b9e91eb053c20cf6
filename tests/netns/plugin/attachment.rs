//! What scenes of the plugin look at: all that an attachment is made of, in the kernel and on the disk, as one value.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{Outcome, check, same, state};
use serde_json::{Value, json};

/// Where the plugin keeps what it knows.
pub(crate) const STATE: &str = "/run/podwire";

/// The network of a node and of its pods, and what the ledger holds there.
pub(crate) fn snapshot(node: &Host, pods: &[&Host]) -> Outcome<Value> {
    let mut world = json!({"the node": state(node)?, "the ledger": ledger(node)});
    for pod in pods {
        world[&pod.name] = state(pod)?;
    }
    Ok(world)
}

/// That a call changes nothing of a node and its pods; its answer.
#[track_caller]
pub(crate) fn unchanged(what: &str, node: &Host, pods: &[&Host], call: &Call) -> Outcome<Answer> {
    let before = snapshot(node, pods)?;
    let answer = call.execute(node)?;
    same(&format!("{what}: {}{}", answer.output, answer.log), &before, &snapshot(node, pods)?)?;
    Ok(answer)
}

/// Every file of the ledger that says who holds what, with its content.
pub(crate) fn ledger(node: &Host) -> Value {
    /// These say nothing: order, locks, the boot, how long it took, the daemon's own.
    const MEANS: [&str; 7] = ["free", "turns", "lock", "boot", "durations", "podwired.lock", "podwired.sock"];
    let listed = node.enter(|| list(Path::new(STATE)));
    let held = listed.into_iter().filter(|path| !path.iter().any(|part| MEANS.iter().any(|means| part == *means)));
    let content = |path: &Path| match fs::read_link(path) {
        Ok(target) => target.display().to_string(),
        // One that goes at this moment: the daemon releases what dead pods hold.
        Err(_) => String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned(),
    };
    node.enter(|| held.map(|path| (path.display().to_string(), Value::from(content(&path)))).collect())
}

/// Every file below a directory.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap());
    let of = |entry: fs::DirEntry| {
        if entry.file_type().unwrap().is_dir() { list(&entry.path()) } else { vec![entry.path()] }
    };
    let mut paths: Vec<_> = entries.flat_map(of).collect();
    paths.sort();
    paths
}

/// The addresses of a result, in its order.
pub(crate) fn addresses(result: &Value) -> Outcome<Vec<IpAddr>> {
    let one = |entry: &Value| {
        let text = entry["address"].as_str().unwrap_or_default();
        text.split('/').next().unwrap_or_default().parse().map_err(|error| format!("{error}: {result}"))
    };
    result["ips"].as_array().into_iter().flatten().map(one).collect()
}

/// The name of the device on the host in a result.
pub(crate) fn host_device(result: &Value) -> String {
    result["interfaces"][0]["name"].as_str().unwrap_or_default().to_owned()
}

/// The same configuration with another value in one place, as in `/ipam/ranges` (RFC 6901).
pub(crate) fn changed(configuration: &Value, place: &str, value: Value) -> Value {
    let mut changed = configuration.clone();
    match changed.pointer_mut(place) {
        Some(found) => *found = value,
        None => {
            let (parent, key) = place.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value;
        }
    }
    changed
}

/// That a call fails with a code and a message that contains `text`.
#[track_caller]
pub(crate) fn fails(answer: &Answer, code: u64, text: &str) -> Outcome {
    let (found, message) = answer.failure()?;
    check(found == code && message.contains(text), || format!("not {code} {text:?}: {}", answer.output))
}
