//! What a runtime can ask for: one request for each verb, with everything from environment and configuration.

use std::collections::HashSet;

use podwire_attachment::ledger::PodName;
use podwire_attachment::names::Attachment;
use podwire_conf::labels::Labels;
use podwire_conf::{Dns, Network, Requested};

use super::result::Previous;

/// A request of the runtime.
#[derive(Debug)]
pub enum Request {
    /// No verb: the program was started by hand, or to see its version.
    About,
    /// Which versions of the protocol are supported.
    Version {
        /// The version of the runtime if it is supported, else our highest.
        version: &'static str,
    },
    /// Attach a pod.
    Add(Box<Add>),
    /// Detach a pod.
    Del(Box<Del>),
    /// Check that a pod is still attached as ADD left it.
    Check(Box<Check>),
    /// Detach every pod that the runtime does not list as valid.
    Gc(Box<Gc>),
    /// Check whether an ADD could succeed.
    Status(Box<Status>),
}

/// Another IPAM plugin, and how to call it (CNI specification, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// Its name, `ipam.type`.
    pub kind: String,
    /// Directories to search for it, separated by colons (`CNI_PATH`).
    pub path: String,
    /// What it gets on stdin: what this plugin got.
    pub input: Vec<u8>,
}

/// A request to attach a pod.
#[derive(Debug)]
pub struct Add {
    /// The attachment.
    pub attachment: Attachment,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// A name for people: `namespace/name` on Kubernetes, else the container id.
    pub pod: String,
    /// Whether the container is the sandbox of a Kubernetes pod: then the runtime's CRI lists it by this id. (Podman gives the
    /// name of a pod as well, but not this.)
    pub sandbox: bool,
    /// The pod, as far as the runtime has named it.
    pub pod_name: Option<PodName>,
    /// The pod's labels: those of the network, and over them those that the runtime gives.
    pub labels: Labels,
    /// The configuration of the network.
    pub network: Network,
    /// What is requested for this pod in addition.
    pub requested: Requested,
    /// Name servers, if the configuration has any.
    pub dns: Option<Dns>,
    /// The version of the protocol for the answer.
    pub version: &'static str,
    /// The result of earlier plugins of the chain.
    pub previous: Option<Previous>,
    /// The IPAM plugin, if it is another one.
    pub delegate: Option<Delegate>,
    /// Whether the pod may be in the plugin's own network namespace (`CNI_NETNS_OVERRIDE`, for tests of plugins).
    pub may_be_own_netns: bool,
}

/// A request to detach a pod. It has little more than the key, so nothing but the key can be missing.
#[derive(Debug)]
pub struct Del {
    /// The attachment.
    pub attachment: Attachment,
    /// Path of the pod's network namespace, if the runtime still has one.
    pub netns: Option<String>,
    /// The version of the protocol for the answer.
    pub version: &'static str,
    /// The IPAM plugin, if it is another one.
    pub delegate: Option<Delegate>,
}

/// A request to check that a pod is still attached as ADD left it.
#[derive(Debug)]
pub struct Check {
    /// The request of ADD, which is sent again.
    pub add: Add,
    /// The result of all plugins of the chain.
    pub previous: Previous,
}

/// A request to detach every pod that is not valid.
#[derive(Debug)]
pub struct Gc {
    /// Name of the network.
    pub network: String,
    /// The valid attachments: container and interface.
    pub valid: HashSet<(String, String)>,
    /// The version of the protocol for the answer.
    pub version: &'static str,
    /// The IPAM plugin, if it is another one.
    pub delegate: Option<Delegate>,
}

/// A request to check whether an ADD could succeed.
#[derive(Debug)]
pub struct Status {
    /// Name of the network.
    pub name: String,
    /// The version of the protocol for the answer.
    pub version: &'static str,
    /// The plugin's own part of the configuration.
    pub network: Network,
    /// The IPAM plugin, if it is another one.
    pub delegate: Option<Delegate>,
}
