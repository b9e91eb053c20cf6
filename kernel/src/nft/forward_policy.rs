//! The chains, of any table, at the hook "forward" that drop what none of their rules decides about: by their policy, or by
//! a rule for all packets.

use std::collections::BTreeMap;

use netlink_packet_netfilter::nftables::{ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::decision::{self, Step};
use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::chain::CHAIN_HOOK;
use crate::nft::encode::DROP;
use crate::nft::reply::{self, Reply};
use crate::nft::rule::RULE_EXPRESSIONS;
use crate::nft::statement::statement;

/// `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`, `NFTA_CHAIN_POLICY`, `NFTA_HOOK_HOOKNUM`, `NFTA_RULE_CHAIN`
/// (uapi/linux/netfilter/nf_tables.h).
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const RULE_CHAIN: u16 = 2;
/// `NF_INET_FORWARD` (uapi/linux/netfilter.h).
const FORWARD: u32 = 2;

/// The families whose chains see forwarded packets, with their names in `nft`.
const FAMILIES: [(NetfilterProtoFamily, &str); 3] =
    [(NetfilterProtoFamily::Inet, "inet"), (NetfilterProtoFamily::IPv4, "ip"), (NetfilterProtoFamily::IPv6, "ip6")];

/// A chain at the hook "forward" that drops what none of its rules decides about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropChain {
    /// The family of its table, as named by `nft`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Whether a rule for all packets drops them, and not the policy.
    pub by_rule: bool,
    /// The expressions of every rule of the table, as the kernel lists them: the caller judges what they accept.
    pub rules: Vec<Vec<u8>>,
}

/// A chain at the hook: its table, its name, and whether its policy is "drop".
type Hooked = (String, String, bool);

/// The chains that drop forwarded packets unless a rule accepts them.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_chains(socket: &mut Socket) -> Result<Vec<DropChain>> {
    let mut found = Vec::new();
    for (family, name) in FAMILIES {
        let query = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let operation = format!("list the chains of family {name}");
        let hooked: Vec<Hooked> = socket.dump_some(Request::new(operation, of(family, query), 0), hooked)?;
        let mut tables: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
        for (table, chain, drops) in hooked {
            tables.entry(table).or_default().push((chain, drops));
        }
        for (table, chains) in tables {
            let rules = rules(socket, family, name, &table)?;
            let all: Vec<_> = rules.values().flatten().cloned().collect();
            for (chain, policy) in chains {
                let decided = decided(&chain, &rules);
                if decided.unwrap_or(policy) {
                    let (table, rules) = (table.clone(), all.clone());
                    found.push(DropChain { family: name, table, chain, by_rule: decided.is_some(), rules });
                }
            }
        }
    }
    Ok(found)
}

/// Whether a chain drops or accepts what none of its conditions decides about; `None` where that is left to its policy.
fn decided(chain: &String, rules: &BTreeMap<String, Vec<Vec<u8>>>) -> Option<bool> {
    let steps = |chain: &String| -> Vec<Step<String>> {
        rules.get(chain).into_iter().flatten().map(|expressions| statement(expressions)).collect()
    };
    decision::drops(chain, &steps)
}

/// The rules of a table, in order, by chain.
fn rules(
    socket: &mut Socket,
    family: NetfilterProtoFamily,
    name: &str,
    table: &str,
) -> Result<BTreeMap<String, Vec<Vec<u8>>>> {
    let ours = vec![RuleAttribute::Table(table.to_owned())];
    let query = NfTablesMessage::GetRule(RuleMessage { attributes: ours.clone() });
    let operation = format!("list the rules of table {name} {table}");
    let found = socket.dump_some(Request::new(operation, of(family, query), 0), |reply: Reply| {
        // Kernels that ignore the filter list every rule of the family.
        let is_ours = ours.iter().all(|name| reply.has(name));
        // A rule without expressions is one.
        let expressions = reply.get(RULE_EXPRESSIONS).unwrap_or_default().to_vec();
        text(&reply, RULE_CHAIN).filter(|_| is_ours).map(|chain| (chain, expressions))
    })?;
    let mut rules: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (chain, expressions) in found {
        rules.entry(chain).or_default().push(expressions);
    }
    Ok(rules)
}

/// A chain that forwarded packets pass.
fn hooked(reply: Reply) -> Option<Hooked> {
    let hook = reply.get(CHAIN_HOOK).and_then(|hook| reply::get(hook, HOOK_NUMBER));
    let at = hook.and_then(|number| number.try_into().ok()).map(u32::from_be_bytes);
    if at != Some(FORWARD) {
        return None;
    }
    let drops = reply.number(CHAIN_POLICY) == Some(DROP);
    Some((text(&reply, CHAIN_TABLE)?, text(&reply, CHAIN_NAME)?, drops))
}

fn text(reply: &Reply, kind: u16) -> Option<String> {
    Some(String::from_utf8_lossy(reply.get(kind)?).trim_end_matches('\0').to_owned())
}

fn of(family: NetfilterProtoFamily, inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}
