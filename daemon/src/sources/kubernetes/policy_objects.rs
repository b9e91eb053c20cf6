//! Pods, Namespaces and NetworkPolicies of the API, trimmed to what policies are compiled from: three reflectors, one place where
//! their objects are kept, and a wake-up for whoever compiles.
//!
//! What may not live here: what a policy means (`policy`), and when it is compiled (`reconcile`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::metadata::Metadata;
use crate::policy::namespace::{self, Namespace};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::rejected::Rejected;
use crate::sources::kubernetes::client::Failure;
use crate::sources::kubernetes::reflector::{Kind, Object, Reflector, Store};

/// The objects by their keys.
type Kept<T> = BTreeMap<String, Result<Arc<T>, Rejected>>;

/// What the API has, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    pods: Kept<Pod>,
    namespaces: Kept<Namespace>,
    policies: Kept<NetworkPolicy>,
    /// Which of the three have been listed once.
    listed: [bool; 3],
    /// Why each of the three cannot be had at present.
    failed: [Option<String>; 3],
    /// Grows with every change.
    version: u64,
}

impl Objects {
    /// Whether all that policies follow from is known.
    pub(crate) fn are_complete(&self) -> bool {
        self.listed == [true; 3]
    }

    /// Why objects cannot be had at present; what is known of them stays.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &String> {
        self.failed.iter().flatten()
    }

    /// A number that grows with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The pods.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values().flatten()
    }

    /// The pod of this name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(&format!("{namespace}/{name}"))?.as_ref().ok()
    }

    /// The namespaces.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values().flatten()
    }

    /// The policies.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Arc<NetworkPolicy>> {
        self.policies.values().flatten()
    }

    /// The policies that cannot be read. The API server accepts none that is wrong, so these are newer than this program.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = &Rejected> {
        self.policies.values().filter_map(|policy| policy.as_ref().err())
    }

    /// The pods and namespaces that cannot be read: no policy sees them.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = &Rejected> {
        let pods = self.pods.values().filter_map(|pod| pod.as_ref().err());
        pods.chain(self.namespaces.values().filter_map(|namespace| namespace.as_ref().err()))
    }
}

/// The objects, shared between the reflectors and whoever compiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyObjects(Arc<Mutex<Arc<Objects>>>);

impl PolicyObjects {
    /// The objects as they are now.
    pub(crate) fn newest(&self) -> Arc<Objects> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Objects>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the API's objects; each change wakes.
pub(crate) fn start(kubeconfig: Option<&PathBuf>, wake: &SyncSender<()>) -> PolicyObjects {
    let objects = PolicyObjects::default();
    follow(kubeconfig, &objects, wake, 0, (|objects| &objects.pods, |objects| &mut objects.pods));
    follow(kubeconfig, &objects, wake, 1, (|objects| &objects.namespaces, |objects| &mut objects.namespaces));
    follow(kubeconfig, &objects, wake, 2, (|objects| &objects.policies, |objects| &mut objects.policies));
    objects
}

/// The objects of one kind.
type Of<T> = (fn(&Objects) -> &Kept<T>, fn(&mut Objects) -> &mut Kept<T>);

fn follow<T>(kubeconfig: Option<&PathBuf>, objects: &PolicyObjects, wake: &SyncSender<()>, place: usize, of: Of<T>)
where
    OfKind<T>: Kind,
    T: Send + Sync + 'static,
{
    let store = Following { objects: objects.clone(), place, of, wake: wake.clone() };
    tokio::spawn(Reflector::new(kubeconfig.cloned(), store).run());
}

/// An object of a kind, or why it cannot be read.
pub(crate) struct OfKind<T>(Result<Arc<T>, Rejected>);

impl<T> Clone for OfKind<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Keeps the objects of one kind.
struct Following<T> {
    objects: PolicyObjects,
    /// Its place among the three.
    place: usize,
    of: Of<T>,
    wake: SyncSender<()>,
}

impl<T> Following<T> {
    fn change(&self, change: impl FnOnce(&mut Kept<T>)) {
        self.note(|objects| {
            change((self.of.1)(objects));
            objects.version += 1;
        });
    }

    fn note(&self, change: impl FnOnce(&mut Objects)) {
        // They are copied only while somebody compiles what they were before.
        change(Arc::make_mut(&mut self.objects.lock()));
        // One wake-up that has not been taken stands for all.
        let _ = self.wake.try_send(());
    }
}

impl<T: Send + Sync + 'static> Store for Following<T>
where
    OfKind<T>: Kind,
{
    type Kind = OfKind<T>;

    fn count(&self) -> usize {
        (self.of.0)(&self.objects.lock()).len()
    }

    fn replace(&mut self, objects: BTreeMap<String, OfKind<T>>) {
        self.change(|kept| *kept = objects.into_iter().map(|(key, object)| (key, object.0)).collect());
        self.note(|objects| objects.listed[self.place] = true);
    }

    fn set(&mut self, key: String, object: OfKind<T>) {
        self.change(|kept| drop(kept.insert(key, object.0)));
    }

    fn remove(&mut self, key: &str) {
        self.change(|kept| drop(kept.remove(key)));
    }

    fn connected(&mut self) {
        if self.objects.lock().failed[self.place].is_some() {
            self.note(|objects| objects.failed[self.place] = None);
        }
    }

    /// What is known stays, and so does what is in force.
    fn failed(&mut self, failure: &Failure) {
        self.note(|objects| objects.failed[self.place] = Some(failure.to_string()));
    }
}

fn key(metadata: &Metadata) -> String {
    match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{}", metadata.name),
        None => metadata.name.clone(),
    }
}

fn object<T>(metadata: &Metadata, read: Result<T, Rejected>) -> Object<OfKind<T>> {
    let version = metadata.resource_version.clone().unwrap_or_default();
    Object { key: key(metadata), version, kept: OfKind(read.map(Arc::new)) }
}

impl Kind for OfKind<Pod> {
    const PATH: &'static str = "/api/v1/pods";
    const PLURAL: &'static str = "pods";
    // Not "Running" alone: init containers have addresses. A pod that has finished has none.
    const FIELDS: Option<&'static str> = Some("status.phase!=Succeeded,status.phase!=Failed");
    type Wire = pod::Wire;

    fn trim(wire: pod::Wire) -> Object<Self> {
        object(&wire.metadata.clone(), wire.try_into())
    }
}

impl Kind for OfKind<Namespace> {
    const PATH: &'static str = "/api/v1/namespaces";
    const PLURAL: &'static str = "namespaces";
    type Wire = namespace::Wire;

    fn trim(wire: namespace::Wire) -> Object<Self> {
        object(&wire.metadata.clone(), wire.try_into())
    }
}

impl Kind for OfKind<NetworkPolicy> {
    const PATH: &'static str = "/apis/networking.k8s.io/v1/networkpolicies";
    const PLURAL: &'static str = "networkpolicies";
    type Wire = network_policy::Wire;

    fn trim(wire: network_policy::Wire) -> Object<Self> {
        object(&wire.metadata.clone(), wire.try_into())
    }
}
