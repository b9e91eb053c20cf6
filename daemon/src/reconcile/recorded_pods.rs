//! Pods of this node without an API: what the ledger's records say of them, and over that the Pod objects of files.
//!
//! What may not live here: pods of other nodes, which are known by their objects alone, and what is in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use podwire_attachment::ledger::{PodName, Record};

use crate::policy::labels::Labels;
use crate::policy::named_ports::NamedPorts;
use crate::policy::namespace::Namespace;
use crate::policy::pod::Pod;
use crate::policy::text::Text;
use crate::sources::policy_objects::{Objects, Origin};

/// The namespace of pods whose runtime gives none, as for who writes files for an API.
const NAMESPACE: &str = "default";

/// The pod of a record, where no API tells of it. Its UID is the container: two containers may be called the same, one that
/// ends and one that takes its place, and each has the labels of its own record.
pub(super) fn pod(objects: &Objects, record: &Record) -> Option<(PodName, Arc<Pod>)> {
    if objects.origin == Origin::Api {
        return None;
    }
    let container = record.attachment.container.as_str();
    let given = record.pod.as_ref();
    let or = |given: Option<&String>, default: &str| match given.filter(|given| !given.is_empty()) {
        Some(given) => given.clone(),
        None => default.to_owned(),
    };
    let namespace = or(given.map(|pod| &pod.namespace), NAMESPACE);
    let name = or(given.map(|pod| &pod.name), container);
    let pod = match objects.pod(&namespace, &name) {
        Some(object) => Pod { uid: container.into(), ..(**object).clone() },
        None => Pod {
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
            uid: container.into(),
            created: 0,
            labels: Labels::new(
                record.labels.iter().map(|(key, value)| (Text::from(key.as_str()), Text::from(value.as_str()))),
            ),
            node: "".into(),
            addresses: Box::default(),
            named_ports: NamedPorts::default(),
            host_network: false,
            finished: false,
        },
    };
    Some((PodName { namespace, name, uid: container.to_owned() }, Arc::new(pod)))
}

/// The namespaces that pods are in and that no object tells of, where no API does.
pub(super) fn namespaces<'a>(objects: &'a Objects, own: impl Iterator<Item = &'a Pod>) -> Vec<Namespace> {
    if objects.origin == Origin::Api {
        return Vec::new();
    }
    let known: BTreeSet<_> = objects.namespaces().map(|namespace| &namespace.name).collect();
    let named: BTreeSet<_> = objects.pods().map(|pod| &**pod).chain(own).map(|pod| &pod.namespace).collect();
    named.difference(&known).map(|name| Namespace::without_object(name)).collect()
}
