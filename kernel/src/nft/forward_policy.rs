//! The chains, of any table, at the hook "forward" whose policy is "drop".

use netlink_packet_netfilter::nftables::{ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::chain::CHAIN_HOOK;
use crate::nft::encode::DROP;
use crate::nft::reply::{self, Reply};
use crate::nft::rule::RULE_EXPRESSIONS;

/// `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`, `NFTA_CHAIN_POLICY`, `NFTA_HOOK_HOOKNUM` (uapi/linux/netfilter/nf_tables.h).
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// `NF_INET_FORWARD` (uapi/linux/netfilter.h).
const FORWARD: u32 = 2;

/// The families whose chains see forwarded packets, with their names in `nft`.
const FAMILIES: [(NetfilterProtoFamily, &str); 3] =
    [(NetfilterProtoFamily::Inet, "inet"), (NetfilterProtoFamily::IPv4, "ip"), (NetfilterProtoFamily::IPv6, "ip6")];

/// A chain at the hook "forward" with the policy "drop".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropChain {
    /// The family of its table, as named by `nft`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// The expressions of every rule of the table, as the kernel lists them: the caller judges what they accept.
    pub rules: Vec<Vec<u8>>,
}

/// The chains that drop forwarded packets unless a rule accepts them.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_chains(socket: &mut Socket) -> Result<Vec<DropChain>> {
    let mut found = Vec::new();
    for (family, name) in FAMILIES {
        let query = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let operation = format!("list the chains of family {name}");
        let chains = socket.dump_some(Request::new(operation, of(family, query), 0), chain)?;
        for (table, chain) in chains {
            let ours = vec![RuleAttribute::Table(table.clone())];
            let query = NfTablesMessage::GetRule(RuleMessage { attributes: ours.clone() });
            let operation = format!("list the rules of table {name} {table}");
            let rules = socket.dump_some(Request::new(operation, of(family, query), 0), |reply: Reply| {
                // Kernels that ignore the filter list every rule of the family.
                let expressions = reply.get(RULE_EXPRESSIONS).map(<[u8]>::to_vec);
                expressions.filter(|_| ours.iter().all(|name| reply.has(name)))
            })?;
            found.push(DropChain { family: name, table, chain, rules });
        }
    }
    Ok(found)
}

/// The table and the name of a chain that drops forwarded packets.
fn chain(reply: Reply) -> Option<(String, String)> {
    let hook = reply.get(CHAIN_HOOK).and_then(|hook| reply::get(hook, HOOK_NUMBER));
    let at = hook.and_then(|number| number.try_into().ok()).map(u32::from_be_bytes);
    if at != Some(FORWARD) || reply.number(CHAIN_POLICY) != Some(DROP) {
        return None;
    }
    let text = |kind| Some(String::from_utf8_lossy(reply.get(kind)?).trim_end_matches('\0').to_owned());
    text(CHAIN_TABLE).zip(text(CHAIN_NAME))
}

fn of(family: NetfilterProtoFamily, inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}
