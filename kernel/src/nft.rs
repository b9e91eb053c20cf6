//! One nftables table of the `inet` family: its chains and rules as values, read back and replaced whole.
//!
//! The program `nft` is never executed: a change is one transaction of a netlink socket, so a packet sees either the
//! old rules or the new ones. What rules there should be is said elsewhere.

mod expression;

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage,
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
    /// Translate addresses; sees the first packet of a connection only.
    Nat,
}

/// The hooks in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// On the way out, after routing.
    Postrouting,
}

/// What the kernel has of a wanted table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The wanted chains that are there: at their hook, with their policy, and with the rules they have.
    pub table: Table,
    /// Whether the table is there and is asleep (`flags dormant`): none of its rules is looked at.
    pub dormant: bool,
    /// Chains that have a wanted name and are something else. They are not changed into a wanted one by any message.
    pub misplaced: Vec<String>,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
        }
    }
}

impl From<At> for InetHookNumber {
    fn from(at: At) -> Self {
        match at {
            At::Postrouting => Self::PostRouting,
        }
    }
}

/// `NF_ACCEPT` (uapi/linux/netfilter.h): a chain's policy, and a rule's verdict.
const ACCEPT: u32 = 1;

/// The table and the chains of `wanted` as the kernel has them. Chains that a stranger put beside them are not looked at.
pub fn read(socket: &mut Socket, wanted: &Table) -> Result<Found> {
    let table = Table { name: wanted.name.clone(), chains: Vec::new() };
    let mut found = Found { table, dormant: false, misplaced: Vec::new() };
    let ask = NfTablesMessage::GetTable(TableMessage { attributes: vec![TableAttribute::Name(wanted.name.clone())] });
    let wish = format!("read table inet {}", wanted.name);
    let Some(answer) = socket.get(Request::new(wish, message(ask), 0))? else { return Ok(found) };
    if let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = answer.inner {
        found.dormant = table.attributes.iter().any(|attribute| match attribute {
            TableAttribute::Flags(flags) => flags.contains(TableFlags::Dormant),
            _ => false,
        });
    }
    for chain in &wanted.chains {
        let wish = format!("read chain {} of table inet {}", chain.name, wanted.name);
        let ask = ChainMessage {
            attributes: vec![ChainAttribute::Table(wanted.name.clone()), ChainAttribute::Name(chain.name.clone())],
        };
        let Some(answer) = socket.get(Request::new(wish, message(NfTablesMessage::GetChain(ask)), 0))? else {
            continue;
        };
        if !chain.is_at(&answer) {
            found.misplaced.push(chain.name.clone());
        } else if has_policy(&answer, ACCEPT) {
            let rules = rules(socket, &wanted.name, &chain.name)?;
            found.table.chains.push(Chain { rules, ..chain.clone() });
        }
    }
    Ok(found)
}

impl Found {
    /// Whether the kernel has just what is wanted.
    pub fn is(&self, wanted: &Table) -> bool {
        self.table == *wanted && !self.dormant
    }
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
    /// The transaction that makes the kernel's chains of these names equal to these, and the table awake; other chains,
    /// sets and maps of the table stay as they are. Chains that were found misplaced are made anew.
    pub fn replace(&self, found: &Found) -> Vec<Request<NetfilterMessage>> {
        let awake = TableAttribute::Flags(TableFlags::empty());
        let table = TableMessage { attributes: vec![TableAttribute::Name(self.name.clone()), awake] };
        let mut requests = vec![self.request("set", "", NfTablesMessage::NewTable(table), NLM_F_CREATE)];
        for chain in &self.chains {
            let of = format!("chain {} of ", chain.name);
            let all = RuleMessage {
                attributes: vec![RuleAttribute::Table(self.name.clone()), RuleAttribute::Chain(chain.name.clone())],
            };
            if found.misplaced.contains(&chain.name) {
                let misplaced = ChainMessage {
                    attributes: vec![
                        ChainAttribute::Table(self.name.clone()),
                        ChainAttribute::Name(chain.name.clone()),
                    ],
                };
                requests.push(self.request("empty", &of, NfTablesMessage::DeleteRule(all.clone()), 0));
                requests.push(self.request("remove", &of, NfTablesMessage::DeleteChain(misplaced), 0));
            }
            let set = NfTablesMessage::NewChain(chain.message(&self.name));
            requests.push(self.request("set", &of, set, NLM_F_CREATE));
            requests.push(self.request("empty", &of, NfTablesMessage::DeleteRule(all.clone()), 0));
            for rule in &chain.rules {
                let mut rule_message = all.clone();
                rule_message.attributes.push(RuleAttribute::Expressions(rule.emit()));
                let add = NfTablesMessage::NewRule(rule_message);
                requests.push(self.request("fill", &of, add, NLM_F_CREATE | NLM_F_APPEND));
            }
        }
        requests
    }

    /// Removes the table with all that is in it.
    pub fn delete(&self) -> Vec<Request<NetfilterMessage>> {
        let table = TableMessage { attributes: vec![TableAttribute::Name(self.name.clone())] };
        vec![self.request("remove", "", NfTablesMessage::DeleteTable(table), 0)]
    }

    fn request(&self, verb: &str, of: &str, inner: NfTablesMessage, flags: u16) -> Request<NetfilterMessage> {
        Request::new(format!("{verb} {of}table inet {}", self.name), message(inner), flags)
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
                ChainAttribute::Policy(ACCEPT),
            ],
        }
    }

    /// Whether the kernel's chain is at this hook, with this priority and kind.
    fn is_at(&self, found: &NetfilterMessage) -> bool {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(found)) = &found.inner else { return false };
        let wanted = self.message("");
        let has = |wanted: &ChainAttribute| found.attributes.iter().any(|attribute| same(wanted, attribute));
        let place =
            |attribute: &&ChainAttribute| matches!(attribute, ChainAttribute::Hook(_) | ChainAttribute::Type(_));
        wanted.attributes.iter().filter(place).all(has)
    }
}

fn has_policy(found: &NetfilterMessage, policy: u32) -> bool {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(found)) = &found.inner else { return false };
    found.attributes.contains(&ChainAttribute::Policy(policy))
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
