//! One rule of a ClusterNetworkPolicy: what it does with the connections that it matches, and which these are.

use podwire_conf::syntax;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::policy::ip_block::{self, IpBlock};
use crate::policy::pods_of;
use crate::policy::port::{Ports, Protocol, Which};
use crate::policy::rejected::{Complaints, Reason, quoted};
use crate::policy::rule::{Peer, Rule, port};
use crate::policy::text::Text;
use crate::policy::tier::Action;
use crate::policy::unsupported::{Unknown, Unsupported};

/// The most peers of a rule, networks of a peer, and protocols of a rule; the API allows 25 of each.
const PARTS: usize = 256;

/// The longest name of a rule, in characters.
const LONGEST_NAME: usize = 100;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRule {
    /// What people call it; empty where they do not.
    pub name: Text,
    /// What becomes of what it matches.
    pub action: Action,
    /// What it matches. `None` where everybody is meant is what a rule is made into that fails closed.
    pub matches: Rule,
}

/// A rule as the API writes it: an ingress rule has `from`, an egress rule `to`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    name: Option<String>,
    action: Option<String>,
    #[serde(alias = "to")]
    from: Option<Vec<PeerWire>>,
    protocols: Option<Vec<ProtocolWire>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerWire {
    #[serde(flatten)]
    pods: pods_of::Wire,
    nodes: Option<IgnoredAny>,
    networks: Option<Vec<String>>,
    domain_names: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProtocolWire {
    tcp: Option<PortsWire>,
    udp: Option<PortsWire>,
    sctp: Option<PortsWire>,
    destination_named_port: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortsWire {
    destination_port: Option<PortWire>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PortWire {
    number: Option<i64>,
    range: Option<RangeWire>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RangeWire {
    start: i64,
    end: i64,
}

/// What a rule turns out to have while it is read.
struct Reader<'a> {
    unknown: Vec<(String, Unknown)>,
    complaints: &'a mut Complaints,
}

impl Wire {
    /// The rule, as far as nothing is wrong with it. `of_peers` is what the API calls the list of peers.
    pub(super) fn read(
        self,
        field: &str,
        of_peers: &str,
        unsupported: &mut Vec<Unsupported>,
        complaints: &mut Complaints,
    ) -> Option<ClusterRule> {
        let named = self.action.as_deref().unwrap_or_default();
        let action = Action::parse(named);
        if action.is_none() {
            let reason = Reason::Syntax { value: quoted(named), allowed: "Accept, Deny or Pass" };
            complaints.add(format!("{field}.action"), reason);
        }
        let name = self.name.unwrap_or_default();
        if name.chars().count() > LONGEST_NAME {
            let reason = Reason::Syntax { value: quoted(&name), allowed: "at most 100 characters" };
            complaints.add(format!("{field}.name"), reason);
        }
        let mut reader = Reader { unknown: Vec::new(), complaints };
        let peers = reader.peers(self.from.unwrap_or_default(), &format!("{field}.{of_peers}"));
        let ports = self.protocols.map(|protocols| reader.protocols(protocols, &format!("{field}.protocols")));
        let (unknown, action) = (reader.unknown, action?);
        let closed = !unknown.is_empty();
        let accepts = action == Action::Accept;
        unsupported.extend(unknown.into_iter().map(|(field, what)| Unsupported { field, what, accepts }));
        let name = Text::from(name.as_str());
        Some(match (closed, accepts) {
            (false, _) => ClusterRule { name, action, matches: Rule { peers: Some(peers), ports } },
            (true, true) => ClusterRule { name, action, matches: Rule { peers: Some(Box::default()), ports: None } },
            (true, false) => ClusterRule { name, action: Action::Deny, matches: Rule { peers: None, ports: None } },
        })
    }
}

impl Reader<'_> {
    fn peers(&mut self, peers: Vec<PeerWire>, field: &str) -> Box<[Peer]> {
        if peers.is_empty() {
            self.complaints.add(field, Reason::Missing("a rule has a peer at least"));
        }
        self.complaints.bound(field, peers.len(), PARTS);
        let mut read = Vec::new();
        for (place, peer) in peers.into_iter().take(PARTS).enumerate() {
            self.peer(peer, &format!("{field}[{place}]"), &mut read);
        }
        read.into()
    }

    fn peer(&mut self, peer: PeerWire, field: &str, read: &mut Vec<Peer>) {
        let PeerWire { pods, nodes, networks, domain_names } = peer;
        let others = [nodes.is_some(), networks.is_some(), domain_names.is_some()];
        let count = pods.count() + others.into_iter().filter(|is_there| *is_there).count();
        if count > 1 {
            let reason = Reason::Conflict("a peer has one of namespaces, pods, networks, nodes and domainNames");
            self.complaints.add(field, reason);
        }
        for (name, is_there) in [("nodes", others[0]), ("domainNames", others[2])] {
            if is_there {
                self.unknown.push((format!("{field}.{name}"), Unknown::Named(name)));
            }
        }
        if count == 0 {
            self.unknown.push((field.into(), Unknown::Newer));
        }
        if let Some(networks) = networks {
            let field = format!("{field}.networks");
            if networks.is_empty() {
                self.complaints.add(&field, Reason::Missing("networks have a prefix at least"));
            }
            self.complaints.bound(&field, networks.len(), PARTS);
            let prefixes = networks.iter().take(PARTS).enumerate().filter_map(|(place, network)| {
                ip_block::prefix(&format!("{field}[{place}]"), network, self.complaints)
            });
            read.extend(prefixes.map(|cidr| Peer::Block(IpBlock { cidr, except: Box::default() })));
        }
        let pods = pods.read(field, self.complaints);
        read.extend(pods.map(|(namespaces, pods)| Peer::Pods { namespaces: Some(namespaces), pods }));
    }

    fn protocols(&mut self, protocols: Vec<ProtocolWire>, field: &str) -> Box<[Ports]> {
        if protocols.is_empty() {
            self.complaints.add(field, Reason::Missing("leave it out for every protocol"));
        }
        self.complaints.bound(field, protocols.len(), PARTS);
        let mut read = Vec::new();
        for (place, protocol) in protocols.into_iter().take(PARTS).enumerate() {
            self.protocol(protocol, &format!("{field}[{place}]"), &mut read);
        }
        read.into()
    }

    fn protocol(&mut self, wire: ProtocolWire, field: &str, read: &mut Vec<Ports>) {
        let ProtocolWire { tcp, udp, sctp, destination_named_port: named } = wire;
        let named = named.filter(|name| !name.is_empty());
        let of_protocols = [("tcp", Protocol::Tcp, tcp), ("udp", Protocol::Udp, udp), ("sctp", Protocol::Sctp, sctp)];
        let count = of_protocols.iter().filter(|(.., ports)| ports.is_some()).count() + usize::from(named.is_some());
        match count {
            0 => self.unknown.push((field.into(), Unknown::Newer)),
            1 => {}
            _ => {
                let reason = Reason::Conflict("a protocol is one of tcp, udp, sctp and destinationNamedPort");
                self.complaints.add(field, reason);
            }
        }
        for (name, protocol, ports) in of_protocols {
            let Some(ports) = ports else { continue };
            let field = format!("{field}.{name}");
            match ports.destination_port {
                None => self.unknown.push((field, Unknown::Newer)),
                Some(ports) => {
                    let which = self.port(&ports, &format!("{field}.destinationPort"));
                    read.extend(which.map(|which| Ports { protocol, which }));
                }
            }
        }
        if let Some(name) = named {
            self.complaints.syntax(&format!("{field}.destinationNamedPort"), &name, syntax::port_name);
            // Whatever protocol a container has a port of this name for.
            let of = |protocol| Ports { protocol, which: Which::Named(name.as_str().into()) };
            read.extend(Protocol::ALL.map(of));
        }
    }

    fn port(&mut self, wire: &PortWire, field: &str) -> Option<Which> {
        match (wire.number, &wire.range) {
            (Some(_), Some(_)) => {
                self.complaints.add(field, Reason::Conflict("a port is either a number or a range"));
                None
            }
            (Some(number), None) => port(&format!("{field}.number"), number, self.complaints).map(Which::Number),
            (None, Some(range)) => {
                let first = port(&format!("{field}.range.start"), range.start, self.complaints);
                let last = port(&format!("{field}.range.end"), range.end, self.complaints);
                let (first, last) = (first?, last?);
                if first >= last {
                    let reason = Reason::Syntax { value: last.to_string(), allowed: "more than start" };
                    self.complaints.add(format!("{field}.range.end"), reason);
                }
                Some(Which::Range(first, last))
            }
            (None, None) => {
                self.unknown.push((field.into(), Unknown::Newer));
                None
            }
        }
    }
}
