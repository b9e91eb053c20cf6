//! Table `inet podwire-policy` in the kernel: what it has is compared with what the policies were compiled to, and the difference is
//! applied in one transaction. Between two changes a packet sees the policies as they were, or as they are.
//!
//! What may not live here: what the policies were compiled to (`policy`).

use podwire_conf::defaults::POLICY_TABLE;
use podwire_kernel::nft::{self, Entries, Listed, Names, Table};
use podwire_kernel::{Result, Socket};
use tracing::info;

use crate::datapath::policy::layout;
use crate::datapath::policy::tracked::{self, Judged};
use crate::datapath::transactions::Transactions;
use crate::policy::compiled::Compiled;

/// How often a transaction is retried that another program's has overtaken.
const ATTEMPTS: usize = 10;

/// The table, and the socket that it is changed by.
pub(crate) struct PolicyTable {
    socket: Socket,
    transactions: Transactions,
    /// What the sets are to have.
    desired: Vec<Entries>,
    /// As of which transaction the kernel has it; nothing where that is not known.
    known: Option<u32>,
}

/// What a change came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// How many entries were added and removed; rules that were restored count as one.
    pub(crate) changes: usize,
    /// Whether connections that were allowed may be refused now, so that the fast path has to forget them.
    pub(crate) restricts: bool,
}

impl PolicyTable {
    /// Nothing is known of the kernel yet.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn open(transactions: Transactions) -> Result<Self> {
        Ok(Self { socket: Socket::netfilter()?, transactions, desired: Vec::new(), known: None })
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Has the sets of the kernel's table have this.
    ///
    /// # Errors
    /// When the kernel refuses; what was in force stays in force, and [`PolicyTable::verify`] tries again.
    pub(crate) fn set(&mut self, desired: Vec<Entries>) -> Result<Applied> {
        let before = std::mem::replace(&mut self.desired, desired);
        self.apply(Some(before))
    }

    /// Restores what another program has changed in the table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn verify(&mut self) -> Result<Applied> {
        self.apply(None)
    }

    /// Applies the difference. `before` is what was desired before, where it is something else.
    fn apply(&mut self, before: Option<Vec<Entries>>) -> Result<Applied> {
        let table = layout::table();
        for attempt in 1.. {
            let generation = nft::current_generation(&mut self.socket)?;
            let known = self.known.take().filter(|known| self.transactions.only_ours(*known, generation));
            if known.is_some() && before.is_none() {
                self.known = Some(generation);
                return Ok(Applied::default());
            }
            let read;
            let (found, contents, surplus) = match (known, &before) {
                (Some(_), Some(before)) if !before.is_empty() => (whole(&table, generation), before, Names::default()),
                _ => {
                    let surplus;
                    let found;
                    (found, read, surplus) = self.read(&table)?;
                    (found, &read, surplus)
                }
            };
            let mut applied = Applied::default();
            let rules = !found.is(&table) || surplus != Names::default();
            let mut requests = if rules { table.replace(&found) } else { Vec::new() };
            if rules {
                applied = Applied { changes: 1, restricts: true };
            }
            let mut changed = Vec::new();
            for (desired, found) in self.desired.iter().zip(contents) {
                let (more, fewer) = (desired.without(found), found.without(desired));
                if more.is_empty() && fewer.is_empty() {
                    continue;
                }
                applied.changes += more.len() + fewer.len();
                applied.restricts |= layout::restricts(&desired.set().name, !more.is_empty(), !fewer.is_empty());
                changed.push((desired.set().name.clone(), more.len(), fewer.len()));
                requests.extend(fewer.remove(POLICY_TABLE));
                requests.extend(more.add(POLICY_TABLE));
            }
            requests.extend(surplus.remove(POLICY_TABLE));
            if requests.is_empty() {
                self.known = Some(generation);
                return Ok(applied);
            }
            match self.socket.transact_upon(Some(generation), requests) {
                // What was known may be so still: it is compared with the generation again.
                Err(error) if error.is_outdated() && attempt < ATTEMPTS => {
                    self.known = known;
                    continue;
                }
                made => made?,
            }
            self.known = Some(self.transactions.made_upon(generation));
            if rules {
                info!("set table inet {POLICY_TABLE}");
            }
            for (set, more, fewer) in changed {
                info!("set the elements of set {set} of table inet {POLICY_TABLE}: +{more} -{fewer}");
            }
            return Ok(applied);
        }
        unreachable!("the last attempt returns")
    }

    /// Removes the table, where there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn remove(&mut self) -> Result<bool> {
        (self.desired, self.known) = (Vec::new(), None);
        nft::remove_table(&mut self.socket, POLICY_TABLE)
    }

    /// Cuts the connections that are refused, and lets those go on that are allowed again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn judge(&mut self, compiled: &Compiled) -> Result<Judged> {
        tracked::judge(&mut self.socket, compiled)
    }

    /// What the kernel has: the fixed part, the contents of the sets in the order of the desired ones, and what is not desired:
    /// the whole table is ours.
    fn read(&mut self, table: &Table) -> Result<(Listed, Vec<Entries>, Names)> {
        let found = nft::read(&mut self.socket, table)?;
        let contents = self.desired.iter().map(|desired| match found.table.sets.contains(desired.set()) {
            true => nft::entries(&mut self.socket, POLICY_TABLE, desired),
            false => Ok(desired.none()),
        });
        let contents = contents.collect::<Result<_>>()?;
        let Names { mut chains, mut sets } = nft::names(&mut self.socket, POLICY_TABLE)?;
        chains.retain(|name| table.chains.iter().all(|chain| chain.name != *name));
        sets.retain(|name| table.sets.iter().all(|set| set.name != *name));
        Ok((found, contents, Names { chains, sets }))
    }
}

/// The table as desired.
fn whole(table: &Table, generation: u32) -> Listed {
    let table = table.clone();
    Listed { generation, table, dormant: false, misplaced: Vec::new(), mistyped: Vec::new() }
}

/// How many packets policies have refused so far: from pods, and to pods; `None` where there is no table.
///
/// # Errors
/// When the kernel refuses to answer.
pub(crate) fn refused(socket: &mut Socket) -> Result<[Option<u64>; 2]> {
    let counted = nft::counted(socket, POLICY_TABLE, &layout::COUNTERS)?;
    Ok([0, 1].map(|place: usize| counted.get(place).copied().flatten()))
}
