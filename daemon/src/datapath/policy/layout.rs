//! The fixed part of table `inet podwire-policy`: sets, chains and rules, which no policy changes. Pure.
//!
//! ```text
//! forward        filter, before the other chains of its hook: packets of connections that have had an answer are accepted here
//!                (unless the connection was cut: then its replies are dropped); a source that is isolated for egress →
//!                egress4, -6; a destination that is isolated for ingress → ingress4, -6
//! ingress4, …    the subject of the pod and the class of its peer are looked up, and what is allowed between them: return;
//!                a pod to itself: return; everything else: counted, dropped
//! ```
//! A connection costs the same lookups however many policies there are; its further packets cost one rule.
//!
//! What may not live here: what the sets have (`contents`).

use podwire_conf::defaults::POLICY_TABLE;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{
    Base, Chain, ChainHook, ChainType, Content, KeyPart, NUMBER, PacketField, Rule, Set, Table, Type,
};

use crate::policy::network_policy::Direction;

/// Before the chains of other programs at this hook, whose place is 0: what they accept is accepted there only, but what they
/// count they should count of packets that pass.
const PRIORITY: i32 = -10;

/// The bit in a connection's mark that says that a policy has refused it after it had begun.
pub(crate) const CUT: u32 = 0x2000_0000;

/// The counters of refused packets: from pods, and to pods.
pub(crate) const COUNTERS: [&str; 2] = ["refused-egress", "refused-ingress"];

/// The sets of ports and of peers, without the direction that begins their names.
pub(super) const PORT: &str = "port";
pub(super) const PORT_RANGE: &str = "port-range";
pub(super) const ANY_PORT: &str = "any-port";
pub(super) const ANY_PEER: &str = "any-peer";
pub(super) const ANY_PEER_RANGE: &str = "any-peer-range";
pub(super) const EVERYTHING: &str = "everything";

/// The maps of isolated addresses, without the direction that begins their names, and the set of each address with itself.
const ISOLATED: &str = "isolated";
const SUBJECTS: &str = "subjects";
const ITSELF: &str = "itself";

/// The map of port ranges.
const RANGES: &str = "ranges";

/// How the name of a direction's sets begins; its chains are called so.
pub(super) fn prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// A set of allowed combinations.
pub(super) fn allowed(direction: Direction, name: &str) -> Set {
    use Type::{Number, Port as PortType, Protocol};
    let key = match name {
        PORT => vec![Number, Number, Protocol, PortType],
        PORT_RANGE => vec![Number, Number, Protocol, Number],
        ANY_PORT => vec![Number, Number],
        ANY_PEER => vec![Number, Protocol, PortType],
        ANY_PEER_RANGE => vec![Number, Protocol, Number],
        _ => vec![Number],
    };
    Set { name: format!("{}-{name}", prefix(direction)), key, content: Content::Nothing }
}

/// Isolated addresses, and the chain that judges them.
pub(super) fn isolated(direction: Direction, version: IpVersion) -> Set {
    let name = format!("{}-{ISOLATED}{}", prefix(direction), version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Verdicts }
}

/// Isolated addresses, and their subjects.
pub(super) fn subjects(direction: Direction, version: IpVersion) -> Set {
    let name = format!("{}-{SUBJECTS}{}", prefix(direction), version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Values(NUMBER.into()) }
}

/// Pods' addresses, and their classes.
pub(super) fn peers(version: IpVersion) -> Set {
    let name = format!("peers{}", version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Values(NUMBER.into()) }
}

/// Segments of ipBlocks, and their classes.
pub(super) fn blocks(version: IpVersion) -> Set {
    let name = format!("blocks{}", version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Ranges(NUMBER.into()) }
}

/// Isolated addresses, each twice: a pod reaches itself.
pub(super) fn itself(version: IpVersion) -> Set {
    let address = Type::Address(version);
    Set { name: format!("{ITSELF}{}", version.digit()), key: vec![address, address], content: Content::Nothing }
}

/// Ports, and the range that they are in.
pub(super) fn ranges() -> Set {
    Set { name: RANGES.into(), key: vec![Type::Port], content: Content::Ranges(NUMBER.into()) }
}

/// The chain that judges packets of a version in a direction.
pub(super) fn chain_name(direction: Direction, version: IpVersion) -> String {
    format!("{}{}", prefix(direction), version.digit())
}

/// Whether a connection that was allowed may be refused after a set has got more entries, or lost some. (An address that leaves
/// `peers` may be of a pod that goes, or of one that no selector means any more.)
pub(super) fn restricts(set: &str, more: bool, fewer: bool) -> bool {
    let isolates =
        |direction| [ISOLATED, SUBJECTS].iter().any(|name| set.starts_with(&format!("{}-{name}", prefix(direction))));
    if Direction::BOTH.into_iter().any(isolates) { more } else { fewer && !set.starts_with(ITSELF) }
}

/// The table without the contents of its sets.
pub(crate) fn table() -> Table {
    let mut sets = vec![ranges()];
    let mut chains = vec![Chain { name: "forward".into(), base: Some(BASE), rules: forward() }];
    for direction in Direction::BOTH {
        let names = [PORT, PORT_RANGE, ANY_PORT, ANY_PEER, ANY_PEER_RANGE, EVERYTHING];
        sets.extend(names.map(|name| allowed(direction, name)));
        for version in IpVersion::BOTH {
            sets.extend([isolated(direction, version), subjects(direction, version)]);
            chains.push(Chain { name: chain_name(direction, version), base: None, rules: judge(direction, version) });
        }
    }
    sets.extend(IpVersion::BOTH.into_iter().flat_map(|version| [peers(version), blocks(version), itself(version)]));
    Table { name: POLICY_TABLE.into(), counters: COUNTERS.map(Into::into).into(), sets, chains }
}

const BASE: Base = Base { chain_type: ChainType::Filter, hook: ChainHook::Forward, priority: PRIORITY };

fn counter(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => COUNTERS[0],
        Direction::Ingress => COUNTERS[1],
    }
}

fn forward() -> Vec<Rule> {
    let mut rules = vec![Rule::new().unmarked(CUT).in_connection().accept(), Rule::new().marked(CUT).is_reply().drop()];
    // Egress first, of both versions: the order in which a packet meets the two ends.
    for direction in [Direction::Egress, Direction::Ingress] {
        rules.extend(IpVersion::BOTH.map(|version| {
            let [own, _] = ends(direction, version);
            Rule::new().of(version).vmap(&isolated(direction, version).name, &[own])
        }));
    }
    rules
}

/// The address of the pod that a direction judges, and that of its peer.
fn ends(direction: Direction, version: IpVersion) -> [PacketField; 2] {
    match direction {
        Direction::Egress => [PacketField::Source(version), PacketField::Destination(version)],
        Direction::Ingress => [PacketField::Destination(version), PacketField::Source(version)],
    }
}

fn judge(direction: Direction, version: IpVersion) -> Vec<Rule> {
    let [own, peer] = ends(direction, version);
    let (subjects, peers, blocks) = (subjects(direction, version).name, peers(version).name, blocks(version).name);
    let subject = KeyPart::Number(&subjects, own);
    let protocol = KeyPart::Field(PacketField::Protocol);
    let port = KeyPart::Field(PacketField::DestinationPort);
    let range = KeyPart::Number(RANGES, PacketField::DestinationPort);
    let allow = |name: &str, key: &[KeyPart<'_>]| Rule::new().in_set_by(&allowed(direction, name).name, key).return_();
    let mut rules = Vec::new();
    for class in [KeyPart::Number(&peers, peer), KeyPart::Number(&blocks, peer)] {
        rules.extend([
            allow(PORT, &[subject, class, protocol, port]),
            allow(ANY_PORT, &[subject, class]),
            allow(PORT_RANGE, &[subject, class, protocol, range]),
        ]);
    }
    rules.extend([
        allow(ANY_PEER, &[subject, protocol, port]),
        allow(ANY_PEER_RANGE, &[subject, protocol, range]),
        allow(EVERYTHING, &[subject]),
        Rule::new().in_set(&itself(version).name, &[own, peer]).return_(),
        Rule::new().count(counter(direction)).drop(),
    ]);
    rules
}
