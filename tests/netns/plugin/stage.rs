//! How the scenes of the plugin begin: a host without a daemon, a pod on it, a configuration as a user writes it.

use std::path::Path;
use std::thread;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::Outcome;
use podwire_tests::lab::{Lab, wire};
use serde_json::{Value, json};

use super::attachment::changed;

/// A configuration as a user without a daemon writes it.
pub(crate) fn alone(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "net", "type": "podwire", "mtu": 1400,
        "ipam": {
            "ranges": [[{"subnet": "10.7.0.0/28"}], [{"subnet": "fd00:7::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    })
}

/// A host and a pod on it, with no daemon.
pub(crate) fn bare(lab: &Lab, name: &str) -> Outcome<(Host, Host, std::path::PathBuf)> {
    let host = lab.nodes[0].host.clone();
    let (pod, path) = host.pod(name)?;
    wire::set_up(&pod, "lo")?;
    Ok((host, pod, path))
}

/// The ledger's records and claims.
pub(crate) fn held(host: &Host) -> Vec<String> {
    let list = |directory: &str| {
        let entries = std::fs::read_dir(Path::new("/run/podwire/net").join(directory)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    host.enter(|| [list("attachments"), list("pending"), list("claims")].concat())
}

/// All calls at once; their answers in the same order.
pub(crate) fn at_once(host: &Host, calls: &[Call]) -> Outcome<Vec<Answer>> {
    thread::scope(|scope| {
        let running: Vec<_> = calls.iter().map(|call| scope.spawn(|| call.execute(host))).collect();
        running.into_iter().map(|call| call.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    })
}

/// A host on which an ADD has been already: what the first one makes for all is there.
pub(crate) fn warm(host: &Host, path: &Path) -> Outcome {
    let add = Call::new("ADD", "warm", path, &alone("1.0.0"));
    add.execute(host)?.result()?;
    add.verb("DEL").execute(host)?.silent()
}

/// The configuration with other ranges.
pub(crate) fn ranges(ranges: Value) -> Value {
    changed(&alone("1.1.0"), "/ipam/ranges", ranges)
}

/// A setting of the kernel's network.
pub(crate) fn setting(host: &Host, path: &str) -> Outcome<String> {
    host.run("cat", &[&format!("/proc/sys/net/{path}")])
}
