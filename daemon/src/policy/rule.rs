//! One rule of a policy: who may speak with the pods that it selects, and on which ports.

use podwire_conf::syntax;
use serde::Deserialize;

use crate::policy::ip_block::{self, IpBlock};
use crate::policy::port::{Ports, Protocol, Which};
use crate::policy::rejected::{Complaints, Reason, quoted};
use crate::policy::selector::{self, Selector};

/// The most peers and the most ports of a rule.
const PEERS: usize = 1024;
const PORTS: usize = 1024;

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who; `None`: everybody.
    pub peers: Option<Box<[Peer]>>,
    /// On which ports; `None`: on all, of every protocol.
    pub ports: Option<Box<[Ports]>>,
}

/// One sort of peers of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Pods that have these labels in namespaces that have those.
    Pods {
        /// The namespaces; `None`: the policy's own.
        namespaces: Option<Selector>,
        /// The pods in them.
        pods: Selector,
    },
    /// Addresses, whoever has them.
    Block(IpBlock),
}

/// A rule as the API writes it: an ingress rule has `from`, an egress rule `to`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    #[serde(alias = "to")]
    from: Option<Vec<PeerWire>>,
    ports: Option<Vec<PortWire>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerWire {
    pod_selector: Option<selector::Wire>,
    namespace_selector: Option<selector::Wire>,
    ip_block: Option<ip_block::Wire>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortWire {
    protocol: Option<String>,
    port: Option<PortOrName>,
    end_port: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a port is a number or a name")]
enum PortOrName {
    Number(i64),
    Name(String),
}

impl Wire {
    /// The rule, as far as nothing is wrong with it. `of_peers` is what the API calls the list of peers.
    pub(super) fn read(self, field: &str, of_peers: &str, complaints: &mut Complaints) -> Rule {
        let (peers, ports) = (self.from.unwrap_or_default(), self.ports.unwrap_or_default());
        let fields = [format!("{field}.{of_peers}"), format!("{field}.ports")];
        complaints.bound(&fields[0], peers.len(), PEERS);
        complaints.bound(&fields[1], ports.len(), PORTS);
        // An empty list is none, and means everything.
        let (any_peer, any_port) = (peers.is_empty(), ports.is_empty());
        let numbered = |field: &str, place: usize| format!("{field}[{place}]");
        let peers = peers.into_iter().take(PEERS).enumerate();
        let peers: Box<[_]> =
            peers.filter_map(|(place, peer)| peer.read(&numbered(&fields[0], place), complaints)).collect();
        let ports = ports.into_iter().take(PORTS).enumerate();
        let ports: Box<[_]> =
            ports.filter_map(|(place, port)| port.read(&numbered(&fields[1], place), complaints)).collect();
        Rule { peers: (!any_peer).then_some(peers), ports: (!any_port).then_some(ports) }
    }
}

impl PeerWire {
    fn read(self, field: &str, complaints: &mut Complaints) -> Option<Peer> {
        let selects = self.pod_selector.is_some() || self.namespace_selector.is_some();
        let mut select = |name: &str, wire: selector::Wire| wire.read(&format!("{field}.{name}"), complaints);
        let pods = self.pod_selector.map(|wire| select("podSelector", wire)).unwrap_or_default();
        let namespaces = self.namespace_selector.map(|wire| select("namespaceSelector", wire));
        let Some(block) = self.ip_block else {
            if !selects {
                complaints.add(field, Reason::Missing("a peer has podSelector, namespaceSelector or ipBlock"));
            }
            return Some(Peer::Pods { namespaces, pods });
        };
        if selects {
            let reason = Reason::Conflict("a peer with an ipBlock has no podSelector and no namespaceSelector");
            complaints.add(format!("{field}.ipBlock"), reason);
        }
        block.read(&format!("{field}.ipBlock"), complaints).map(Peer::Block)
    }
}

impl PortWire {
    fn read(self, field: &str, complaints: &mut Complaints) -> Option<Ports> {
        let protocol = self.protocol.as_deref().map_or(Some(Protocol::Tcp), Protocol::parse);
        if protocol.is_none() {
            let value = quoted(self.protocol.as_deref().unwrap_or_default());
            complaints.add(format!("{field}.protocol"), Reason::Syntax { value, allowed: "TCP, UDP or SCTP" });
        }
        let last = self.end_port.and_then(|last| port(&format!("{field}.endPort"), last, complaints));
        let which = match self.port {
            Some(PortOrName::Number(first)) => {
                let first = port(&format!("{field}.port"), first, complaints)?;
                match last {
                    Some(last) if last < first => {
                        complaints.add(format!("{field}.endPort"), Reason::EndsBefore { first, last });
                        return None;
                    }
                    Some(last) if last > first => Which::Range(first, last),
                    _ => Which::Number(first),
                }
            }
            named => {
                if self.end_port.is_some() {
                    let reason = Reason::Conflict("endPort needs a port that is a number, the first of the range");
                    complaints.add(format!("{field}.endPort"), reason);
                }
                match named {
                    Some(PortOrName::Name(name)) => {
                        complaints.syntax(&format!("{field}.port"), &name, syntax::port_name);
                        Which::Named(name.as_str().into())
                    }
                    _ => Which::ALL,
                }
            }
        };
        Some(Ports { protocol: protocol?, which })
    }
}

/// A port that is written as a number.
pub(super) fn port(field: &str, number: i64, complaints: &mut Complaints) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        complaints.add(field, Reason::NoPort(number));
    }
    port
}
