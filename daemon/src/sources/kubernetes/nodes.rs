//! Membership from Kubernetes: the Nodes are listed in pages and watched, and what is kept of them goes to the roster. The
//! only file that knows the kube crate. It only reads: get, list and watch of nodes is all it is allowed to be.
//!
//! A Node has kilobytes of images, conditions and field owners; none of that is even parsed. A watch that ends is taken up
//! where it ended; where the API does not remember that point any more the Nodes are listed again, and what is believed
//! changes only when the list is complete.

use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::{AsyncReadExt, TryStreamExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use kube::{Client, Config};
use podwire::ledger::Ledger;
use podwire_conf::defaults;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::args::Run;
use crate::cluster::membership::Membership;
use crate::cluster::settings::Settings;
use crate::report::{Report, Source};
use crate::sources::checkpoint;
use crate::sources::kubernetes::node_cache::{Change, Entry, Roster};

/// Where the Nodes are.
const NODES: &str = "/api/v1/nodes";

/// Nodes in one page of a list: a megabyte or two of them pass through at a time.
const PAGE: u32 = 100;

/// How long a connection may take to stand.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a start waits for the API before it makes do with what was stored; where the API cannot be reached at all it does
/// so at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The same on a node that has no pods, whether the API can be reached or not: after a reboot the way to it may come some
/// seconds later (who serves its ClusterIP starts, too).
const ANSWER_WITHIN_WITHOUT_PODS: Duration = Duration::from_secs(5);

/// How long the API may be silent. During a watch it says once a minute how far it is (a bookmark), so that one that is
/// silent for longer is not there any more; where it is after all, the watch is taken up again, which costs little.
const SILENCE: Duration = Duration::from_secs(90);

/// The length of a watch, in seconds: at least, and at most this much more, so that not all nodes begin anew at once.
const WATCH_SECONDS: (u32, u32) = (200, 80);

/// After a failure the next attempt comes after this long, doubled each time up to the second value; of each up to a half
/// is left away by chance, so that not all nodes come at once.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// A watch that has lasted this long was a good one.
const STEADY: Duration = Duration::from_secs(10);

/// Lists the Nodes and goes on watching them. The membership has no node until a first one can be believed: the one that
/// was stored, or a full list with this node's own entry ready.
///
/// # Errors
/// When it cannot be known where the API is, and there is no stored membership either.
pub(crate) async fn start(
    run: &Run,
    settings: &Settings,
    report: watch::Sender<Report>,
) -> io::Result<watch::Receiver<Membership>> {
    let stored = checkpoint::read(&run.state_directory);
    if let Err(failure) = connect(run.kubeconfig.as_deref()).await
        && stored.is_none()
    {
        return Err(io::Error::other(failure.why));
    }
    let (sender, mut receiver) = watch::channel(Membership::default());
    let follower = Follower {
        node: run.node_name.clone(),
        kubeconfig: run.kubeconfig.clone(),
        roster: Roster::new(&run.node_name, settings),
        version: None,
        client: None,
        believed: false,
        complaint: None,
        waits_for: None,
        sender: sender.clone(),
        report: report.clone(),
    };
    tokio::spawn(follower.follow());
    let Some(stored) = stored else { return Ok(receiver) };
    // What was stored may be some seconds older than what the kernel has: where the API answers, it is not needed.
    let mut reports = report.subscribe();
    // Without pods, as after a reboot, nobody waits for the overlay; and a Node that was made anew meanwhile has other pod CIDRs.
    let has_pods = has_pods();
    tokio::select! {
        _ = receiver.wait_for(|membership| !membership.nodes.is_empty()) => {}
        _ = reports.wait_for(|report| report.feed.error.is_some()), if has_pods => {}
        () = sleep(if has_pods { ANSWER_WITHIN } else { ANSWER_WITHIN_WITHOUT_PODS }) => {}
    }
    let begun = sender.send_if_modified(|membership| {
        let unknown = membership.nodes.is_empty();
        if unknown {
            *membership = stored;
        }
        unknown
    });
    if begun {
        info!(nodes = receiver.borrow().nodes.len(), "begins with the membership that was stored");
        report.send_modify(|report| report.feed.source = Some(Source::Stored));
    }
    Ok(receiver)
}

/// Whether pods of this boot are attached here; one that cannot be read may be one.
fn has_pods() -> bool {
    match Ledger::of_this_boot(Path::new(defaults::RUN_DIRECTORY), defaults::NETWORK) {
        Ok(None) => false,
        Ok(Some(ledger)) => ledger.attachments().map_or(true, |attachments| !attachments.is_empty()),
        Err(_) => true,
    }
}

/// Follows the Nodes, and holds what it knows of them.
struct Follower {
    node: String,
    kubeconfig: Option<PathBuf>,
    roster: Roster,
    /// The point that the next watch goes on from; `None` when the Nodes have to be listed.
    version: Option<String>,
    /// `None` after a failure: tokens, certificates and addresses are read anew then.
    client: Option<Client>,
    /// Whether the membership that is out is this roster's.
    believed: bool,
    /// What the log has said of a failure that lasts.
    complaint: Option<Kind>,
    /// What the log has said that this node lacks.
    waits_for: Option<&'static str>,
    sender: watch::Sender<Membership>,
    report: watch::Sender<Report>,
}

impl Follower {
    async fn follow(mut self) {
        let mut retry = RETRY.0;
        loop {
            let start = Instant::now();
            let ended = self.turn().await;
            let steady = start.elapsed() >= STEADY;
            if steady {
                retry = RETRY.0;
            }
            match ended {
                Ok(()) if steady => continue,
                Ok(()) => {}
                Err(failure) if failure.kind == Kind::TooOld => self.version = None,
                Err(failure) => self.away(failure),
            }
            sleep(retry - retry / 1000 * (chance() % 500)).await;
            retry = (retry * 2).min(RETRY.1);
        }
    }

    /// Lists the Nodes where that is needed, and watches them until the watch ends.
    async fn turn(&mut self) -> Result<(), Failure> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(connect(self.kubeconfig.as_deref()).await?).clone(),
        };
        match self.version.clone() {
            Some(version) => self.watch(&client, &version).await,
            None => {
                let version = self.list(&client).await?;
                self.watch(&client, &version).await
            }
        }
    }

    /// Lists the Nodes page by page, and believes them when all are there. The point at which the list was true.
    async fn list(&mut self, client: &Client) -> Result<String, Failure> {
        let (mut entries, mut parameters) = (BTreeMap::new(), ListParams::default().limit(PAGE));
        let mut text = Vec::new();
        let version = loop {
            let request = Request::new(NODES).list(&parameters).map_err(kube::Error::BuildRequest)?;
            // Into one buffer for all pages: the text of ten thousand Nodes is a hundred megabytes.
            let read = async {
                let mut body = pin!(client.request_stream(request).await?);
                text.clear();
                body.read_to_end(&mut text).await.map_err(kube::Error::ReadEvents)
            };
            within_silence(read).await?;
            let list: List = serde_json::from_slice(&text).map_err(kube::Error::SerdeError)?;
            entries.extend(list.items.into_iter().map(|node| (node.name, node.entry)));
            match list.metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => parameters = parameters.continue_token(&next),
                None => break list.metadata.version,
            }
        };
        self.version = Some(version.clone());
        self.here();
        let change = self.roster.replace(entries);
        self.publish(&change);
        Ok(version)
    }

    async fn watch(&mut self, client: &Client, version: &str) -> Result<(), Failure> {
        let (least, more) = WATCH_SECONDS;
        let parameters = WatchParams::default().timeout(least + (chance() % more));
        let request = Request::new(NODES).watch(&parameters, version).map_err(kube::Error::BuildRequest)?;
        let mut events = pin!(within_silence(client.request_events::<Node>(request)).await?);
        self.here();
        // A silence is the end of this watch, and no failure: that the next one cannot be begun would be.
        while let Ok(event) = timeout(SILENCE, events.try_next()).await {
            let Some(event) = event? else { break };
            let change = match event {
                WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                    self.version = Some(node.version);
                    self.roster.set(node.name, node.entry)
                }
                WatchEvent::Deleted(node) => {
                    self.version = Some(node.version);
                    self.roster.remove(&node.name)
                }
                WatchEvent::Bookmark(bookmark) => {
                    self.version = Some(bookmark.metadata.resource_version);
                    continue;
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            self.publish(&change);
        }
        Ok(())
    }

    /// Hands on what a change of the Nodes comes to; the reconcile loop is not woken by one that comes to nothing.
    fn publish(&mut self, change: &Change) {
        if *change == Change::Nothing && self.believed {
            return;
        }
        let waits_for = self.roster.own_lacks().filter(|_| !self.believed);
        if let Some(lacks) = waits_for
            && self.waits_for != waits_for
        {
            warn!("node {} {lacks}", self.node);
        }
        self.waits_for = waits_for;
        let (nodes, unready) = self.roster.count();
        self.report.send_modify(|report| {
            report.feed.unready = unready;
            report.feed.waits_for = waits_for.map(|lacks| format!("node {} {lacks}", self.node));
            if waits_for.is_none() {
                report.feed.comes_from(Source::Kubernetes);
            }
        });
        if waits_for.is_some() {
            return;
        }
        let change = if self.believed { change } else { &Change::All };
        if !self.believed {
            info!(nodes, incomplete = unready, "the nodes of Kubernetes are known");
        }
        self.believed = true;
        let changed = self.sender.send_if_modified(|membership| self.roster.apply(change, membership));
        debug!(nodes, unready, changed, "{change:?}");
    }

    fn here(&mut self) {
        if self.complaint.take().is_some() {
            info!("the Kubernetes API answers again");
        }
        if !self.report.borrow().feed.connected {
            self.report.send_modify(|report| report.feed.answers());
        }
    }

    fn away(&mut self, failure: Failure) {
        self.client = None;
        if self.complaint.replace(failure.kind) != Some(failure.kind) {
            warn!("{}; what is known of the nodes stays", failure.why);
        }
        self.report.send_modify(|report| report.feed.fails(failure.why));
    }
}

/// A client of the API that a kubeconfig or the pod's service account leads to.
async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Failure> {
    let mut config = match kubeconfig {
        Some(path) => {
            let failed = |error| Failure::away(format!("kubeconfig {}: {}", path.display(), words(&error)));
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::incluster().map_err(|error| {
            let why = words(&error);
            Failure::away(format!("the pod's service account: {why}: outside of a pod give --kubeconfig FILE"))
        })?,
    };
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        let why = "the kubeconfig's user is authenticated by a program, and podwired executes none: give it a token or \
                   a certificate";
        return Err(Failure { kind: Kind::Refused, why: why.into() });
    }
    config.connect_timeout = Some(CONNECT_WITHIN);
    Ok(Client::try_from(config)?)
}

/// What the API answers, if it answers.
async fn within_silence<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    let answered = timeout(SILENCE, asked).await;
    Ok(answered.map_err(|_| Failure::away(format!("list nodes: the Kubernetes API was silent for {SILENCE:?}")))??)
}

/// Why the API could not be asked.
#[derive(Debug)]
struct Failure {
    kind: Kind,
    /// A sentence.
    why: String,
}

/// Failures of one kind are one event for the log, whatever the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It does not answer, or not as it should.
    Away,
    /// It answers that this daemon may not ask.
    Refused,
    /// It does not remember the point that a watch was to go on from.
    TooOld,
}

impl Failure {
    fn away(why: String) -> Self {
        Self { kind: Kind::Away, why }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            let said = match &error {
                kube::Error::Service(behind) => words(behind.as_ref()),
                kube::Error::HyperError(behind) => words(behind),
                kube::Error::ReadEvents(behind) => words(behind),
                error => words(error),
            };
            return Self::away(format!("list nodes in the Kubernetes API: {said}"));
        };
        let (kind, hint) = match status.code {
            401 => (Kind::Refused, ": it does not accept the token or certificate of this daemon"),
            403 => (Kind::Refused, ": allow it to get, list and watch nodes"),
            410 => (Kind::TooOld, ""),
            _ => (Kind::Away, ""),
        };
        let why = format!("list nodes in the Kubernetes API: {} {}{hint}", status.code, status.message);
        Self { kind, why }
    }
}

/// An error and what is behind it, without what is said twice.
fn words(error: &dyn Error) -> String {
    let mut said = vec![error.to_string()];
    let mut behind = error.source();
    while let Some(error) = behind {
        let text = error.to_string();
        // Some have the words of what is behind them in their own.
        match said.last_mut() {
            Some(last) if last.contains(&text) => {}
            _ => said.push(text),
        }
        behind = error.source();
    }
    said.join(": ")
}

/// A number by chance, by what the standard library seeds its maps with.
fn chance() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default()
}

/// A page of a list, as the API writes it.
#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
    items: Vec<Node>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(rename = "resourceVersion")]
    version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// What is kept of a Node, out of what the API writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
struct Node {
    name: String,
    /// The point in the API's history at which it was so.
    version: String,
    entry: Entry,
}

/// A Node as the API writes it; everything else is skipped unread.
#[derive(Deserialize)]
struct Wire {
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

impl From<Wire> for Node {
    fn from(wire: Wire) -> Self {
        let digits: String = wire.metadata.creation_timestamp.chars().filter(char::is_ascii_digit).collect();
        let mut entry = Entry { created: digits.parse().unwrap_or_default(), ..Entry::default() };
        // Kubernetes checks addresses and prefixes itself; one that is none after all is one that is not there.
        for address in wire.status.addresses.iter().filter(|address| address.kind == "InternalIP") {
            match address.address.parse() {
                Ok(IpAddr::V4(address)) => _ = entry.ipv4.get_or_insert(address),
                Ok(IpAddr::V6(address)) => _ = entry.ipv6.get_or_insert(address),
                Err(error) => debug!(node = wire.metadata.name, "InternalIP {}: {error}", address.address),
            }
        }
        let parsed: Result<_, _> = wire.spec.pod_cidrs.iter().map(|cidr| cidr.parse()).collect();
        entry.pod_cidrs = parsed.unwrap_or_default();
        Self { name: wire.metadata.name, version: wire.metadata.resource_version, entry }
    }
}

#[cfg(test)]
mod tests;
