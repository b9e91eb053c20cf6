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
    /// Its chains. One that is jumped to may stand behind those that jump.
    pub chains: Vec<Chain>,
}

/// What the kernel has of a wanted table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The number of the last transaction, of any table, before this was read.
    pub generation: u32,
    /// The wanted counters that are there; the wanted sets that are there, with the types they have; the wanted chains
    /// that are there: at their hook, with their policy, and with the rules they have.
    pub table: Table,
    /// Whether the table is there and is asleep (`flags dormant`): none of its rules is looked at.
    pub dormant: bool,
    /// Chains that have a wanted name and are something else. They are not changed into a wanted one by any message.
    pub misplaced: Vec<String>,
    /// Sets that have a wanted name and other types. They are not changed into a wanted one by any message.
    pub mistyped: Vec<String>,
}

/// The table, the sets and the chains of `wanted` as the kernel has them. Those that a stranger put beside them are not
/// looked at, and neither are elements.
pub fn read(socket: &mut Socket, wanted: &Table) -> Result<Listed> {
    let name = &wanted.name;
    let table = Table { name: name.clone(), counters: Vec::new(), sets: Vec::new(), chains: Vec::new() };
    let mut found = Listed { generation: 0, table, dormant: false, misplaced: Vec::new(), mistyped: Vec::new() };
    let ask = |what: &str, inner| Request::new(format!("read {what}table inet {name}"), message(inner), 0);
    let mut questions = vec![
        generation::ask(),
        ask("", NfTablesMessage::GetTable(TableMessage { attributes: vec![TableAttribute::Name(name.clone())] })),
    ];
    questions.extend(wanted.ask_sets());
    let ask_counter = |counter: &String| ask(&format!("counter {counter} of "), counter::ask(name, counter));
    questions.extend(wanted.counters.iter().map(ask_counter));
    questions.extend(wanted.chains.iter().map(|chain| ask(&format!("chain {} of ", chain.name), chain.ask(name))));
    let mut answers = socket.get_all(questions)?.into_iter();
    found.generation = generation::parse(answers.next().flatten())?;
    let Some(table) = answers.next().flatten() else { return Ok(found) };
    let flags = TableFlags::from_bits_retain(table.number(TABLE_FLAGS).unwrap_or(0));
    found.dormant = flags.contains(TableFlags::Dormant);
    for (set, answer) in wanted.sets.iter().zip(answers.by_ref()) {
        match answer {
            None => {}
            Some(answer) if set.is(&answer) => found.table.sets.push(set.clone()),
            Some(_) => found.mistyped.push(set.name.clone()),
        }
    }
    let counters = wanted.counters.iter().zip(answers.by_ref());
    found.table.counters = counters.filter_map(|(name, answer)| answer.map(|_| name.clone())).collect();
    for (chain, answer) in wanted.chains.iter().zip(answers) {
        let Some(answer) = answer else { continue };
        if !chain.is_at(&answer) {
            found.misplaced.push(chain.name.clone());
        } else if chain.base.is_none() || answer.has(&ChainAttribute::Policy(ACCEPT)) {
            let rules = rules(socket, name, &chain.name)?;
            found.table.chains.push(Chain { rules, ..chain.clone() });
        }
    }
    Ok(found)
}

/// The generation, and those of a table's sets that are there with the types they should have.
pub(super) fn sets(socket: &mut Socket, wanted: &Table) -> Result<(u32, Vec<Set>)> {
    let questions = std::iter::once(generation::ask()).chain(wanted.ask_sets());
    let mut answers = socket.get_all(questions.collect())?.into_iter();
    let generation = generation::parse(answers.next().flatten())?;
    let there = wanted.sets.iter().zip(answers);
    let right = there.filter(|(set, answer)| answer.as_ref().is_some_and(|answer| set.is(answer)));
    Ok((generation, right.map(|(set, _)| set.clone()).collect()))
}

impl Listed {
    /// Whether the kernel has just what is wanted.
    pub fn is(&self, wanted: &Table) -> bool {
        self.table == *wanted && !self.dormant
    }
}

fn rules(socket: &mut Socket, table: &str, chain: &str) -> Result<Vec<Rule>> {
    let ours = [RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
    let ask = NfTablesMessage::GetRule(RuleMessage { attributes: ours.to_vec() });
    let operation = format!("list the rules of chain {chain} of table inet {table}");
    socket.dump_some(Request::new(operation, message(ask), 0), |answer: Reply| {
        // Kernels that ignore the filter list every rule of the family.
        let rule = ours.iter().all(|name| answer.has(name)).then(|| answer.get(RULE_EXPRESSIONS)).flatten();
        rule.map(Rule::parse)
    })
}

impl Table {
    fn ask_sets(&self) -> impl Iterator<Item = Request<NetfilterMessage>> {
        self.sets.iter().map(|set| {
            let operation = format!("read set {} of table inet {}", set.name, self.name);
            Request::new(operation, message(set.ask(&self.name)), 0)
        })
    }

    /// The transaction that makes the kernel's sets and chains of these names equal to these, and the table awake; other
    /// chains and sets of the table stay as they are, and so do the elements of sets that were found right. Chains that
    /// were found misplaced and sets that were found mistyped are made anew.
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
        // What a rule or an element leads to is there before it, and goes after it.
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

    /// Removes the table with all that is in it.
    pub fn delete(&self) -> Vec<Request<NetfilterMessage>> {
        let table = TableMessage { attributes: vec![TableAttribute::Name(self.name.clone())] };
        vec![self.request("remove", "", NfTablesMessage::DeleteTable(table), 0)]
    }

    fn request(&self, verb: &str, of: &str, inner: NfTablesMessage, flags: u16) -> Request<NetfilterMessage> {
        Request::new(format!("{verb} {of}table inet {}", self.name), message(inner), flags)
    }
}
