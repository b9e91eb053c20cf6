//! A table of the family `inet` as a value: read back, compared, and replaced whole in one transaction.

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage,
};

use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::chain::Chain;
use crate::nft::encode::ACCEPT;
use crate::nft::message::message;
use crate::nft::reply::Reply;
use crate::nft::rule::{RULE_EXPRESSIONS, Rule};
use crate::nft::set::Set;
use crate::nft::{counter, generation};

/// `NFTA_TABLE_FLAGS` (uapi/linux/netfilter/nf_tables.h).
const TABLE_FLAGS: u16 = 2;

/// A table of the `inet` family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The names of its counters.
    pub counters: Vec<String>,
    /// Its sets and maps.
    pub sets: Vec<Set>,
    /// Its chains. A jump's target may stand behind the chain that jumps.
    pub chains: Vec<Chain>,
}

/// What the kernel has of a desired table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The generation before this was read.
    pub generation: u32,
    /// The desired counters, sets and chains that exist: sets with the desired types, chains at the desired hook with
    /// the desired policy, and with the rules that they have.
    pub table: Table,
    /// Whether the table is dormant (`flags dormant`): none of its rules is evaluated.
    pub dormant: bool,
    /// Chains with a desired name and another hook. No message changes them in place.
    pub misplaced: Vec<String>,
    /// Sets with a desired name and other types. No message changes them in place.
    pub mistyped: Vec<String>,
}

/// Reads the table, the sets and the chains of `wanted` from the kernel. Foreign ones in the same table are not read,
/// and neither are elements.
pub fn read(socket: &mut Socket, wanted: &Table) -> Result<Listed> {
    let name = &wanted.name;
    let table = Table { name: name.clone(), counters: Vec::new(), sets: Vec::new(), chains: Vec::new() };
    let mut found = Listed { generation: 0, table, dormant: false, misplaced: Vec::new(), mistyped: Vec::new() };
    let query = |what: &str, inner| Request::new(format!("read {what}table inet {name}"), message(inner), 0);
    let mut queries = vec![
        generation::query(),
        query("", NfTablesMessage::GetTable(TableMessage { attributes: vec![TableAttribute::Name(name.clone())] })),
    ];
    queries.extend(wanted.query_sets());
    let query_counter = |counter: &String| query(&format!("counter {counter} of "), counter::query(name, counter));
    queries.extend(wanted.counters.iter().map(query_counter));
    queries.extend(wanted.chains.iter().map(|chain| query(&format!("chain {} of ", chain.name), chain.query(name))));
    let mut replies = socket.get_all(queries)?.into_iter();
    found.generation = generation::parse(replies.next().flatten())?;
    let Some(table) = replies.next().flatten() else { return Ok(found) };
    let flags = TableFlags::from_bits_retain(table.number(TABLE_FLAGS).unwrap_or(0));
    found.dormant = flags.contains(TableFlags::Dormant);
    for (set, reply) in wanted.sets.iter().zip(replies.by_ref()) {
        match reply {
            None => {}
            Some(reply) if set.is(&reply) => found.table.sets.push(set.clone()),
            Some(_) => found.mistyped.push(set.name.clone()),
        }
    }
    let counters = wanted.counters.iter().zip(replies.by_ref());
    found.table.counters = counters.filter_map(|(name, reply)| reply.map(|_| name.clone())).collect();
    for (chain, reply) in wanted.chains.iter().zip(replies) {
        let Some(reply) = reply else { continue };
        if !chain.is_at(&reply) {
            found.misplaced.push(chain.name.clone());
        } else if chain.base.is_none() || reply.has(&ChainAttribute::Policy(ACCEPT)) {
            let rules = rules(socket, name, &chain.name)?;
            found.table.chains.push(Chain { rules, ..chain.clone() });
        }
    }
    Ok(found)
}

/// Removes a table with its content. Whether there was one.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_table(socket: &mut Socket, name: &str) -> Result<bool> {
    let table = Table { name: name.into(), counters: Vec::new(), sets: Vec::new(), chains: Vec::new() };
    match socket.transact(table.delete()) {
        Ok(()) => Ok(true),
        Err(error) if error.is_gone() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The generation, and those sets of the table that exist with the desired types.
pub(super) fn sets(socket: &mut Socket, wanted: &Table) -> Result<(u32, Vec<Set>)> {
    let queries = std::iter::once(generation::query()).chain(wanted.query_sets());
    let mut replies = socket.get_all(queries.collect())?.into_iter();
    let generation = generation::parse(replies.next().flatten())?;
    let there = wanted.sets.iter().zip(replies);
    let right = there.filter(|(set, reply)| reply.as_ref().is_some_and(|reply| set.is(reply)));
    Ok((generation, right.map(|(set, _)| set.clone()).collect()))
}

impl Listed {
    /// Whether the kernel has exactly what is desired.
    pub fn is(&self, wanted: &Table) -> bool {
        self.table == *wanted && !self.dormant
    }
}

fn rules(socket: &mut Socket, table: &str, chain: &str) -> Result<Vec<Rule>> {
    let ours = [RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
    let query = NfTablesMessage::GetRule(RuleMessage { attributes: ours.to_vec() });
    let operation = format!("list the rules of chain {chain} of table inet {table}");
    socket.dump_some(Request::new(operation, message(query), 0), |reply: Reply| {
        // Kernels that ignore the filter list every rule of the family.
        let rule = ours.iter().all(|name| reply.has(name)).then(|| reply.get(RULE_EXPRESSIONS)).flatten();
        rule.map(Rule::parse)
    })
}

impl Table {
    fn query_sets(&self) -> impl Iterator<Item = Request<NetfilterMessage>> {
        self.sets.iter().map(|set| {
            let operation = format!("read set {} of table inet {}", set.name, self.name);
            Request::new(operation, message(set.query(&self.name)), 0)
        })
    }

    /// The transaction that makes the kernel's sets and chains of these names equal to these, and the table not
    /// dormant. Other chains and sets of the table stay as they are, and so do the elements of sets with the right
    /// types. Misplaced chains and mistyped sets are recreated.
    pub fn replace(&self, found: &Listed) -> Vec<Request<NetfilterMessage>> {
        let awake = TableAttribute::Flags(TableFlags::empty());
        let table = TableMessage { attributes: vec![TableAttribute::Name(self.name.clone()), awake] };
        let mut requests = vec![self.request("set", "", NfTablesMessage::NewTable(table), NLM_F_CREATE)];
        let of = |chain: &Chain| format!("chain {} of ", chain.name);
        let rules = |chain: &Chain| RuleMessage {
            attributes: vec![RuleAttribute::Table(self.name.clone()), RuleAttribute::Chain(chain.name.clone())],
        };
        let empty = |chain: &Chain| self.request("empty", &of(chain), NfTablesMessage::DeleteRule(rules(chain)), 0);
        for chain in self.chains.iter().filter(|chain| found.misplaced.contains(&chain.name)) {
            requests.push(empty(chain));
            requests.push(self.request("remove", &of(chain), chain.remove(&self.name), 0));
        }
        let counters = self.counters.iter().filter(|counter| !found.table.counters.contains(counter));
        requests.extend(counters.map(|counter| {
            let create = counter::create(&self.name, counter);
            self.request("set", &format!("counter {counter} of "), create, NLM_F_CREATE)
        }));
        // The target of a rule or an element is created before it, and removed after it.
        for chain in &self.chains {
            let set = NfTablesMessage::NewChain(chain.message(&self.name));
            requests.push(self.request("set", &of(chain), set, NLM_F_CREATE));
            requests.push(empty(chain));
        }
        for (number, set) in (1..).zip(&self.sets) {
            let of = format!("set {} of ", set.name);
            if found.mistyped.contains(&set.name) {
                requests.push(self.request("remove", &of, set.remove(&self.name), 0));
            }
            requests.push(self.request("set", &of, set.create(&self.name, number), NLM_F_CREATE));
        }
        for chain in &self.chains {
            for rule in &chain.rules {
                let mut message = rules(chain);
                message.attributes.push(RuleAttribute::Other(DefaultNla::new(RULE_EXPRESSIONS, rule.emit())));
                let add = NfTablesMessage::NewRule(message);
                requests.push(self.request("fill", &of(chain), add, NLM_F_CREATE | NLM_F_APPEND));
            }
        }
        requests
    }

    /// Removes the table with its content.
    pub fn delete(&self) -> Vec<Request<NetfilterMessage>> {
        let table = TableMessage { attributes: vec![TableAttribute::Name(self.name.clone())] };
        vec![self.request("remove", "", NfTablesMessage::DeleteTable(table), 0)]
    }

    fn request(&self, verb: &str, of: &str, inner: NfTablesMessage, flags: u16) -> Request<NetfilterMessage> {
        Request::new(format!("{verb} {of}table inet {}", self.name), message(inner), flags)
    }
}
