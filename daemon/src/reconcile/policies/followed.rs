//! What the compiled form has followed so far, and how much has to be done to follow what is there now.
//!
//! What may not live here: how a change is followed (`policy::incremental`).

use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::incremental::Changed;
use crate::policy::namespace::Namespace;
use crate::policy::owners::Owners;
use crate::policy::pod::Pod;
use crate::report::policies::Attached;
use crate::sources::policy_objects::Objects;

/// All that policies follow from.
#[derive(Default)]
pub(super) struct Followed {
    pub(super) objects: Arc<Objects>,
    pub(super) attached: Arc<Attached>,
    /// The namespaces that pods are in and that no object tells of.
    pub(super) without_object: Vec<Namespace>,
    pub(super) judged_as: Arc<[(IpAddr, IpAddr)]>,
}

impl Followed {
    /// The namespaces, also those that no object tells of.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.objects.namespaces().map(|namespace| &**namespace).chain(&self.without_object)
    }

    /// Whether enough is known of a pod's namespace to say which policies select the pod: those of the cluster do so by its labels.
    pub(super) fn tells_of_namespace(&self, pod: &Pod) -> bool {
        self.objects.cluster_policies().next().is_none()
            || self.objects.has_namespace(&pod.namespace)
            || self.without_object.iter().any(|namespace| namespace.name == pod.namespace)
    }

    /// How much has changed since before: pods one by one, of which the owners of addresses are told; the pods of this node;
    /// policies; or what everything is compiled for.
    pub(super) fn follows(&self, before: &Self, owners: &mut Owners) -> Changed {
        self.objects.changed_pods(&before.objects).for_each(|(before, after)| owners.change(before, after));
        let same_pods_here = Arc::ptr_eq(&self.attached, &before.attached) || self.attached == before.attached;
        if !same_pods_here {
            let attached = self.attached.values();
            owners.attach(attached.filter_map(|(pod, addresses)| Some((pod.as_ref()?, &addresses[..]))));
        }
        let same_namespaces =
            self.objects.same_namespaces(&before.objects) && self.without_object == before.without_object;
        let same_stand_ins = Arc::ptr_eq(&self.judged_as, &before.judged_as) || self.judged_as == before.judged_as;
        if !(same_namespaces && same_stand_ins) {
            Changed::All
        } else if !self.objects.same_policies(&before.objects) {
            Changed::Subjects
        } else if !same_pods_here {
            Changed::Attached
        } else {
            Changed::Owners
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::documents;
    use crate::reconcile::recorded_pods;
    use crate::sources::policy_objects::Origin;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a}\nspec: {nodeName: there}\nstatus: {podIPs: [{ip: 10.0.0.1}]}\n";
    const OTHER: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: db, namespace: a}\nspec: {nodeName: there}\n";
    const NAMESPACE: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {team: x}}\n";
    const POLICY: &str = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: a}\nspec: {podSelector: {}}\n";
    const ELSEWHERE: &str =
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: late, namespace: b}\nspec: {nodeName: there}\n";

    fn of(text: &str, own: Option<&Pod>) -> Followed {
        let objects = Objects::of_files(documents::Objects::read(text).unwrap());
        let without_object = recorded_pods::namespaces(&objects, own.into_iter());
        Followed { objects: Arc::new(objects), without_object, ..Followed::default() }
    }

    #[test]
    fn namespaces_that_come_or_go_have_everything_compiled_also_those_that_no_object_tells_of() {
        let changed = |before: &str, after: &str| {
            let mut owners = Owners::new("here");
            of(&(POD.to_owned() + after), None).follows(&of(&(POD.to_owned() + before), None), &mut owners)
        };
        assert_eq!(changed("", ""), Changed::Owners);
        assert_eq!(changed("", OTHER), Changed::Owners);
        assert_eq!(changed(POLICY, ""), Changed::Subjects);
        // Pods are the first or the last of a namespace that has no object.
        assert_eq!(changed("", ELSEWHERE), Changed::All);
        assert_eq!(changed(ELSEWHERE, ""), Changed::All);
        // An object for a namespace that had none, with other labels.
        assert_eq!(changed("", NAMESPACE), Changed::All);
        assert_eq!(changed(NAMESPACE, ""), Changed::All);
    }

    #[test]
    fn pods_of_this_node_whose_namespace_no_object_tells_of_count_as_well() {
        let own = documents::Objects::read(ELSEWHERE).unwrap().pods.remove(0);
        let mut owners = Owners::new("here");
        assert_eq!(of(POD, Some(&own)).follows(&of(POD, None), &mut owners), Changed::All);
        assert_eq!(of(POD, None).follows(&of(POD, Some(&own)), &mut owners), Changed::All);
    }

    #[test]
    fn a_pod_whose_namespace_is_not_known_yet_may_be_selected_by_a_policy_of_the_cluster() {
        let pod = documents::Objects::read(ELSEWHERE).unwrap().pods.remove(0);
        let policy = "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: all}\n\
                      spec: {tier: Admin, priority: 1, subject: {namespaces: {}}}\n";
        let known = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
        let of_api = |text: &str| {
            let mut objects = Objects::of_files(documents::Objects::read(text).unwrap());
            objects.origin = Origin::Api;
            Followed { objects: Arc::new(objects), ..Followed::default() }
        };
        assert!(of_api(NAMESPACE).tells_of_namespace(&pod), "NetworkPolicies select by labels of pods");
        assert!(!of_api(&(NAMESPACE.to_owned() + policy)).tells_of_namespace(&pod));
        assert!(of_api(&(known.to_owned() + policy)).tells_of_namespace(&pod));
        // From files a namespace without an object has its name.
        assert!(of(&(NAMESPACE.to_owned() + policy), Some(&pod)).tells_of_namespace(&pod));
    }

    #[test]
    fn a_pod_that_is_attached_here_may_be_a_subject_and_owns_its_addresses() {
        let pod = Arc::new(documents::Objects::read(ELSEWHERE).unwrap().pods.remove(0));
        let mut now = of(POD, None);
        let name =
            podwire_attachment::ledger::PodName { namespace: "b".into(), name: "late".into(), uid: String::new() };
        let address: IpAddr = "fd00::9".parse().unwrap();
        Arc::make_mut(&mut now.attached).insert(name, (Some(pod), vec![address]));
        let mut owners = Owners::new("here");
        assert_eq!(now.follows(&of(POD, None), &mut owners), Changed::Attached);
        assert_eq!(owners.changed().iter().map(|(address, _)| *address).collect::<Vec<_>>(), [address]);
    }
}
