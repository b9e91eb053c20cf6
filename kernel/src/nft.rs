//! One nftables table of the `inet` family: its chains and rules as values, read back and replaced whole.
//!
//! The program `nft` is never executed: a change is one transaction of a netlink socket, so a packet sees either the
//! old rules or the new ones. What rules there should be is said elsewhere.

mod expression;

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

pub use self::expression::Rule;
use crate::{Request, Result, Socket};

/// A table of the `inet` family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain at a hook of the kernel, with the policy "accept".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// What it may do: `filter` or `nat`.
    pub kind: Kind,
    /// Where it is called.
    pub hook: At,
    /// Its place among the chains of that hook: lower is earlier (`NF_IP_PRI_*`).
    pub priority: i32,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// What a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Accept and drop.
    Filter,
    /// Translate addresses; sees the first packet of a connection only.
    Nat,
}

/// The hooks in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before the routing decision.
    Prerouting,
    /// On the way out, after routing.
    Postrouting,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl From<At> for InetHookNumber {
    fn from(at: At) -> Self {
        match at {
            At::Prerouting => Self::PreRouting,
            At::Postrouting => Self::PostRouting,
        }
    }
}

/// The chains of `wanted` as the kernel has them: those that are missing, or are not at the wanted hook, are left out.
/// Chains that a stranger put beside them are not looked at.
pub fn read(socket: &mut Socket, wanted: &Table) -> Result<Table> {
    let mut found = Table { name: wanted.name.clone(), chains: Vec::new() };
    for chain in &wanted.chains {
        let wish = format!("read chain {} of table inet {}", chain.name, wanted.name);
        let ask = ChainMessage {
            attributes: vec![ChainAttribute::Table(wanted.name.clone()), ChainAttribute::Name(chain.name.clone())],
        };
        let Some(answer) = socket.get(Request::new(wish, message(NfTablesMessage::GetChain(ask)), 0))? else {
            continue;
        };
        if chain.is_at(&answer) {
            found.chains.push(Chain { rules: rules(socket, &wanted.name, &chain.name)?, ..chain.clone() });
        }
    }
    Ok(found)
}

fn rules(socket: &mut Socket, table: &str, chain: &str) -> Result<Vec<Rule>> {
    let ask = NfTablesMessage::GetRule(RuleMessage {
        attributes: vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())],
    });
    let wish = format!("list the rules of chain {chain} of table inet {table}");
    let mut rules = Vec::new();
    for answer in socket.dump(Request::new(wish, message(ask), 0))? {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = answer.inner else { continue };
        // Kernels that ignore the filter list every rule of the family.
        let names = |name: &RuleAttribute| match name {
            RuleAttribute::Table(name) => Some(name == table),
            RuleAttribute::Chain(name) => Some(name == chain),
            _ => None,
        };
        if rule.attributes.iter().filter_map(names).all(|ours| ours) {
            rules.extend(rule.attributes.into_iter().find_map(|attribute| match attribute {
                RuleAttribute::Expressions(list) => Some(Rule::parse(list)),
                _ => None,
            }));
        }
    }
    Ok(rules)
}

impl Table {
    /// The transaction that makes the kernel's chains of these names equal to these; other chains, sets and maps of the
    /// table stay as they are.
    pub fn replace(&self) -> Vec<Request<NetfilterMessage>> {
        let mut requests = Vec::new();
        let table =
            NfTablesMessage::NewTable(TableMessage { attributes: vec![TableAttribute::Name(self.name.clone())] });
        requests.push(self.request("create", table, NLM_F_CREATE));
        for chain in &self.chains {
            requests.push(self.request("create", NfTablesMessage::NewChain(chain.message(&self.name)), NLM_F_CREATE));
            let all = RuleMessage {
                attributes: vec![RuleAttribute::Table(self.name.clone()), RuleAttribute::Chain(chain.name.clone())],
            };
            requests.push(self.request("empty", NfTablesMessage::DeleteRule(all.clone()), 0));
            for rule in &chain.rules {
                let mut rule_message = all.clone();
                rule_message.attributes.push(RuleAttribute::Expressions(rule.emit()));
                let add = NfTablesMessage::NewRule(rule_message);
                requests.push(self.request("fill", add, NLM_F_CREATE | NLM_F_APPEND));
            }
        }
        requests
    }

    /// Removes the table with all that is in it.
    pub fn delete(&self) -> Vec<Request<NetfilterMessage>> {
        let table = TableMessage { attributes: vec![TableAttribute::Name(self.name.clone())] };
        vec![self.request("remove", NfTablesMessage::DeleteTable(table), 0)]
    }

    fn request(&self, verb: &str, inner: NfTablesMessage, flags: u16) -> Request<NetfilterMessage> {
        Request::new(format!("{verb} table inet {}", self.name), message(inner), flags)
    }
}

impl Chain {
    fn message(&self, table: &str) -> ChainMessage {
        let hook = vec![
            Hook::Number(HookNumber::Inet(self.hook.into())),
            Hook::Priority(u32::from_ne_bytes(self.priority.to_ne_bytes())),
        ];
        ChainMessage {
            attributes: vec![
                ChainAttribute::Table(table.into()),
                ChainAttribute::Name(self.name.clone()),
                ChainAttribute::Hook(hook),
                ChainAttribute::Type(self.kind.name().into()),
            ],
        }
    }

    /// Whether the kernel's chain is at this hook, with this priority and kind.
    fn is_at(&self, found: &NetfilterMessage) -> bool {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(found)) = &found.inner else { return false };
        let wanted = self.message("");
        let has = |wanted: &ChainAttribute| found.attributes.iter().any(|attribute| same(wanted, attribute));
        wanted.attributes.iter().skip(1).all(has)
    }
}

/// Equal, whatever other fields of the hook the kernel adds.
fn same(wanted: &ChainAttribute, found: &ChainAttribute) -> bool {
    match (wanted, found) {
        (ChainAttribute::Hook(wanted), ChainAttribute::Hook(found)) => wanted.iter().all(|field| found.contains(field)),
        _ => wanted == found,
    }
}

fn message(inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), inner)
}

/// The list of expressions as it stands in a message.
type List = Vec<ListAttribute<ExpressionAttribute>>;
