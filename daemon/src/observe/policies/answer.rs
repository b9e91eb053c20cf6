//! The answers, out of what is in force and of the objects of the cluster as they are known at the moment of the question. Pure but
//! for the addresses of this node, which the kernel is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use podwire_kernel::{Socket, address};

use crate::cluster::view::View;
use crate::observe::policies::document::{
    self, Allowing, ClusterRule, End, Explanation, List, Listed, ListedCluster, ServiceBlock, UndeclaredPort,
};
use crate::observe::policies::ends::{Directory, Found, Place};
use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::compiled;
use crate::policy::explanation;
use crate::policy::ineffective::Ineffective;
use crate::policy::ineffective_cluster::IneffectiveCluster;
use crate::policy::network_policy::{Direction, NetworkPolicy, PolicyName};
use crate::policy::question::{Endpoint, Question};
use crate::policy::service_blocks;
use crate::report::Report;
use crate::report::named::Documented;
use crate::report::policies::{Enforced, PolicyState};

/// Policies, names of ports, and blocks, that are listed as without effect.
const INEFFECTIVE: usize = 100;

/// What is asked: about policies as they are in force, of a node in this state.
pub(crate) type Ask<T> = Box<dyn FnOnce(&Report, &PolicyState, &Enforced<'_>) -> Result<T, String> + Send>;

/// Whether there is anything to ask about: the state of the policies.
///
/// # Errors
/// Why there is not, a sentence.
pub(crate) fn state(report: &Report) -> Result<&PolicyState, String> {
    let node = &report.node;
    match (&report.policies, report.settings.network_policy) {
        (Some(state), _) => Ok(state),
        (None, false) => Err(format!(
            "NetworkPolicies have no effect on node {node}, and refuse nothing: they are switched off; set network_policy = true \
             in the settings to put them in force, or, without Kubernetes, run podwired with --policies DIRECTORY"
        )),
        (None, true) => Err(format!("the policies are not in force on node {node} yet: ask again in a moment")),
    }
}

/// Answers, where something has been in force.
///
/// # Errors
/// Why there is no answer, a sentence.
pub(crate) fn answer<T>(report: &Report, enforced: Option<&Enforced<'_>>, ask: Ask<T>) -> Result<T, String> {
    let state = state(report)?;
    let why = || match state.all_problems().next() {
        Some(problem) => problem.text.clone(),
        None => "pods, namespaces and policies have not all been read; ask again in a moment".into(),
    };
    let node = &report.node;
    let enforced = enforced.ok_or_else(|| format!("the policies are not in force on node {node} yet: {}", why()))?;
    ask(report, state, enforced)
}

/// Which policies are in force, and for which pods.
pub(crate) fn list(report: &Report, state: &PolicyState, enforced: &Enforced<'_>) -> List {
    let mut policies: BTreeMap<String, Listed> = BTreeMap::new();
    let mut add = |policy: &str, audit: bool, direction: Direction, pod: String| {
        let listed = || Listed { policy: policy.into(), audit, ingress: Vec::new(), egress: Vec::new() };
        let listed = policies.entry(policy.into()).or_insert_with(listed);
        let pods = match direction {
            Direction::Ingress => &mut listed.ingress,
            Direction::Egress => &mut listed.egress,
        };
        if !pods.contains(&pod) {
            pods.push(pod);
        }
    };
    for (name, (pod, addresses)) in enforced.attached {
        let full_name = || format!("{}/{}", name.namespace, name.name);
        for direction in Direction::BOTH {
            let isolating = addresses.iter().flat_map(|address| enforced.compiled.isolating(direction, *address));
            isolating.for_each(|policy| add(&policy.to_string(), false, direction, full_name()));
            let audits = |policy: &&NetworkPolicy| policy.audit && policy.rules(direction).is_some();
            let selects = |policy: &&NetworkPolicy| {
                let pod = pod.as_deref().filter(|pod| !pod.host_network);
                pod.is_some_and(|pod| pod.namespace == policy.name.namespace && policy.selector.matches(&pod.labels))
            };
            let audited = enforced.policies.iter().copied().filter(audits).filter(selects);
            audited.for_each(|policy| add(&policy.name.to_string(), true, direction, full_name()));
        }
    }
    let others = state.policies.saturating_sub(policies.len());
    let pods = enforced.pods.iter().copied();
    let Ineffective { selecting_none, undeclared } = Ineffective::of(pods, enforced.policies.iter().copied());
    let mut cluster_policies: Vec<_> =
        enforced.cluster_policies.iter().map(|policy| (policy.order(), *policy)).collect();
    cluster_policies.sort_by_key(|(order, _)| *order);
    let undeclared = undeclared.into_iter().map(|found| UndeclaredPort {
        policy: found.policy.to_string(),
        rule: rule(found.direction, found.rule),
        port: found.port.to_string(),
    });
    let of_cluster = IneffectiveCluster::of(&enforced.pods, &enforced.namespaces, &enforced.cluster_policies);
    let undeclared = undeclared.chain(of_cluster.undeclared.iter().map(|(policy, direction, place, name)| {
        UndeclaredPort { policy: policy.to_string(), rule: rule(*direction, *place), port: name.to_string() }
    }));
    let Enforced { pods, policies: all, cluster_policies: of_tiers, .. } = enforced;
    let service_blocks = service_blocks::of(&enforced.service_ranges, pods, all, of_tiers).into_iter();
    let service_blocks = service_blocks.map(|found| ServiceBlock {
        policy: found.policy,
        rule: rule(found.direction, found.rule),
        block: found.block.to_string(),
    });
    let selecting_none = selecting_none.iter().map(ToString::to_string);
    let selecting_none = selecting_none.chain(of_cluster.selecting_none.iter().map(ToString::to_string));
    List {
        node: report.node.clone(),
        in_force: state.in_force,
        policies: policies.into_values().collect(),
        others,
        cluster_policies: cluster_policies.into_iter().map(|(_, policy)| listed_cluster(policy, enforced)).collect(),
        selecting_none: selecting_none.take(INEFFECTIVE).collect(),
        undeclared_ports: undeclared.take(INEFFECTIVE).collect(),
        service_blocks: service_blocks.take(INEFFECTIVE).collect(),
    }
}

fn listed_cluster(policy: &ClusterPolicy, enforced: &Enforced<'_>) -> ListedCluster {
    let pods = |direction| {
        let judged = |address: &IpAddr| {
            enforced.compiled.judging(direction, *address).iter().any(|(name, _)| ***name == *policy.name)
        };
        let attached = enforced.attached.iter().filter(|(_, (_, addresses))| addresses.iter().any(judged));
        attached.map(|(name, _)| format!("{}/{}", name.namespace, name.name)).collect()
    };
    ListedCluster {
        policy: policy.name.to_string(),
        tier: policy.tier.to_string(),
        priority: policy.priority,
        audit: policy.audit,
        ingress: pods(Direction::Ingress),
        egress: pods(Direction::Egress),
        unsupported: policy.unsupported.iter().map(|unsupported| unsupported.field.clone()).collect(),
    }
}

/// A rule of a policy, by its place.
fn rule(direction: Direction, place: usize) -> String {
    match direction {
        Direction::Ingress => format!("ingress[{place}]"),
        Direction::Egress => format!("egress[{place}]"),
    }
}

/// Why a packet passes or not.
///
/// # Errors
/// Why that cannot be said, a sentence.
pub(crate) fn explain(
    question: &Question,
    report: &Report,
    state: &PolicyState,
    enforced: &Enforced<'_>,
) -> Result<Explanation, String> {
    let own = own_addresses().map_err(|error| format!("this node's own addresses are not known: {error}"))?;
    let view = report.view.as_ref().and_then(|view| view.as_deref().ok());
    let (attached, pods) = (enforced.attached, &enforced.pods);
    let unknown = &enforced.compiled.unknown;
    let directory = Directory { node: &report.node, attached, unknown, pods, view, own: &own };
    of_packets(&directory, state, enforced, question)
}

/// Who sends from an address, or receives at it: a pod as `NAMESPACE/NAME`, another node; nothing where nobody of the cluster has it.
pub(crate) fn owner(enforced: &Enforced<'_>, node: &str, view: Option<&View>, address: IpAddr) -> Option<String> {
    let Enforced { compiled, attached, pods, .. } = enforced;
    Directory { node, attached, unknown: &compiled.unknown, pods, view, own: &[] }.owner(address).name()
}

fn own_addresses() -> podwire_kernel::Result<Vec<IpAddr>> {
    let found = address::list(&mut Socket::route()?, None)?;
    Ok(found.into_iter().map(|found| found.address.ip()).collect())
}

fn of_packets(
    directory: &Directory<'_>,
    state: &PolicyState,
    enforced: &Enforced<'_>,
    question: &Question,
) -> Result<Explanation, String> {
    let find = |endpoint: &Endpoint| directory.find(endpoint).map_err(|error| error.to_string());
    let (source, destination) = (find(&question.source)?, find(&question.destination)?);
    let mut packets = Vec::new();
    for from in &source.addresses {
        for to in destination.addresses.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            let packet = compiled::Packet { source: *from, destination: *to, port: question.port };
            packets.push(explained(&packet, enforced, &source, &destination));
        }
    }
    if packets.is_empty() {
        let (source, destination) = (&question.source, &question.destination);
        return Err(format!("{source} and {destination} have no addresses of one family: no packet goes between them"));
    }
    let denies = |end: &Documented<End>| {
        matches!(end, Documented::Known(End::Denied { .. } | End::Refused(_) | End::UnknownPod))
    };
    Ok(Explanation {
        node: directory.node.into(),
        in_force: state.in_force,
        allowed: !packets.iter().any(|packet| denies(&packet.egress) || denies(&packet.ingress)),
        source: endpoint(&question.source, &source, directory),
        destination: endpoint(&question.destination, &destination, directory),
        protocol: question.port.map(|(protocol, _)| protocol.to_string()),
        port: question.port.map(|(_, port)| port),
        packets,
    })
}

fn endpoint(asked: &Endpoint, found: &Found, directory: &Directory<'_>) -> document::Endpoint {
    let node = match &found.place {
        Place::Here | Place::OwnNode => Some(directory.node.into()),
        Place::Elsewhere(node) | Place::Node(node) => Some(node.clone()),
        Place::Outside => None,
    };
    document::Endpoint { asked: asked.to_string(), pod: found.pod.clone(), node }
}

fn explained(
    packet: &compiled::Packet,
    enforced: &Enforced<'_>,
    source: &Found,
    destination: &Found,
) -> document::Packet {
    let explanation = enforced.compiled.explain(packet);
    let egress = end(Direction::Egress, &source.place, &destination.place, explanation.egress.clone());
    let ingress = end(Direction::Ingress, &destination.place, &source.place, explanation.ingress.clone());
    let passed = |direction, judged: &End, by: &[explanation::ByCluster]| match judged {
        // Who judges it is somebody else, or nobody.
        End::Elsewhere { .. } | End::NoPod | End::OwnNode => Vec::new(),
        _ => by.iter().map(|by| cluster_rule(direction, by)).collect(),
    };
    let compiled::Packet { source, destination, .. } = *packet;
    document::Packet {
        source,
        destination,
        egress_passed: passed(Direction::Egress, &egress, &explanation.egress_passed),
        ingress_passed: passed(Direction::Ingress, &ingress, &explanation.ingress_passed),
        egress: egress.into(),
        ingress: ingress.into(),
    }
}

/// What an end says, by the place where it is and that of the other end. Only for a pod of this node that is the compiled form's.
fn end(direction: Direction, place: &Place, other: &Place, compiled: explanation::End) -> End {
    match place {
        Place::Elsewhere(node) => return End::Elsewhere { node: node.clone() },
        Place::OwnNode | Place::Node(_) | Place::Outside => return End::NoPod,
        // What goes between a pod and its own node passes no rule of policies, whatever these say of the address.
        Place::Here if *other == Place::OwnNode => return End::OwnNode,
        Place::Here => {}
    }
    match compiled {
        explanation::End::NotIsolated => End::NotIsolated,
        explanation::End::Unknown => End::UnknownPod,
        explanation::End::Itself => End::Itself,
        explanation::End::Allowed { policy, rule: place } => {
            End::Allowed { policy: policy.to_string(), rule: rule(direction, place) }
        }
        explanation::End::Accepted(by) => End::Accepted(cluster_rule(direction, &by)),
        explanation::End::Refused(by) => End::Refused(cluster_rule(direction, &by)),
        explanation::End::WouldRefuse(by) => End::WouldRefuse(cluster_rule(direction, &by)),
        explanation::End::Denied { policies, others } => {
            End::Denied { policies: names(&policies), others: allowing(direction, &others) }
        }
        explanation::End::WouldDeny { policies, others } => {
            End::WouldDeny { policies: names(&policies), others: allowing(direction, &others) }
        }
    }
}

fn cluster_rule(direction: Direction, by: &explanation::ByCluster) -> ClusterRule {
    ClusterRule {
        policy: by.policy.to_string(),
        tier: by.tier.to_string(),
        priority: by.priority,
        rule: rule(direction, by.rule),
        name: by.name.to_string(),
    }
}

fn names(policies: &[PolicyName]) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}

fn allowing(direction: Direction, others: &[explanation::Allowing]) -> Vec<Allowing> {
    let one = |other: &explanation::Allowing| Allowing {
        policy: other.policy.to_string(),
        rule: rule(direction, other.rule),
        ports: other.ports.iter().map(ToString::to_string).collect(),
    };
    others.iter().map(one).collect()
}
