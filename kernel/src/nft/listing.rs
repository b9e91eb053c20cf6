//! The chains, sets and counters of a table by name: to find those that are not desired any more.

use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetMessage,
};

use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::counter;
use crate::nft::message::message;
use crate::nft::reply::Reply;

/// `NFTA_CHAIN_NAME`, `NFTA_SET_NAME` (uapi/linux/netfilter/nf_tables.h).
const CHAIN_NAME: u16 = 3;
const SET_NAME: u16 = 2;

/// Chains and sets of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The chains.
    pub chains: Vec<String>,
    /// The sets and maps.
    pub sets: Vec<String>,
    /// The named counters.
    pub counters: Vec<String>,
}

/// The chains, the sets and the counters of a table; none when there is no table.
///
/// # Errors
/// When the kernel refuses.
pub fn names(socket: &mut Socket, table: &str) -> Result<Names> {
    let of_chain = ChainAttribute::Table(table.into());
    let query = NfTablesMessage::GetChain(ChainMessage { attributes: vec![of_chain.clone()] });
    let operation = format!("list the chains of table inet {table}");
    let chains = socket.dump_some(Request::new(operation, message(query), 0), |reply: Reply| {
        // Kernels that ignore the filter list every chain of the family.
        reply.has(&of_chain).then(|| reply.get(CHAIN_NAME).map(text)).flatten()
    })?;
    let of_set = SetAttribute::Table(table.into());
    let query = NfTablesMessage::GetSet(SetMessage { attributes: vec![of_set.clone()] });
    let operation = format!("list the sets of table inet {table}");
    let sets = socket.dump_some(Request::new(operation, message(query), 0), |reply: Reply| {
        reply.has(&of_set).then(|| reply.get(SET_NAME).map(text)).flatten()
    });
    let operation = format!("list the counters of table inet {table}");
    let request = Request::new(operation, message(counter::query_all(table)), 0);
    let counters = socket.dump_some(request, |reply: Reply| counter::name_in(table, &reply).map(text));
    Ok(Names { chains, sets: unless_gone(sets)?, counters: unless_gone(counters)? })
}

/// Nothing where the table has gone meanwhile.
fn unless_gone(found: Result<Vec<String>>) -> Result<Vec<String>> {
    match found {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        found => found,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

impl Names {
    /// Removes these chains, sets and counters of a table. What stays must not refer to them.
    pub fn remove(&self, table: &str) -> Vec<Request<NetfilterMessage>> {
        let of_rules = |name: &String| vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(name.clone())];
        let of_chain = |name: &String| vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(name.clone())];
        let of_set = |name: &String| vec![SetAttribute::Table(table.into()), SetAttribute::Name(name.clone())];
        let request = |verb: &str, what: &str, name: &String, inner| {
            Request::new(format!("{verb} {what} {name} of table inet {table}"), message(inner), 0)
        };
        let empty = self.chains.iter().map(|name| {
            let rules = RuleMessage { attributes: of_rules(name) };
            request("empty", "chain", name, NfTablesMessage::DeleteRule(rules))
        });
        let chains = self.chains.iter().map(|name| {
            let chain = ChainMessage { attributes: of_chain(name) };
            request("remove", "chain", name, NfTablesMessage::DeleteChain(chain))
        });
        let sets = self.sets.iter().map(|name| {
            let set = SetMessage { attributes: of_set(name) };
            request("remove", "set", name, NfTablesMessage::DeleteSet(set))
        });
        let counters =
            self.counters.iter().map(|name| request("remove", "counter", name, counter::remove(table, name)));
        empty.chain(chains).chain(sets).chain(counters).collect()
    }
}
