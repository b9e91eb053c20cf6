//! The chains of table `inet podwire-policy` and their rules, which no policy changes. Pure.
//!
//! ```text
//! forward        filter, before the other chains of its hook: packets of connections that have had an answer are accepted here
//!                (unless the connection was cut: then its replies are dropped); a source that is isolated for egress →
//!                egress4, -6; a destination that is isolated for ingress → ingress4, -6
//! ingress4, …    the subject of the pod and the class of its peer are looked up, and what is allowed between them: return, or goto
//!                passed, which is the same; a pod to itself: return; to or from a pod that only audit policies select: counted,
//!                return; everything else, and all packets of a pod without a subject, whose policies are not known: counted, by
//!                the address of the pod and in all, dropped
//! …-refused-log, …   only where it is switched on: what is refused, or would be, goes through here and is logged, up to a rate
//! ingress-tiers4 the same of a pod that ClusterNetworkPolicies select: what is decided between the two is looked up, the most special
//!                first: a port, a range, everything; then the same of everybody (ingress-others4). Decided is: return (passed);
//!                refused (ingress-refuse4: counted and dropped as above); or that it would be refused by policies that are not
//!                enforced (ingress-audit4: counted, return). What nothing is decided of is refused
//! ```
//! A connection costs the same lookups however many policies there are; its further packets cost one rule.
//!
//! What may not live here: what the sets are (`layout`), and what is in them (`contents`).

use podwire_conf::defaults::{POLICY_LOG_GROUP, POLICY_TABLE};
use podwire_conf::rules::isolation::{self, Judged};
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Base, Chain, ChainHook, ChainType, KeyPart, PacketField, Rule, Table};

use crate::datapath::policy::layout::{
    ANY_PEER, ANY_PEER_RANGE, ANY_PORT, COMBINATIONS, COUNTERS, CUT, EVERYTHING, Fate, LISTED_PORT, LISTED_RANGE,
    LOGGED_BYTES, PASSED, RANGES, allowed, audited, blocks, decided, itself, listed_port, listed_range, named, peers,
    ports, prefix, ranges, refused, subjects, unlogged, verdicts, word,
};
use crate::policy::network_policy::Direction;

/// Before the chains of other programs at this hook, whose place is 0: what they accept is accepted there only, but what they
/// count they should count of packets that pass.
const PRIORITY: i32 = -10;

/// Whether the rules log what is refused, and what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logging {
    /// They do not.
    Off,
    /// To the group of podwire's.
    On,
}

/// How many packets are logged in a second, of each direction and fate, and how many after a quiet time.
const LOGGED_PER_SECOND: u64 = 10;
const LOGGED_AT_ONCE: u32 = 20;

/// The table without the contents of its sets.
pub(crate) fn table(logging: Logging) -> Table {
    let mut sets = vec![ranges(), listed_port(), listed_range()];
    let passed = Chain { name: PASSED.into(), base: None, rules: Vec::new() };
    let mut chains = vec![Chain { name: "forward".into(), base: Some(BASE), rules: forward() }, passed];
    let mut counters: Vec<String> = COUNTERS.map(Into::into).into();
    for direction in Direction::BOTH {
        sets.extend(COMBINATIONS.map(|name| allowed(direction, name)));
        sets.extend(COMBINATIONS.map(|name| decided(direction, name)));
        sets.push(ports(direction));
        for version in IpVersion::BOTH {
            sets.extend([isolation::isolated(prefix(direction), version), subjects(direction, version)]);
            sets.extend([refused(direction, version), audited(direction, version)]);
            sets.push(verdicts(direction, version));
            let mut chain = |name: String, rules| chains.push(Chain { name, base: None, rules });
            chain(Judged::ByRules.chain(prefix(direction), version), judge(direction, version, logging));
            chain(Judged::ByTiers.chain(prefix(direction), version), judge_by_tiers(direction, version));
            chain(named("others", direction, version), decide_for_everybody(direction, version));
            chain(named("refuse", direction, version), refuse_decided(direction, version, logging));
            chain(named("audit", direction, version), audit_decided(direction, version, logging));
        }
        for fate in Fate::BOTH.into_iter().filter(|_| logging == Logging::On) {
            counters.push(unlogged(direction, fate));
            chains.push(Chain { name: log_chain(direction, fate), base: None, rules: log(direction, fate) });
        }
    }
    sets.extend(IpVersion::BOTH.into_iter().flat_map(|version| [peers(version), blocks(version), itself(version)]));
    Table { name: POLICY_TABLE.into(), counters, sets, chains }
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
            Rule::new().of(version).vmap(&isolation::isolated(prefix(direction), version).name, &[own])
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

/// The parts of combinations that are not about who sends and who is sent to: the protocol, the port, the number of its range.
fn what() -> [KeyPart<'static>; 3] {
    let (protocol, port) = (PacketField::Protocol, PacketField::DestinationPort);
    [KeyPart::Field(protocol), KeyPart::Field(port), KeyPart::Number(RANGES, port)]
}

/// One chain for both versions, so that they share the rate.
fn log(direction: Direction, fate: Fate) -> Vec<Rule> {
    let above = Rule::new().above(LOGGED_PER_SECOND, LOGGED_AT_ONCE).count(&unlogged(direction, fate)).return_();
    vec![above, Rule::new().log(POLICY_LOG_GROUP, &word(direction, fate), LOGGED_BYTES)]
}

fn judge(direction: Direction, version: IpVersion, logging: Logging) -> Vec<Rule> {
    let [own, peer] = ends(direction, version);
    let (subjects, peers, blocks) = (subjects(direction, version).name, peers(version).name, blocks(version).name);
    let (subject, [protocol, port, range]) = (KeyPart::Number(&subjects, own), what());
    let allow = |name: &str, key: &[KeyPart<'_>]| Rule::new().in_set_by(&allowed(direction, name).name, key).return_();
    let (lists, verdicts) = (ports(direction).name, verdicts(direction, version).name);
    let mut rules = Vec::new();
    for class in [KeyPart::Number(&peers, peer), KeyPart::Number(&blocks, peer)] {
        let pair = [subject, class];
        let list = KeyPart::Found(&lists, &pair);
        rules.extend([
            Rule::new().vmap_by(LISTED_PORT, &[list, protocol, port], &verdicts),
            allow(ANY_PORT, &pair),
            Rule::new().vmap_by(LISTED_RANGE, &[list, protocol, range], &verdicts),
        ]);
    }
    rules.extend([
        allow(ANY_PEER, &[subject, protocol, port]),
        allow(ANY_PEER_RANGE, &[subject, protocol, range]),
        allow(EVERYTHING, &[subject]),
        Rule::new().in_set(&itself(version).name, &[own, peer]).return_(),
        audit(direction, version, logging),
    ]);
    rules.extend(refuse(direction, version, logging));
    rules
}

/// What becomes of a packet that policies would refuse which are not enforced: the element counts it.
fn audit(direction: Direction, version: IpVersion, logging: Logging) -> Rule {
    let [own, _] = ends(direction, version);
    let passes = Rule::new().in_set(&audited(direction, version).name, &[own]);
    match logging {
        Logging::Off => passes.return_(),
        // It returns as the chain would that goes there.
        Logging::On => passes.goto(&log_chain(direction, Fate::Audited)),
    }
}

/// What becomes of a packet that is refused.
fn refuse(direction: Direction, version: IpVersion, logging: Logging) -> Vec<Rule> {
    let [own, _] = ends(direction, version);
    // A rule of its own: what is not counted by its address is dropped as well.
    let mut rules = vec![Rule::new().in_set(&refused(direction, version).name, &[own])];
    // And so is what is not logged.
    rules.extend((logging == Logging::On).then(|| Rule::new().jump(&log_chain(direction, Fate::Refused))));
    rules.push(Rule::new().count(counter(direction)).drop());
    rules
}

fn judge_by_tiers(direction: Direction, version: IpVersion) -> Vec<Rule> {
    let [own, peer] = ends(direction, version);
    let (subjects, peers, blocks) = (subjects(direction, version).name, peers(version).name, blocks(version).name);
    let (subject, [protocol, port, range]) = (KeyPart::Number(&subjects, own), what());
    let verdicts = verdicts(direction, version).name;
    let (lists, any_port) = (ports(direction).name, decided(direction, ANY_PORT).name);
    let of_class = |class: KeyPart<'_>| {
        let pair = [subject, class];
        let list = KeyPart::Found(&lists, &pair);
        [
            Rule::new().vmap_by(LISTED_PORT, &[list, protocol, port], &verdicts),
            Rule::new().vmap_by(LISTED_RANGE, &[list, protocol, range], &verdicts),
            Rule::new().vmap_by(&any_port, &pair, &verdicts),
        ]
    };
    let others = named("others", direction, version);
    let mut rules = Vec::from(of_class(KeyPart::Number(&peers, peer)));
    // The class of a pod has the blocks of its address in it: what is decided for others of these blocks is not asked.
    rules.push(Rule::new().has_number(&peers, peer).goto(&others));
    rules.extend(of_class(KeyPart::Number(&blocks, peer)));
    rules.push(Rule::new().goto(&others));
    rules
}

fn decide_for_everybody(direction: Direction, version: IpVersion) -> Vec<Rule> {
    let [own, _] = ends(direction, version);
    let subjects = subjects(direction, version).name;
    let (subject, [protocol, port, range]) = (KeyPart::Number(&subjects, own), what());
    let verdicts = verdicts(direction, version).name;
    let decide = |name: &str, key: &[KeyPart<'_>]| Rule::new().vmap_by(&decided(direction, name).name, key, &verdicts);
    vec![
        decide(ANY_PEER, &[subject, protocol, port]),
        decide(ANY_PEER_RANGE, &[subject, protocol, range]),
        decide(EVERYTHING, &[subject]),
        Rule::new().goto(&named("refuse", direction, version)),
    ]
}

fn refuse_decided(direction: Direction, version: IpVersion, logging: Logging) -> Vec<Rule> {
    let mut rules = vec![Rule::new().in_set(&itself(version).name, &ends(direction, version)).return_()];
    rules.extend(refuse(direction, version, logging));
    rules
}

fn audit_decided(direction: Direction, version: IpVersion, logging: Logging) -> Vec<Rule> {
    let itself = Rule::new().in_set(&itself(version).name, &ends(direction, version)).return_();
    vec![itself, audit(direction, version, logging)]
}

fn log_chain(direction: Direction, fate: Fate) -> String {
    format!("{}-{}-log", prefix(direction), fate.name())
}
