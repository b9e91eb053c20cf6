//! The sets of table `inet podwire-policy`: their names, what they are looked up by, and what they have for it; and the names of what the
//! rules and others mention. Pure.
//!
//! What may not live here: what the sets have in them (`contents`), and the rules that look there (`chains`).

use podwire_conf::defaults::POLICY_TABLE;
use podwire_conf::rules::isolation;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Branch, Content, Entries, Field, NUMBER, Set, Type};

use crate::policy::element::Decision;
use crate::policy::network_policy::Direction;

/// The bit in a connection's mark that says that a policy has refused it after it had begun.
pub(crate) const CUT: u32 = 0x2000_0000;

/// The counters of refused packets: from pods, and to pods.
pub(crate) const COUNTERS: [&str; 2] = ["refused-egress", "refused-ingress"];

/// The sets of ports and of peers, without the direction that begins their names.
pub(super) const ANY_PORT: &str = "any-port";
pub(super) const ANY_PEER: &str = "any-peer";
pub(super) const ANY_PEER_RANGE: &str = "any-peer-range";
pub(super) const EVERYTHING: &str = "everything";

/// All of them.
pub(super) const COMBINATIONS: [&str; 4] = [ANY_PORT, ANY_PEER, ANY_PEER_RANGE, EVERYTHING];

/// The maps of lists of ports, without the direction that begins their names.
const PORTS: &str = "ports";

/// The maps of what lists say: of a port, and of a range.
pub(super) const LISTED_PORT: &str = "listed-port";
pub(super) const LISTED_RANGE: &str = "listed-port-range";

/// What stands before these in the names of maps of decisions, behind the direction.
const DECIDED: &str = "decided-";

/// The maps of decisions' verdicts, without the direction that begins their names.
const VERDICTS: &str = "verdicts";

/// The chain where what passes ends.
pub(super) const PASSED: &str = "passed";

/// The maps of isolated addresses' subjects, without the direction that begins their names, and the set of each address with itself.
const SUBJECTS: &str = "subjects";
const ITSELF: &str = "itself";

/// The sets of isolated addresses that count what is refused, without the direction that begins their names.
const REFUSED: &str = "refused";

/// The same of what would be refused by policies that are not enforced.
const AUDITED: &str = "audited";

/// What becomes of a packet that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is refused.
    Refused,
    /// It passes, and policies would refuse it which are not enforced.
    Audited,
}

impl Fate {
    pub(crate) const BOTH: [Self; 2] = [Self::Refused, Self::Audited];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => REFUSED,
            Self::Audited => AUDITED,
        }
    }
}

/// How much of a packet is logged: its headers up to the ports, IPv6's extension headers too, mostly.
pub(super) const LOGGED_BYTES: u32 = 128;

/// The map of port ranges.
pub(super) const RANGES: &str = "ranges";

/// How the name of a direction's sets begins; its chains are called so.
pub(super) fn prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => isolation::INGRESS,
        Direction::Egress => isolation::EGRESS,
    }
}

/// A set of allowed combinations.
pub(super) fn allowed(direction: Direction, name: &str) -> Set {
    Set { name: format!("{}-{name}", prefix(direction)), key: combination(name), content: Content::Nothing }
}

/// A map of decided combinations; what they have is the number of a decision.
pub(super) fn decided(direction: Direction, name: &str) -> Set {
    let content = Content::Values(NUMBER.into());
    Set { name: format!("{}-{DECIDED}{name}", prefix(direction)), key: combination(name), content }
}

fn combination(name: &str) -> Vec<Type> {
    use Type::{Number, Port, Protocol};
    match name {
        ANY_PORT => vec![Number, Number],
        ANY_PEER => vec![Number, Protocol, Port],
        ANY_PEER_RANGE => vec![Number, Protocol, Number],
        _ => vec![Number],
    }
}

/// The lists of ports that subjects have for classes.
pub(super) fn ports(direction: Direction) -> Set {
    let key = vec![Type::Number, Type::Number];
    Set { name: format!("{}-{PORTS}", prefix(direction)), key, content: Content::Values(NUMBER.into()) }
}

/// What lists say of a port; what it has is the number of a decision.
pub(super) fn listed_port() -> Set {
    let key = vec![Type::Number, Type::Protocol, Type::Port];
    Set { name: LISTED_PORT.into(), key, content: Content::Values(NUMBER.into()) }
}

/// The same of the ports of a range.
pub(super) fn listed_range() -> Set {
    let key = vec![Type::Number, Type::Protocol, Type::Number];
    Set { name: LISTED_RANGE.into(), key, content: Content::Values(NUMBER.into()) }
}

/// The number of a decision.
pub(super) fn number(decision: Decision) -> u32 {
    match decision {
        Decision::Allow => 1,
        Decision::Refuse => 2,
        Decision::WouldRefuse => 3,
    }
}

/// What becomes of a packet by the number of a decision. Decisions are numbers and no verdicts where there are many of them: the
/// kernel walks through all verdicts of the table with each change of one.
pub(super) fn verdicts(direction: Direction, version: IpVersion) -> Set {
    let name = format!("{}-{VERDICTS}{}", prefix(direction), version.digit());
    Set { name, key: vec![Type::Number], content: Content::Verdicts }
}

/// The same for each decision: always the same entries.
pub(super) fn verdict_entries(direction: Direction, version: IpVersion) -> Entries {
    let branches = [
        Branch::Goto(PASSED.into()),
        Branch::Goto(named("refuse", direction, version)),
        Branch::Goto(named("audit", direction, version)),
    ];
    let all = [Decision::Allow, Decision::Refuse, Decision::WouldRefuse].into_iter().enumerate();
    let entries = all.map(|(place, decision)| ([Field::Number(number(decision))], place));
    Entries::branches(verdicts(direction, version), &branches, entries)
}

/// A chain of a direction beside those that judge.
pub(super) fn named(name: &str, direction: Direction, version: IpVersion) -> String {
    format!("{}-{name}{}", prefix(direction), version.digit())
}

/// Addresses that are judged, and their subjects.
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

/// Isolated addresses, each of which counts the packets that are refused. Only a packet that will be dropped is looked up there.
pub(super) fn refused(direction: Direction, version: IpVersion) -> Set {
    let name = format!("{}-{REFUSED}{}", prefix(direction), version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Counted }
}

/// Addresses each of which counts the packets that policies would refuse which are not enforced.
pub(super) fn audited(direction: Direction, version: IpVersion) -> Set {
    let name = format!("{}-{AUDITED}{}", prefix(direction), version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Counted }
}

/// The word that a logged packet bears: whoever else reads the group sees whose it is.
pub(super) fn word(direction: Direction, fate: Fate) -> String {
    format!("{POLICY_TABLE} {} {}", prefix(direction), fate.name())
}

/// The counter of packets that are not logged, since there are too many.
pub(super) fn unlogged(direction: Direction, fate: Fate) -> String {
    format!("unlogged-{}-{}", prefix(direction), fate.name())
}

/// Ports, and the range that they are in.
pub(super) fn ranges() -> Set {
    Set { name: RANGES.into(), key: vec![Type::Port], content: Content::Ranges(NUMBER.into()) }
}

/// Whether a connection that was allowed may be refused after a set has got more entries, or lost some. (An address that leaves
/// `peers` may be of a pod that goes, or of one that no selector means any more.)
pub(super) fn restricts(set: &str, more: bool, fewer: bool) -> bool {
    let isolates = |direction| {
        let subjects = format!("{}-{SUBJECTS}", prefix(direction));
        let is = |version| isolation::isolated(prefix(direction), version).name == set;
        set.starts_with(&subjects) || IpVersion::BOTH.into_iter().any(is)
    };
    // What is decided otherwise, or not at all any more.
    let decides = |direction| {
        let is = |name| set.starts_with(&format!("{}-{name}", prefix(direction)));
        [DECIDED, VERDICTS, PORTS].into_iter().any(is)
    };
    // Whoever has a class may be refused by it, and so may a port by its range.
    let tells_apart = |version| [peers(version).name, blocks(version).name].iter().any(|name| name == set);
    if [LISTED_PORT, LISTED_RANGE, RANGES].contains(&set)
        || Direction::BOTH.into_iter().any(decides)
        || IpVersion::BOTH.into_iter().any(tells_apart)
    {
        return more || fewer;
    }
    let counts = |direction| set.starts_with(&format!("{}-{REFUSED}", prefix(direction)));
    if Direction::BOTH.into_iter().any(isolates) {
        more
    } else {
        fewer && !set.starts_with(ITSELF) && !Direction::BOTH.into_iter().any(counts)
    }
}
