//! Pods, Namespaces, NetworkPolicies and ClusterNetworkPolicies as they are known at present, whoever reads them: the objects, which of them cannot be
//! read, and why others cannot be had.
//!
//! What may not live here: where they come from (`kubernetes`), what a policy means (`policy`), and when it is compiled
//! (`reconcile`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::cluster_policy::ClusterPolicy;
#[cfg(test)]
use crate::policy::documents;
use crate::policy::namespace::Namespace;
use crate::policy::network_policy::NetworkPolicy;
use crate::policy::pod::Pod;
use crate::policy::rejected::Rejected;
use crate::policy::service_range::ServiceRange;
use crate::policy::unsupported::Unsupported;
use crate::sources::kept::Kept;

/// Who tells of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The Kubernetes API, of every pod.
    #[default]
    Api,
    /// Files, of some; of the others the records of those who have attached them.
    Files,
}

/// An object, or why it cannot be read.
pub(in crate::sources) type Read<T> = Result<Arc<T>, Rejected>;

/// What is known of the objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    /// Who tells of pods.
    pub(crate) origin: Origin,
    /// The pods.
    pub(in crate::sources) pods: Kept<Read<Pod>>,
    /// The namespaces.
    pub(in crate::sources) namespaces: Kept<Read<Namespace>>,
    /// The policies.
    pub(in crate::sources) policies: Kept<Read<NetworkPolicy>>,
    /// The policies of the cluster.
    pub(in crate::sources) cluster_policies: Kept<Read<ClusterPolicy>>,
    /// What addresses are Services': no policy follows from it, so it need not be known.
    pub(in crate::sources) service_ranges: Kept<Read<ServiceRange>>,
    /// Which of the first four have been read once.
    pub(in crate::sources) listed: [bool; 4],
    /// Why some of them cannot be had at present, by what that is about.
    pub(in crate::sources) failures: BTreeMap<String, String>,
}

impl Objects {
    /// Those of files.
    #[cfg(test)]
    pub(crate) fn of_files(read: documents::Objects) -> Self {
        let mut objects = Self { origin: Origin::Files, listed: [true; 4], ..Self::default() };
        let named = |pod: Pod| (format!("{}/{}", pod.namespace, pod.name), Ok(Arc::new(pod)));
        objects.pods.replace(read.pods.into_iter().map(named));
        let named = |namespace: Namespace| (namespace.name.to_string(), Ok(Arc::new(namespace)));
        objects.namespaces.replace(read.namespaces.into_iter().map(named));
        let named = |policy: NetworkPolicy| (policy.name.to_string(), Ok(Arc::new(policy)));
        objects.policies.replace(read.policies.into_iter().map(named));
        let named = |policy: ClusterPolicy| (policy.name.to_string(), Ok(Arc::new(policy)));
        objects.cluster_policies.replace(read.cluster_policies.into_iter().map(named));
        objects
    }

    /// Whether all that policies follow from is known.
    pub(crate) fn are_complete(&self) -> bool {
        self.listed == [true; 4]
    }

    /// Why objects cannot be had at present, behind what that is about; what is known of them stays.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&String, &String)> {
        self.failures.iter()
    }

    /// The pods in which these differ from what they were: each as it was and as it is.
    pub(crate) fn changed_pods<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>)> {
        let read = |pod: Option<&'a Read<Pod>>| pod.and_then(|pod| pod.as_ref().ok());
        self.pods.changed_since(&before.pods).map(move |(before, after)| (read(before), read(after)))
    }

    /// Whether the same cannot be had as before, and all that has changed since then can be read and could be.
    pub(crate) fn fail_as(&self, before: &Self) -> bool {
        fn are_read<T: PartialEq>(now: &Kept<Read<T>>, before: &Kept<Read<T>>) -> bool {
            let mut changed = now.changed_since(before).flat_map(|(before, after)| [before, after]);
            changed.all(|object| object.is_none_or(Result::is_ok))
        }
        self.failures == before.failures
            && are_read(&self.pods, &before.pods)
            && are_read(&self.namespaces, &before.namespaces)
            && are_read(&self.policies, &before.policies)
            // What of one is not supported is wrong as well.
            && self.cluster_policies.changed_since(&before.cluster_policies).next().is_none()
    }

    /// Whether these have the same namespaces as before.
    pub(crate) fn same_namespaces(&self, before: &Self) -> bool {
        self.namespaces.changed_since(&before.namespaces).next().is_none()
    }

    /// Whether these have the same policies as before, those of the cluster included.
    pub(crate) fn same_policies(&self, before: &Self) -> bool {
        self.policies.changed_since(&before.policies).next().is_none()
            && self.cluster_policies.changed_since(&before.cluster_policies).next().is_none()
    }

    /// Whether these are the same objects as before.
    pub(in crate::sources) fn same_as(&self, before: &Self) -> bool {
        self.same_namespaces(before)
            && self.same_policies(before)
            && self.pods.changed_since(&before.pods).next().is_none()
    }

    /// The pods.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values().flatten()
    }

    /// The pod of this name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(&format!("{namespace}/{name}"))?.as_ref().ok()
    }

    /// Whether there is a namespace of this name, though it may be one that cannot be read.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some()
    }

    /// The namespaces.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values().flatten()
    }

    /// The policies.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Arc<NetworkPolicy>> {
        self.policies.values().flatten()
    }

    /// The policies of the cluster.
    pub(crate) fn cluster_policies(&self) -> impl Iterator<Item = &Arc<ClusterPolicy>> {
        self.cluster_policies.values().flatten()
    }

    /// What addresses are Services', as far as it is known.
    pub(crate) fn service_ranges(&self) -> impl Iterator<Item = &Arc<ServiceRange>> {
        self.service_ranges.values().flatten()
    }

    /// What rules of these have that is not supported, each with the name of its policy.
    pub(crate) fn unsupported(&self) -> impl Iterator<Item = (&str, &Unsupported)> {
        self.cluster_policies().flat_map(|policy| policy.unsupported.iter().map(|found| (&*policy.name, found)))
    }

    /// The policies that cannot be read. The API server accepts none that is wrong, so these are newer than this program.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = &Rejected> {
        let policies = self.policies.values().filter_map(|policy| policy.as_ref().err());
        policies.chain(self.cluster_policies.values().filter_map(|policy| policy.as_ref().err()))
    }

    /// The pods and namespaces that cannot be read: no policy sees them.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = &Rejected> {
        let pods = self.pods.values().filter_map(|pod| pod.as_ref().err());
        pods.chain(self.namespaces.values().filter_map(|namespace| namespace.as_ref().err()))
    }
}

/// The objects, shared between whoever reads them and whoever compiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyObjects(Arc<Mutex<Arc<Objects>>>);

impl PolicyObjects {
    /// The objects as they are now.
    pub(crate) fn newest(&self) -> Arc<Objects> {
        self.lock().clone()
    }

    /// Changes them. Whoever compiles has them as they were before: what is copied for that is the part of them that changes.
    pub(in crate::sources) fn change(&self, change: impl FnOnce(&mut Objects)) {
        change(Arc::make_mut(&mut self.lock()));
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Objects>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
