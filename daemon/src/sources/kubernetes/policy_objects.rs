//! Pods, Namespaces, NetworkPolicies and ClusterNetworkPolicies of the API, trimmed to what policies are compiled from: four reflectors
//! that keep them in one place, and wake whoever compiles. A fifth one keeps ServiceCIDRs, from which no policy follows: only what is said
//! of policies.
//!
//! What may not live here: what is known of the objects (`sources::policy_objects`), what a policy means (`policy`), and when it
//! is compiled (`reconcile`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::policy::cluster_policy::{self, ClusterPolicy};
use crate::policy::metadata::Metadata;
use crate::policy::namespace::{self, Namespace};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::rejected::Rejected;
use crate::policy::service_range::{self, ServiceRange};
use crate::sources::kept::Kept;
use crate::sources::kubernetes::client::Failure;
use crate::sources::kubernetes::reflector::{Kind, Object, Reflector, Store};
use crate::sources::policy_objects::{Objects, PolicyObjects, Read};

/// Follows the API's objects; each change wakes.
pub(crate) fn start(kubeconfig: Option<&PathBuf>, wake: &SyncSender<()>) -> PolicyObjects {
    let objects = PolicyObjects::default();
    follow(kubeconfig, &objects, wake, Some(0), (|objects| &objects.pods, |objects| &mut objects.pods));
    follow(kubeconfig, &objects, wake, Some(1), (|objects| &objects.namespaces, |objects| &mut objects.namespaces));
    follow(kubeconfig, &objects, wake, Some(2), (|objects| &objects.policies, |objects| &mut objects.policies));
    follow(
        kubeconfig,
        &objects,
        wake,
        Some(3),
        (|objects| &objects.cluster_policies, |objects| &mut objects.cluster_policies),
    );
    follow(
        kubeconfig,
        &objects,
        wake,
        None,
        (|objects| &objects.service_ranges, |objects| &mut objects.service_ranges),
    );
    objects
}

/// The objects of one kind.
type Of<T> = (fn(&Objects) -> &Kept<Read<T>>, fn(&mut Objects) -> &mut Kept<Read<T>>);

fn follow<T>(
    kubeconfig: Option<&PathBuf>,
    objects: &PolicyObjects,
    wake: &SyncSender<()>,
    place: Option<usize>,
    of: Of<T>,
) where
    OfKind<T>: Kind,
    T: PartialEq + Send + Sync + 'static,
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
    /// Its place among the four that policies follow from; `None` for one from which none does.
    place: Option<usize>,
    of: Of<T>,
    wake: SyncSender<()>,
}

impl<T: PartialEq> Following<T> {
    fn change(&self, change: impl FnOnce(&mut Kept<Read<T>>)) {
        self.note(|objects| change((self.of.1)(objects)));
    }

    fn note(&self, change: impl FnOnce(&mut Objects)) {
        self.objects.change(change);
        // One wake-up that has not been taken stands for all.
        let _ = self.wake.try_send(());
    }
}

impl<T: PartialEq + Send + Sync + 'static> Store for Following<T>
where
    OfKind<T>: Kind,
{
    type Kind = OfKind<T>;

    fn count(&self) -> usize {
        (self.of.0)(&self.objects.newest()).len()
    }

    fn replace(&mut self, objects: BTreeMap<String, OfKind<T>>) {
        self.change(|kept| kept.replace(objects.into_iter().map(|(key, object)| (key, object.0))));
        if let Some(place) = self.place {
            self.note(|objects| objects.listed[place] = true);
        }
    }

    fn set(&mut self, key: String, object: OfKind<T>) {
        self.change(|kept| kept.set(key, object.0));
    }

    fn remove(&mut self, key: &str) {
        self.change(|kept| kept.remove(key));
    }

    fn connected(&mut self) {
        if self.objects.newest().failures.contains_key(OfKind::<T>::PLURAL) {
            self.note(|objects| drop(objects.failures.remove(OfKind::<T>::PLURAL)));
        }
    }

    /// What is known stays, and so does what is in force. The log says it; a problem it is only where policies follow from the kind.
    fn failed(&mut self, failure: &Failure) {
        if self.place.is_none() {
            return;
        }
        self.note(|objects| drop(objects.failures.insert(OfKind::<T>::PLURAL.into(), failure.to_string())));
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

impl Kind for OfKind<ClusterPolicy> {
    const PATH: &'static str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
    const ELSEWHERE: Option<&'static [&'static str]> =
        Some(&["/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies"]);
    const PLURAL: &'static str = "clusternetworkpolicies";
    type Wire = cluster_policy::Wire;

    fn trim(wire: cluster_policy::Wire) -> Object<Self> {
        object(&wire.metadata.clone(), wire.try_into())
    }
}

impl Kind for OfKind<ServiceRange> {
    const PATH: &'static str = "/apis/networking.k8s.io/v1/servicecidrs";
    // Since Kubernetes 1.33; 1.31 and 1.32 may have it as v1beta1.
    const ELSEWHERE: Option<&'static [&'static str]> = Some(&["/apis/networking.k8s.io/v1beta1/servicecidrs"]);
    const PLURAL: &'static str = "servicecidrs";
    type Wire = service_range::Wire;

    fn trim(wire: service_range::Wire) -> Object<Self> {
        object(&wire.metadata.clone(), Ok(wire.into()))
    }
}
