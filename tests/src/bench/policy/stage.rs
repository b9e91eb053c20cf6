//! A node with its pods, its daemon, and the API that it follows; all the daemon knows but the namespaces, so nothing is in force
//! before they are given.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::CONFLISTS;
use podwire_tests::lab::runtime::{self, Call};
use podwire_tests::lab::wire;
use serde_json::Value;

use super::api::{Api, KUBECONFIG};
use super::cluster::{self, NODE, Size};
use crate::daemon::layout;
use crate::daemon::plan;
use crate::daemon::program::Podwired;

const SETTINGS: &str = "cluster_cidrs = [\"10.0.0.0/8\", \"fd00:10::/48\"]\nnetwork_policy = true\n";
const NO_FAST_PATH: &str = "fast_path = false\n";

/// What came of the pods and of the daemon's start is over by then.
const REST: Duration = Duration::from_secs(1);

/// The node.
#[derive(Debug)]
pub(crate) struct Stage {
    _switch: Host,
    pub(crate) host: Host,
    pub(crate) api: Api,
    pub(crate) daemon: Podwired,
    /// Its pods, by their numbers.
    pub(crate) pods: Vec<Pod>,
    /// What the plugin is called with: by a daemon without policies, and by one with them.
    pub(crate) configurations: [Value; 2],
}

/// A pod of the node.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) host: Host,
    /// IPv4 and IPv6.
    pub(crate) addresses: Vec<String>,
}

impl Stage {
    /// Starts the daemon, attaches the pods, and gives out all but the namespaces.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn new(size: Size, podwired: &Path, directory: &Path) -> Result<Self, String> {
        Self::with(size, true, podwired, directory)
    }

    /// The same with the fast path, or without it.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn with(size: Size, fast_path: bool, podwired: &Path, directory: &Path) -> Result<Self, String> {
        let (switch, host) = layout::lonely("node", NODE, directory)?;
        host.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        let api = Api::start(&host)?;
        api.give("nodes", cluster::nodes(size));
        let settings = [SETTINGS, if fast_path { "" } else { NO_FAST_PATH }].concat();
        let daemon = Podwired::start_following(podwired, &host, &plan::name(NODE), &settings, KUBECONFIG)?;
        daemon.wait_for("ready: ")?;
        let asking = runtime::configuration(&host, CONFLISTS)?;
        let mut configuration = asking.clone();
        // Nothing is in force before all is given out: an ADD that asked for that would wait in vain.
        configuration.as_object_mut().and_then(|section| section.remove("networkPolicy"));
        let pods: Vec<_> =
            (0..cluster::OWN).map(|number| attach(&host, number, &configuration)).collect::<Result<_, _>>()?;
        let addresses: Vec<_> = pods.iter().map(|pod| pod.addresses.clone()).collect();
        api.give("pods", cluster::pods(size, &addresses));
        api.give("networkpolicies", cluster::policies(size));
        ["pods", "networkpolicies"].into_iter().try_for_each(|plural| api.wait_watched(plural))?;
        thread::sleep(REST);
        Ok(Self { _switch: switch, host, api, daemon, pods, configurations: [configuration, asking] })
    }

    /// Gives out the namespaces too: how long it took from there until the policies were in force.
    ///
    /// # Errors
    /// When they are not.
    pub(crate) fn put_in_force(&self) -> Result<Duration, String> {
        let start = Instant::now();
        self.api.give("namespaces", cluster::namespaces());
        let (done, _) = self.daemon.wait_for("the policies are in force")?;
        // From when the last of it is on its way; without that nothing would be in force.
        Ok(done - self.api.listed("namespaces").unwrap_or(start))
    }
}

fn attach(node: &Host, number: u32, configuration: &Value) -> Result<Pod, String> {
    let (namespace, name) = cluster::own(number);
    let (host, path) = node.pod(&name)?;
    wire::set_up(&host, "lo")?;
    let uid = cluster::uid(&name);
    let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}");
    let answer = Call::new("ADD", &name, &path, configuration).with("CNI_ARGS", &arguments).execute(node)?.result();
    let answer = answer.map_err(|why| format!("ADD of {name}: {why}"))?;
    let addresses = answer["ips"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(|entry| Some(entry["address"].as_str()?.split_once('/')?.0.to_owned()));
    Ok(Pod { host, addresses: addresses.collect() })
}
