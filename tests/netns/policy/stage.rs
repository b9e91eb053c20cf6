//! What scenes of policies have in common: pods with objects of any kind, and whether first packets between them pass, each by
//! its name, at any port and in both families.

use std::net::IpAddr;
use std::time::Duration;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::policies;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::{Lab, SOON, eventually, outside_address};
use serde_json::{Value, json};

use super::attempts::{Answering, Attempt, otherwise};

/// While a change is waited for, what should arrive is tried anew after so long.
const TRIED_ANEW: Duration = Duration::from_millis(300);

/// From, to, protocol and port (`TCP/80`), and whether it passes.
pub(super) type Expected<'a> = (&'a str, &'a str, &'a str, bool);

/// The labels of pods of an application.
pub(super) fn app(name: &str) -> Value {
    json!({"app": name})
}

/// The spec of a policy that selects the pods of an application.
pub(super) fn of(name: &str, rest: &Value) -> Value {
    let mut spec = rest.clone();
    spec["podSelector"] = json!({"matchLabels": app(name)});
    spec
}

/// Attaches a pod, called NAMESPACE/NAME or NAME, and writes its object, with fields that are put over the usual ones.
pub(super) fn add_pod(lab: &mut Lab, node: usize, full: &str, labels: &Value, fields: &Value) -> Outcome {
    let (namespace, name) = full.split_once('/').unwrap_or(("default", full));
    policies::add_pod_in(&mut lab.nodes[node], namespace, name, &[])?;
    let object = policies::object(&lab.nodes[node], namespace, name, labels);
    put_object(lab, object, fields)
}

/// Writes the object of a pod that is not attached.
pub(super) fn put_pod(
    lab: &Lab,
    node: usize,
    name: &str,
    addresses: &[IpAddr],
    labels: &Value,
    fields: &Value,
) -> Outcome {
    let addresses: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": lab.nodes[node].host.name}, "status": {"podIPs": addresses},
    });
    put_object(lab, object, fields)
}

fn put_object(lab: &Lab, mut object: Value, fields: &Value) -> Outcome {
    put_over(&mut object, fields);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    policies::write(lab, &format!("pod-{name}.json"), &object.to_string())
}

fn put_over(object: &mut Value, fields: &Value) {
    match fields {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| put_over(&mut object[name], value)),
        value => *object = value.clone(),
    }
}

/// The field of a pod whose container has a name for a port.
pub(super) fn port_called(name: &str, number: u16) -> Value {
    json!({"spec": {"containers": [{"ports": [{"name": name, "containerPort": number}]}]}})
}

/// Those who answer in a scene.
pub(super) struct Answerers {
    answering: Vec<Answering>,
    /// Services: the name, the address of each family, and whose answer comes from there.
    services: Vec<(&'static str, [IpAddr; 2], &'static str)>,
}

impl Answerers {
    /// Every pod.
    pub(super) fn pods(lab: &Lab) -> Outcome<Self> {
        Self::of(lab, |_| true)
    }

    /// Some pods, by their names.
    pub(super) fn of(lab: &Lab, these: impl Fn(&str) -> bool) -> Outcome<Self> {
        let pods = lab.nodes.iter().flat_map(|node| &node.pods).filter(|pod| these(&pod.host.name));
        let answering = pods.map(|pod| Answering::start(&pod.host)).collect::<Outcome<_>>()?;
        Ok(Self { answering, services: Vec::new() })
    }

    /// And a host, at a port.
    pub(super) fn and(mut self, host: &Host, port: u16) -> Outcome<Self> {
        self.answering.push(Answering::start_at(host, port)?);
        Ok(self)
    }

    /// What a Service's address leads to, from now on.
    pub(super) fn service(&mut self, name: &'static str, addresses: [IpAddr; 2], endpoint: &'static str) {
        self.services.retain(|(other, ..)| *other != name);
        self.services.push((name, addresses, endpoint));
    }

    /// That it becomes so.
    pub(super) fn soon(&mut self, lab: &Lab, expected: &[Expected<'_>]) -> Outcome {
        eventually(SOON, || self.try_all(lab, expected, TRIED_ANEW))
    }

    /// That it is so.
    pub(super) fn now(&mut self, lab: &Lab, expected: &[Expected<'_>]) -> Outcome {
        self.try_all(lab, expected, SOON)
    }

    fn try_all(&mut self, lab: &Lab, expected: &[Expected<'_>], patience: Duration) -> Outcome {
        let mut attempts = Vec::new();
        for (from, to, port, arrives) in expected {
            let service = self.services.iter().find(|(name, ..)| name == to);
            let who = service.map_or(*to, |(.., endpoint)| *endpoint);
            let at = self.answering.iter().position(|one| one.name() == who);
            let at = at.ok_or_else(|| format!("{who} does not answer in this scene"))?;
            let (protocol, port) = port.split_once('/').ok_or("a port is PROTOCOL/NUMBER")?;
            let port: u16 = port.parse().map_err(|error| format!("{port}: {error}"))?;
            for (number, like) in FAMILIES.into_iter().enumerate() {
                let to = service.map_or_else(|| address(lab, to, like), |(_, addresses, _)| Ok(addresses[number]))?;
                attempts.push(Attempt {
                    from: host(lab, from)?,
                    protocol,
                    to: (to, port).into(),
                    at,
                    arrives: *arrives,
                });
            }
        }
        let differ = otherwise(&mut self.answering, &attempts, patience)?;
        let sentence = |place: &usize| {
            let (from, to, port, arrives) = expected[place / FAMILIES.len()];
            let became = if arrives { "does not arrive" } else { "arrives" };
            format!("{port} from {from} to {to} ({}) {became}", attempts[*place].to.ip())
        };
        let differ: Vec<_> = differ.iter().map(sentence).collect();
        check(differ.is_empty(), || differ.join("; "))
    }
}

/// A pod, a node or the outside host, by its name.
fn host<'a>(lab: &'a Lab, name: &str) -> Outcome<&'a Host> {
    let nodes = lab.nodes.iter().flat_map(|node| node.pods.iter().map(|pod| &pod.host).chain([&node.host]));
    let found = nodes.chain([&lab.outside]).find(|host| host.name == name);
    found.ok_or_else(|| format!("there is no {name}"))
}

/// The address of a pod, a node or the outside host.
pub(super) fn address(lab: &Lab, name: &str, like: IpAddr) -> Outcome<IpAddr> {
    if name == lab.outside.name {
        return Ok(outside_address(like));
    }
    for node in &lab.nodes {
        if node.host.name == name {
            return Ok(underlay_address(node.number, like));
        }
        if let Some(pod) = node.pods.iter().find(|pod| pod.host.name == name) {
            return Ok(pod.address(like));
        }
    }
    Err(format!("there is no {name}"))
}
