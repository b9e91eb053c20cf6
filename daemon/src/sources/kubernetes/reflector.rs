//! A copy of the API's objects of one kind that is kept up to date: listed in pages, then watched.
//!
//! The same for every kind: a [`Kind`] says where its objects are and what is kept of one, a [`Store`] keeps them. An object
//! is trimmed while it is decoded, so that its images, conditions and field owners are never in memory as values. A watch that
//! ends goes on from the resource version that it had come to, over a new connection too. Where the API does not remember that
//! version the objects are listed again, and the store changes only when the list is complete.
//!
//! What may not live here: what an object means.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status, WatchEvent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::sources::kubernetes::client::{Failure, FailureKind, SILENCE, connect, within_silence};
use crate::sources::kubernetes::reply::{Reply, Unread};

/// Objects in one page of a list: of Nodes, a megabyte or two at a time.
const PAGE: u32 = 100;

/// The most bytes of a page that are read: twenty times as many as Nodes mostly take, and an eighth of the memory that the
/// manifest gives the daemon.
const LARGEST_PAGE: usize = 32 * 1024 * 1024;

/// The most bytes of an event of a watch: an object has at most 1.5 MiB in etcd, and more as JSON.
const LARGEST_EVENT: usize = 8 * 1024 * 1024;

/// The most objects, and pages of a list: ten times the largest cluster. An empty page may be followed by others.
const MOST_OBJECTS: usize = 100_000;
const MOST_PAGES: usize = 2_000;

/// The longest key of an object, in bytes: a namespace and a name, 253 each (Kubernetes' "Object Names and IDs").
const LONGEST_KEY: usize = 507;

/// The length of a watch, in seconds: at least the first, and at most the second more, so that not all nodes of a cluster
/// start a new one at once.
const WATCH_SECONDS: (u32, u32) = (200, 80);

/// The back-off after a failure: from the first to the second value, doubled each time. Up to a half of each wait is left
/// away at random, so that not all nodes of a cluster come at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How often it is looked whether the API knows a kind by now, which it did not. Up to a half of it is left away, as above.
const ABSENT: Duration = Duration::from_secs(30);

/// How often, and how soon after the other, the API has to say that it does not know a kind of which there are objects.
const SAID: (u32, Duration) = (3, Duration::from_secs(5));

/// A watch that has lasted this long resets the back-off.
const STEADY: Duration = Duration::from_secs(10);

/// A kind of object: where the API has its objects, and what is kept of one.
pub(crate) trait Kind: Clone + Send + 'static {
    /// Where all of them are, such as `/api/v1/nodes`.
    const PATH: &'static str;

    /// Where else they may be, if they are not there: in other versions of their group, with the same fields. Then they may be
    /// nowhere, as well: it is a kind that the API knows only where somebody has installed it.
    const ELSEWHERE: Option<&'static [&'static str]> = None;

    /// What RBAC and the log call several of them, such as `nodes`.
    const PLURAL: &'static str;

    /// Which of them are asked for (`fieldSelector`); an object that is none of them any more counts as deleted.
    const FIELDS: Option<&'static str> = None;

    /// An object as the API writes it, with those fields only that are needed: everything else is skipped unread.
    type Wire: DeserializeOwned;

    /// What is kept of an object.
    fn trim(wire: Self::Wire) -> Object<Self>;
}

/// An object as it comes out of the decoder.
#[derive(Debug, Clone)]
pub(crate) struct Object<K> {
    /// `name`, or `namespace/name` where the objects are in namespaces.
    pub(crate) key: String,
    /// Its resource version: the point in the API's history at which it was so.
    pub(crate) version: String,
    /// What is kept of it.
    pub(crate) kept: K,
}

impl<'de, K: Kind> Deserialize<'de> for Object<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::Wire::deserialize(deserializer).map(K::trim)
    }
}

/// Keeps the objects, and is told whether the API answers.
pub(crate) trait Store: Send + 'static {
    /// What it keeps.
    type Kind: Kind;

    /// How many objects it keeps.
    fn count(&self) -> usize;

    /// A complete list: there are no others.
    fn replace(&mut self, objects: BTreeMap<String, Self::Kind>);

    /// An object that was created or changed.
    fn set(&mut self, key: String, object: Self::Kind);

    /// An object that was deleted.
    fn remove(&mut self, key: &str);

    /// The API answers.
    fn connected(&mut self);

    /// It does not; what is kept stays.
    fn failed(&mut self, failure: &Failure);
}

/// Keeps a store up to date.
pub(crate) struct Reflector<S> {
    kubeconfig: Option<PathBuf>,
    store: S,
    /// The resource version that the next watch goes on from; `None` when the objects have to be listed.
    version: Option<String>,
    /// `None` after a failure: tokens, certificates and addresses are read anew then.
    client: Option<Client>,
    /// The failure that lasts, once it is logged.
    logged: Option<FailureKind>,
    /// Where the objects are, of [`Reflector::paths`].
    path: usize,
    /// How often in succession the API has said that it does not know the kind.
    absent: u32,
}

impl<S: Store> Reflector<S> {
    const PLURAL: &'static str = S::Kind::PLURAL;

    /// Has not asked the API yet.
    pub(crate) fn new(kubeconfig: Option<PathBuf>, store: S) -> Self {
        Self { kubeconfig, store, version: None, client: None, logged: None, path: 0, absent: 0 }
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        loop {
            let start = Instant::now();
            let ended = self.list_and_watch().await;
            let steady = start.elapsed() >= STEADY;
            if steady {
                backoff = BACKOFF.0;
            }
            match ended {
                Ok(()) if steady => continue,
                Ok(()) => {}
                Err(failure) if failure.kind == FailureKind::Expired => self.version = None,
                Err(failure) if failure.kind == FailureKind::Absent && S::Kind::ELSEWHERE.is_some() => {
                    if let Some(wait) = self.is_absent() {
                        sleep(wait - wait / 1000 * (random() % 500)).await;
                    }
                    continue;
                }
                Err(failure) => self.failed(&failure),
            }
            sleep(backoff - backoff / 1000 * (random() % 500)).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Where the objects may be.
    fn paths() -> impl Iterator<Item = &'static str> {
        [S::Kind::PATH].into_iter().chain(S::Kind::ELSEWHERE.into_iter().flatten().copied())
    }

    /// Where they are.
    fn path(&self) -> &'static str {
        Self::paths().nth(self.path).unwrap_or(S::Kind::PATH)
    }

    /// The API has said that they are not where they were looked for. How long it is until it is asked again; at once, where they may
    /// be somewhere else.
    fn is_absent(&mut self) -> Option<Duration> {
        self.version = None;
        self.path = (self.path + 1) % Self::paths().count();
        if self.path != 0 {
            return None;
        }
        self.absent += 1;
        // While an API server starts it may not know yet what there is.
        if self.store.count() > 0 && self.absent < SAID.0 {
            return Some(SAID.1);
        }
        self.connected();
        if self.absent <= SAID.0 {
            info!(kind = Self::PLURAL, "the Kubernetes API does not know this kind: there are none");
        }
        self.absent = SAID.0 + 1;
        self.store.replace(BTreeMap::new());
        Some(ABSENT)
    }

    /// Lists the objects where that is needed, and watches them until the watch ends.
    async fn list_and_watch(&mut self) -> Result<(), Failure> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(connect(self.kubeconfig.as_deref()).await?).clone(),
        };
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list(&client).await?,
        };
        self.watch(&client, &version).await
    }

    /// Lists the objects page by page, and hands them on when all are there. The resource version of the list.
    async fn list(&mut self, client: &Client) -> Result<String, Failure> {
        let failed = |error: Unread| Failure::listing(Self::PLURAL, &error);
        let (mut objects, mut parameters) = (BTreeMap::new(), ListParams::default().limit(PAGE));
        parameters.field_selector = S::Kind::FIELDS.map(Into::into);
        let (mut text, mut pages) = (Vec::new(), 0);
        let version = loop {
            let request = Request::new(self.path()).list(&parameters);
            let request = request.map_err(|error| failed(kube::Error::BuildRequest(error).into()))?;
            // Into one buffer for all pages: the text of ten thousand Nodes is a hundred megabytes.
            let read = async { Reply::of(client, request).await?.whole(&mut text, "a page", LARGEST_PAGE).await };
            within_silence(Self::PLURAL, read).await?;
            let page: Page<S::Kind> =
                serde_json::from_slice(&text).map_err(|error| failed(kube::Error::SerdeError(error).into()))?;
            for object in page.items {
                objects.insert(checked_key(object.key).map_err(failed)?, object.kept);
            }
            pages += 1;
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(_) if objects.len() > MOST_OBJECTS || pages == MOST_PAGES => return Err(failed(too_many(pages))),
                Some(next) => parameters = parameters.continue_token(&next),
                None => break page.metadata.version,
            }
        };
        self.version = Some(version.clone());
        self.absent = 0;
        self.connected();
        self.store.replace(objects);
        Ok(version)
    }

    async fn watch(&mut self, client: &Client, version: &str) -> Result<(), Failure> {
        let failed = |error: Unread| Failure::listing(Self::PLURAL, &error);
        let (least, more) = WATCH_SECONDS;
        let mut parameters = WatchParams::default().timeout(least + (random() % more));
        parameters.field_selector = S::Kind::FIELDS.map(Into::into);
        let request = Request::new(self.path()).watch(&parameters, version);
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error).into()))?;
        let mut events = within_silence(Self::PLURAL, Reply::of(client, request)).await?;
        self.connected();
        // Silence ends this watch and is no failure; if the next one cannot be started, that is.
        while let Ok(line) = timeout(SILENCE, events.line("an event", LARGEST_EVENT)).await {
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) if is_end(&error) => break,
                Err(error) => return Err(failed(error)),
            };
            match event::<S::Kind>(&line).map_err(|error| failed(error.into()))? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    if self.store.count() > MOST_OBJECTS {
                        return Err(failed(too_many(0)));
                    }
                    let key = checked_key(object.key).map_err(failed)?;
                    self.version = Some(object.version);
                    self.store.set(key, object.kept);
                }
                WatchEvent::Deleted(object) => {
                    self.version = Some(object.version);
                    self.store.remove(&object.key);
                }
                WatchEvent::Bookmark(bookmark) => self.version = Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(failed(kube::Error::Api(status).into())),
            }
        }
        Ok(())
    }

    fn connected(&mut self) {
        if self.logged.take().is_some() {
            info!(kind = Self::PLURAL, "the Kubernetes API answers again");
        }
        self.store.connected();
    }

    fn failed(&mut self, failure: &Failure) {
        self.client = None;
        if self.logged.replace(failure.kind) != Some(failure.kind) {
            warn!("{failure}; keeping the {} that are known", Self::PLURAL);
        }
        self.store.failed(failure);
    }
}

/// An event of a watch, or the error that stands in its place.
fn event<K: Kind>(line: &[u8]) -> Result<WatchEvent<Object<K>>, kube::Error> {
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<Status>(line) {
        Ok(status) => kube::Error::Api(status.boxed()),
        Err(_) => kube::Error::SerdeError(error),
    })
}

/// Whether an error is the end of a watch: a connection that the API, or something on the way, has ended without a word.
fn is_end(error: &Unread) -> bool {
    let Unread::Api(error) = error else { return false };
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let is_end = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        if error.downcast_ref::<std::io::Error>().is_some_and(is_end) {
            return true;
        }
        source = error.source();
    }
    false
}

/// The key of an object that Kubernetes could have accepted.
fn checked_key(key: String) -> Result<String, Unread> {
    if key.len() > LONGEST_KEY { Err(Unread::too_long("the name of an object", LONGEST_KEY)) } else { Ok(key) }
}

fn too_many(pages: usize) -> Unread {
    let (what, limit) = match pages {
        MOST_PAGES => ("the list", format!("{MOST_PAGES} pages")),
        _ => ("the list", format!("{MOST_OBJECTS} objects")),
    };
    Unread::TooMuch { what, limit }
}

/// A random number, by what the standard library seeds its maps with.
fn random() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default()
}

/// A page of a list, as the API writes it.
#[derive(Deserialize)]
#[serde(bound = "K: Kind")]
struct Page<K> {
    metadata: PageMetadata,
    items: Vec<Object<K>>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "resourceVersion")]
    version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[cfg(test)]
mod tests;
