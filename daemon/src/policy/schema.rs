//! The fields of objects that people write, and the types of their values. An API server refuses what it does not know; from a
//! file, a misspelt `podSelector` would select every pod.

use podwire_conf::shown;
use serde_json::Value;

use crate::policy::rejected::{Complaints, Reason, SHOWN};

/// What a value has to look like.
pub(super) enum Shape {
    Text,
    Integer,
    Boolean,
    IntegerOrText,
    /// Any keys, with texts as values.
    Texts,
    List(&'static Self),
    /// These fields and no others.
    Closed(&'static [(&'static str, Self)]),
    /// These fields, among others that do not matter.
    Open(&'static [(&'static str, Self)]),
}

use Shape::{Boolean, Closed, Integer, IntegerOrText, List, Open, Text, Texts};

/// The kinds of objects: apiVersion, kind, and what they look like.
pub(super) const KINDS: [(&str, &str, Shape); 5] = [
    ("v1", "Pod", POD),
    ("v1", "Namespace", Open(&[METADATA])),
    ("networking.k8s.io/v1", "NetworkPolicy", POLICY),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", CLUSTER_POLICY),
    ("policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy", CLUSTER_POLICY),
];

const METADATA: (&str, Shape) = (
    "metadata",
    Open(&[
        ("name", Text),
        ("namespace", Text),
        ("uid", Text),
        ("resourceVersion", Text),
        ("creationTimestamp", Text),
        ("labels", Texts),
        ("annotations", Texts),
    ]),
);

const POLICY: Shape = Closed(&[
    ("apiVersion", Text),
    ("kind", Text),
    METADATA,
    (
        "spec",
        Closed(&[
            ("podSelector", SELECTOR),
            ("policyTypes", List(&Text)),
            ("ingress", List(&Closed(&[("from", List(&PEER)), ("ports", List(&PORT))]))),
            ("egress", List(&Closed(&[("to", List(&PEER)), ("ports", List(&PORT))]))),
        ]),
    ),
]);

const CLUSTER_POLICY: Shape = Closed(&[
    ("apiVersion", Text),
    ("kind", Text),
    METADATA,
    (
        "spec",
        Closed(&[
            ("tier", Text),
            ("priority", Integer),
            ("subject", Closed(&[("namespaces", SELECTOR), ("pods", NAMESPACED)])),
            ("ingress", List(&Closed(&[NAME, ACTION, ("from", List(&Closed(&PODS))), PROTOCOLS]))),
            ("egress", List(&Closed(&[NAME, ACTION, ("to", List(&DESTINATION)), PROTOCOLS]))),
        ]),
    ),
    ("status", Open(&[])),
]);

const NAME: (&str, Shape) = ("name", Text);
const ACTION: (&str, Shape) = ("action", Text);
const PODS: [(&str, Shape); 2] = [("namespaces", SELECTOR), ("pods", NAMESPACED)];
const NAMESPACED: Shape = Closed(&[("namespaceSelector", SELECTOR), ("podSelector", SELECTOR)]);

const DESTINATION: Shape = Closed(&[
    ("namespaces", SELECTOR),
    ("pods", NAMESPACED),
    ("nodes", SELECTOR),
    ("networks", List(&Text)),
    ("domainNames", List(&Text)),
]);

const PROTOCOLS: (&str, Shape) =
    ("protocols", List(&Closed(&[("tcp", PORTS), ("udp", PORTS), ("sctp", PORTS), ("destinationNamedPort", Text)])));

const PORTS: Shape = Closed(&[(
    "destinationPort",
    Closed(&[("number", Integer), ("range", Closed(&[("start", Integer), ("end", Integer)]))]),
)]);

const PEER: Shape = Closed(&[
    ("podSelector", SELECTOR),
    ("namespaceSelector", SELECTOR),
    ("ipBlock", Closed(&[("cidr", Text), ("except", List(&Text))])),
]);

const PORT: Shape = Closed(&[("protocol", Text), ("port", IntegerOrText), ("endPort", Integer)]);

const SELECTOR: Shape = Closed(&[
    ("matchLabels", Texts),
    ("matchExpressions", List(&Closed(&[("key", Text), ("operator", Text), ("values", List(&Text))]))),
]);

const POD: Shape = Open(&[
    METADATA,
    (
        "spec",
        Open(&[
            ("nodeName", Text),
            ("hostNetwork", Boolean),
            ("containers", List(&CONTAINER)),
            ("initContainers", List(&CONTAINER)),
        ]),
    ),
    ("status", Open(&[("phase", Text), ("podIP", Text), ("podIPs", List(&Open(&[("ip", Text)])))])),
]);

const CONTAINER: Shape = Open(&[
    ("restartPolicy", Text),
    ("ports", List(&Open(&[("name", Text), ("containerPort", Integer), ("protocol", Text)]))),
]);

/// Complains about every field that is not known, and every value of another type.
pub(super) fn check(value: &Value, shape: &Shape, field: &str, complaints: &mut Complaints) {
    let below = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match (shape, value) {
        // A field without a value is not there.
        (_, Value::Null) | (Text, Value::String(_)) | (Boolean, Value::Bool(_)) | (IntegerOrText, Value::String(_)) => {
        }
        (Integer | IntegerOrText, Value::Number(number)) if number.is_i64() => {}
        (Texts, Value::Object(map)) => {
            map.iter().for_each(|(key, value)| check(value, &Text, &format!("{field}[{key}]"), complaints));
            // Where a value is needed, none is not the empty one.
            for (key, _) in map.iter().filter(|(_, value)| value.is_null()) {
                complaints.add(format!("{field}[{key}]"), Reason::Missing("a text; write \"\" for an empty one"));
            }
        }
        (List(shape), Value::Array(list)) => {
            for (place, value) in list.iter().enumerate() {
                let field = format!("{field}[{place}]");
                if value.is_null() {
                    complaints.add(&field, Reason::Missing("an entry of a list has a value"));
                }
                check(value, shape, &field, complaints);
            }
        }
        (Closed(fields) | Open(fields), Value::Object(map)) => {
            for (name, value) in map {
                match (fields.iter().find(|(known, _)| known == name), shape) {
                    (Some((_, shape)), _) => check(value, shape, &below(name), complaints),
                    (None, Closed(_)) => {
                        let known: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
                        complaints.add(below(name), Reason::UnknownField(known.join(", ")));
                    }
                    (None, _) => {}
                }
            }
        }
        _ => {
            let reason = format!("{} is not {}", shown::bounded(&value.to_string(), SHOWN), shape.description());
            complaints.add(field, Reason::Type(reason));
        }
    }
}

impl Shape {
    fn description(&self) -> &'static str {
        match self {
            Text => "a text; set it in quotes",
            Integer => "a whole number",
            Boolean => "true or false",
            IntegerOrText => "a number or a name",
            Texts => "a map of texts",
            List(_) => "a list",
            Closed(_) | Open(_) => "a map of fields",
        }
    }
}
