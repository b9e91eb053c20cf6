//! Objects in YAML documents, as people write them for `kubectl apply`: read with the defaults and the validation that an API
//! server would add, and with all complaints at once.

use std::collections::HashSet;

use podwire_conf::shown;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::policy::cluster_policy::{self, ClusterPolicy};
use crate::policy::namespace::{self, Namespace};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::rejected::{Complaint, Complaints, Reason, Rejected, quoted};
use crate::policy::schema::{self, KINDS};
use crate::policy::unsupported::Unknown;

/// The most objects in one text.
const OBJECTS: usize = 100_000;

/// How much is shown of what the reader of YAML says, in characters.
const SHOWN: usize = 400;

/// The objects of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its namespaces.
    pub namespaces: Vec<Namespace>,
    /// Its policies.
    pub policies: Vec<NetworkPolicy>,
    /// Its policies of the cluster.
    pub cluster_policies: Vec<ClusterPolicy>,
}

impl Objects {
    /// Reads a text of YAML documents. One of the kind `List` counts as its items.
    ///
    /// # Errors
    /// Everything that is wrong, object by object.
    pub fn read(text: &str) -> Result<Self, Vec<Rejected>> {
        let of_text = |reason| vec![Rejected { kind: String::new(), name: String::new(), complaints: vec![reason] }];
        // As `kubectl` reads them: a label may be `y`.
        let options = serde_saphyr::options! { strict_booleans: true };
        let documents = serde_saphyr::from_multiple_with_options::<Value>(text, options).map_err(|error| {
            let reason = Reason::Type(shown::bounded(&error.to_string(), SHOWN));
            of_text(Complaint { field: String::new(), reason })
        })?;
        let mut objects = Vec::new();
        for document in documents {
            match document {
                Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                    match list.remove("items") {
                        Some(Value::Array(items)) => objects.extend(items),
                        other => objects.extend(other),
                    }
                }
                // Between two separators there may be nothing.
                Value::Null => {}
                object => objects.push(object),
            }
        }
        if objects.len() > OBJECTS {
            let reason = Reason::TooMany { count: objects.len(), most: OBJECTS };
            return Err(of_text(Complaint { field: String::new(), reason }));
        }
        let (mut read, mut rejected, mut seen) = (Self::default(), Vec::new(), HashSet::new());
        for (place, object) in objects.into_iter().enumerate() {
            rejected.extend(read.add(object, place, &mut seen).err());
        }
        if rejected.is_empty() { Ok(read) } else { Err(rejected) }
    }

    fn add(&mut self, object: Value, place: usize, seen: &mut HashSet<[String; 3]>) -> Result<(), Rejected> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text(object.get("apiVersion")), text(object.get("kind")));
        let metadata = object.get("metadata");
        let name = text(metadata.and_then(|metadata| metadata.get("name")));
        let namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
        let full = match (namespace.as_str(), name.as_str()) {
            (_, "") => format!("(object {} of the text)", place + 1),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        let mut complaints = Complaints::default();
        match KINDS.iter().find(|(known, of_kind, _)| *known == version && *of_kind == kind) {
            Some((.., shape)) => schema::check(&object, shape, "", &mut complaints),
            None => {
                let value = quoted(&format!("{version} {kind}"));
                let allowed = "v1 Pod, v1 Namespace, networking.k8s.io/v1 NetworkPolicy or policy.networking.k8s.io/v1alpha2 \
                               ClusterNetworkPolicy";
                complaints.add("apiVersion, kind", Reason::Syntax { value, allowed });
            }
        }
        let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace };
        if !name.is_empty() && !seen.insert([kind.clone(), namespace, name]) {
            complaints.add("metadata.name", Reason::Twice);
        }
        complaints.accept(&kind, full.clone(), ())?;
        match kind.as_str() {
            "Pod" => self.pods.push(typed::<pod::Wire>(object, &kind, &full)?.try_into()?),
            "Namespace" => self.namespaces.push(typed::<namespace::Wire>(object, &kind, &full)?.try_into()?),
            "ClusterNetworkPolicy" => {
                let policy = typed::<cluster_policy::Wire>(object, &kind, &full)?.try_into()?;
                self.cluster_policies.push(whole(policy)?);
            }
            _ => self.policies.push(typed::<network_policy::Wire>(object, &kind, &full)?.try_into()?),
        }
        Ok(())
    }
}

/// A policy none of whose parts is empty: there is nothing in a text that is not known, so none is newer than this program.
fn whole(policy: ClusterPolicy) -> Result<ClusterPolicy, Rejected> {
    let mut complaints = Complaints::default();
    for unsupported in policy.unsupported.iter().filter(|unsupported| unsupported.what == Unknown::Newer) {
        complaints.add(&unsupported.field, Reason::Missing("one of its fields has to be there"));
    }
    complaints.accept("ClusterNetworkPolicy", policy.name.to_string(), policy)
}

/// An object of a known kind whose fields have been looked at.
fn typed<T: DeserializeOwned>(object: Value, kind: &str, name: &str) -> Result<T, Rejected> {
    serde_json::from_value(object).map_err(|error| {
        let reason = Reason::Type(shown::bounded(&error.to_string(), SHOWN));
        Rejected { kind: kind.into(), name: name.into(), complaints: vec![Complaint { field: String::new(), reason }] }
    })
}
