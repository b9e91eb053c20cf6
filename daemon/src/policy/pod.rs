//! A pod, cut down to what policies need of it: some 300 bytes of some ten thousand.

use std::net::IpAddr;

use podwire_conf::syntax;
use serde::Deserialize;

use crate::policy::labels::Labels;
use crate::policy::metadata::Metadata;
use crate::policy::named_ports::{NamedPort, NamedPorts};
use crate::policy::port::Protocol;
use crate::policy::rejected::{Complaints, Reason, Rejected, quoted};
use crate::policy::text::Text;

/// The most addresses of a pod: Kubernetes allows one of each family.
const ADDRESSES: usize = 16;

/// The most ports of a pod's containers that have names.
const NAMED_PORTS: usize = 1024;

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Box<str>,
    /// The UID that its runtime knows it by: that of its object, or, of a static pod, whose object is its mirror in the API, the
    /// one in `kubernetes.io/config.hash`. Empty for a pod from a file that has none.
    pub uid: Box<str>,
    /// When it was created, as a number that grows with time.
    pub created: u64,
    /// Its labels.
    pub labels: Labels,
    /// The node that it is on; empty before it is scheduled.
    pub node: Text,
    /// Its addresses, as its node has reported them.
    pub addresses: Box<[IpAddr]>,
    /// The ports that its containers have names for.
    pub named_ports: NamedPorts,
    /// Whether it has its node's network, and is no matter of policies.
    pub host_network: bool,
    /// Whether it has finished for good: its addresses may be another pod's.
    pub finished: bool,
}

/// A Pod as the API writes it; what is not needed is skipped unread.
#[derive(Debug, Clone, Deserialize)]
pub struct Wire {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<String>,
    container_port: i64,
    protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

impl Pod {
    /// Whether this is the pod that a runtime knows by this UID; a runtime may give none.
    pub fn has_uid(&self, uid: &str) -> bool {
        uid.is_empty() || *self.uid == *uid
    }
}

impl TryFrom<Wire> for Pod {
    type Error = Rejected;

    fn try_from(Wire { metadata, spec, status }: Wire) -> Result<Self, Rejected> {
        let mut complaints = Complaints::default();
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        metadata.check_names(&mut complaints);
        let node = spec.node_name.as_deref().unwrap_or_default();
        if !node.is_empty() {
            complaints.syntax("spec.nodeName", node, syntax::subdomain);
        }
        let pod = Self {
            namespace: metadata.namespace().into(),
            name: metadata.name.as_str().into(),
            uid: metadata.runtime_uid().into(),
            created: metadata.created(),
            labels: metadata.labels(&[], &mut complaints),
            node: node.into(),
            addresses: status.addresses(&mut complaints),
            named_ports: spec.named_ports(&mut complaints),
            host_network: spec.host_network.unwrap_or(false),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        };
        complaints.accept("Pod", metadata.full_name(), pod)
    }
}

impl Spec {
    fn named_ports(&self, complaints: &mut Complaints) -> NamedPorts {
        // An init container that is restarted is a sidecar, which runs as long as the pod.
        let sidecars = self.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports =
            self.containers.iter().flatten().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
        let named =
            ports.filter_map(|port| port.name.as_deref().filter(|name| !name.is_empty()).map(|name| (name, port)));
        complaints.bound("spec.containers.ports", named.clone().count(), NAMED_PORTS);
        let read = named.take(NAMED_PORTS).filter_map(|(name, port)| {
            complaints.syntax("spec.containers.ports.name", name, syntax::port_name);
            let protocol = port.protocol.as_deref().map_or(Some(Protocol::Tcp), Protocol::parse);
            if protocol.is_none() {
                let value = quoted(port.protocol.as_deref().unwrap_or_default());
                let reason = Reason::Syntax { value, allowed: "TCP, UDP or SCTP" };
                complaints.add("spec.containers.ports.protocol", reason);
            }
            let number = u16::try_from(port.container_port).ok().filter(|number| *number != 0);
            if number.is_none() {
                complaints.add("spec.containers.ports.containerPort", Reason::NoPort(port.container_port));
            }
            Some(NamedPort { name: name.into(), protocol: protocol?, number: number? })
        });
        NamedPorts::new(read.collect::<Vec<_>>())
    }
}

impl Status {
    fn addresses(&self, complaints: &mut Complaints) -> Box<[IpAddr]> {
        let listed = self.pod_ips.as_deref().unwrap_or_default();
        complaints.bound("status.podIPs", listed.len(), ADDRESSES);
        let listed = listed.iter().take(ADDRESSES).map(|entry| entry.ip.as_str());
        let written = self.pod_ip.as_deref().into_iter().chain(listed).filter(|address| !address.is_empty());
        let mut addresses: Vec<IpAddr> = Vec::new();
        for text in written {
            match text.parse::<IpAddr>() {
                // An address of IPv4 that is written as one of IPv6 is the same address.
                Ok(address) if !addresses.contains(&address.to_canonical()) => addresses.push(address.to_canonical()),
                Ok(_) => {}
                Err(_) => complaints.add("status.podIPs", Reason::NoAddress(quoted(text))),
            }
        }
        addresses.into()
    }
}
