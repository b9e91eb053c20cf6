//! Nodes, the kind of object that the membership comes from: what is decoded of one, how a start goes on from cached nodes
//! where the API is away, and what is published of a change.
//!
//! What may not live here: how objects are listed and watched (`reflector`), and how a membership follows from Nodes
//! (`node_cache`). The API is only read: RBAC has to allow get, list and watch of nodes, and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use podwire_attachment::ledger::Ledger;
use podwire_conf::defaults;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::args::Run;
use crate::cluster::membership::{Membership, OTHER_ADDRESSES};
use crate::cluster::settings::Settings;
use crate::cluster::update::Update;
use crate::report::Report;
use crate::report::feed::Source;
use crate::sources::channel::{Publisher, Subscriber, channel};
use crate::sources::checkpoint;
use crate::sources::kubernetes::client::{Failure, connect};
use crate::sources::kubernetes::node_cache::{CachedNode, NodeCache, NodeChange};
use crate::sources::kubernetes::reflector::{Kind, Object, Reflector, Store};

/// How long a start waits for the API before it goes on from cached nodes; where the API cannot be reached at all it does so
/// at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The same on a node that has no pods, whether the API can be reached or not: after a reboot the way to it may come some
/// seconds later (what serves its ClusterIP starts, too).
const ANSWER_WITHIN_WITHOUT_PODS: Duration = Duration::from_secs(5);

/// The most pod CIDRs that are kept of a Node: Kubernetes allows one of each family.
const MOST_POD_CIDRS: usize = 16;

/// Lists the Nodes and goes on watching them. The membership has no node before there is one to go by: the checkpoint, or a
/// complete list in which this node's own entry is ready.
///
/// # Errors
/// When it is not known where the API is, and there is no checkpoint either.
pub(crate) async fn start(run: &Run, settings: &Settings, report: watch::Sender<Report>) -> io::Result<Subscriber> {
    let cached = checkpoint::read(&run.state_directory);
    if let Err(failure) = connect(run.kubeconfig.as_deref()).await
        && cached.is_none()
    {
        return Err(io::Error::other(failure));
    }
    let (publisher, subscriber) = channel(Membership::default());
    let nodes = Nodes {
        own: run.node_name.clone(),
        cache: NodeCache::new(&run.node_name, settings),
        published: false,
        waits_for: None,
        publisher: publisher.clone(),
        report: report.clone(),
    };
    tokio::spawn(Reflector::new(run.kubeconfig.clone(), nodes).run());
    let Some(cached) = cached else { return Ok(subscriber) };
    // The checkpoint may be some seconds older than what the kernel has: where the API answers, it is not needed.
    let mut reports = report.subscribe();
    // Without pods, as after a reboot, none needs the overlay yet; and a Node that was recreated has other pod CIDRs.
    let has_pods = has_pods();
    tokio::select! {
        _ = subscriber.wait_for(|membership| !membership.nodes.is_empty()) => {}
        _ = reports.wait_for(|report| report.feed.error.is_some()), if has_pods => {}
        () = sleep(if has_pods { ANSWER_WITHIN } else { ANSWER_WITHIN_WITHOUT_PODS }) => {}
    }
    let nodes = cached.nodes.len();
    let from_cache = publisher.publish(|membership| {
        membership.nodes.is_empty().then(|| {
            *membership = cached;
            Update::All
        })
    });
    if from_cache {
        info!(nodes, "starting from cached nodes");
        report.send_modify(|report| report.feed.source = Some(Source::Stored));
    }
    Ok(subscriber)
}

/// Whether pods of this boot are attached here; one that cannot be read may be one.
fn has_pods() -> bool {
    match Ledger::of_this_boot(Path::new(defaults::RUN_DIRECTORY), defaults::NETWORK) {
        Ok(None) => false,
        Ok(Some(ledger)) => ledger.attachments().map_or(true, |attachments| !attachments.is_empty()),
        Err(_) => true,
    }
}

/// The types of addresses of a Node that count: the first of these per family is the one that the others may reach it by.
const ADDRESSES: [&str; 2] = ["InternalIP", "ExternalIP"];

/// The Nodes, and where the membership that follows from them is published.
struct Nodes {
    /// This node's name.
    own: String,
    cache: NodeCache,
    /// Whether the published membership was made from this cache.
    published: bool,
    /// What this node lacks, as logged.
    waits_for: Option<&'static str>,
    publisher: Publisher,
    report: watch::Sender<Report>,
}

impl Store for Nodes {
    type Kind = CachedNode;

    fn count(&self) -> usize {
        self.cache.known()
    }

    fn replace(&mut self, objects: BTreeMap<String, CachedNode>) {
        let change = self.cache.replace(objects);
        self.publish(&change);
    }

    fn set(&mut self, key: String, object: CachedNode) {
        let change = self.cache.set(key, object);
        self.publish(&change);
    }

    fn remove(&mut self, key: &str) {
        let change = self.cache.remove(key);
        self.publish(&change);
    }

    fn connected(&mut self) {
        if !self.report.borrow().feed.connected {
            self.report.send_modify(|report| report.feed.answers());
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.report.send_modify(|report| report.feed.fails(failure.to_string()));
    }
}

impl Nodes {
    /// Publishes what follows from a change of the Nodes; the reconcile loop is not woken where nothing does.
    fn publish(&mut self, change: &NodeChange) {
        if *change == NodeChange::Nothing && self.published {
            return;
        }
        let waits_for = self.cache.own_lacks().filter(|_| !self.published);
        if let Some(lacks) = waits_for
            && self.waits_for != waits_for
        {
            warn!("node {} {lacks}", self.own);
        }
        self.waits_for = waits_for;
        let (nodes, unready) = self.cache.count();
        self.report.send_modify(|report| {
            report.feed.unready = unready;
            report.feed.waits_for = waits_for.map(|lacks| format!("node {} {lacks}", self.own));
            if waits_for.is_none() {
                report.feed.comes_from(Source::Kubernetes);
            }
        });
        if waits_for.is_some() {
            return;
        }
        let change = if self.published { change } else { &NodeChange::All };
        if !self.published {
            info!(nodes, incomplete = unready, "node list synced from the Kubernetes API");
        }
        self.published = true;
        let changed = self.publisher.publish(|membership| self.cache.apply(change, membership));
        debug!(nodes, unready, changed, "{change:?}");
    }
}

/// A Node as the API writes it; everything else is skipped unread.
#[derive(Deserialize)]
pub(crate) struct KubeNode {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
    /// RFC 3339, in UTC.
    #[serde(default)]
    creation_timestamp: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Kind for CachedNode {
    const PATH: &'static str = "/api/v1/nodes";
    const PLURAL: &'static str = "nodes";
    type Wire = KubeNode;

    fn trim(KubeNode { metadata, spec, status }: KubeNode) -> Object<Self> {
        let digits: String = metadata.creation_timestamp.chars().filter(char::is_ascii_digit).collect();
        let mut node = Self { created: digits.parse().unwrap_or_default(), ..Self::default() };
        // Kubernetes validates addresses and prefixes itself; one that is none after all is one that is not there.
        for address in status.addresses.iter().filter(|address| ADDRESSES.contains(&&*address.kind)) {
            let internal = address.kind == ADDRESSES[0];
            match address.address.parse() {
                Ok(IpAddr::V4(address)) if internal && node.ipv4.is_none() => node.ipv4 = Some(address),
                Ok(IpAddr::V6(address)) if internal && node.ipv6.is_none() => node.ipv6 = Some(address),
                // One more than count, so that the view says that there are more.
                Ok(other) if node.others.len() <= OTHER_ADDRESSES => node.others.push(other),
                Ok(_) => {}
                Err(error) => debug!(node = metadata.name, "{} {}: {error}", address.kind, address.address),
            }
        }
        let parsed: Result<_, _> = spec.pod_cidrs.iter().take(MOST_POD_CIDRS).map(|cidr| cidr.parse()).collect();
        node.pod_cidrs = parsed.unwrap_or_default();
        Object { key: metadata.name, version: metadata.resource_version, kept: node }
    }
}

#[cfg(test)]
mod tests;
