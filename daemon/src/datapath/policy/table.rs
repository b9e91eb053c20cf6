//! Table `inet podwire-policy` in the kernel: it follows the changes of what the policies were compiled to, each in one transaction,
//! and is compared as a whole at the start and after another program's transactions. Between two changes a packet sees the policies
//! as they were, or as they are.
//!
//! What may not live here: what the policies were compiled to (`policy`).

use podwire_conf::defaults::POLICY_TABLE;
use podwire_kernel::netlink::monitor::Hearing;
use podwire_kernel::nft::{self, Entries, Listed, Names, Set, Table};
use podwire_kernel::{Result, Socket};
use tracing::{info, warn};

use crate::datapath::policy::chains::{self, Logging};
use crate::datapath::policy::contents;
use crate::datapath::policy::layout;
use crate::datapath::transactions::Transactions;
use crate::policy::changes::Changes;
use crate::policy::compiled::Compiled;
use crate::policy::restricted::Restricted;

/// How often a transaction is retried that another program's has overtaken.
const ATTEMPTS: usize = 10;

/// Of so many entries a change is made without the kernel telling of each: to leave and to come back takes some microseconds.
const MANY: usize = 64;

/// What hears of nftables, and whom to tell that somebody else has made a transaction that was not heard of.
pub(crate) type Listener = (Hearing, Box<dyn Fn() + Send>);

/// The table, and the socket that it is changed by.
pub(crate) struct PolicyTable {
    socket: Socket,
    transactions: Transactions,
    listener: Option<Listener>,
    logging: Logging,
    /// Why the kernel cannot log, where it shall and cannot.
    unloggable: Option<String>,
    /// As of which transaction the kernel had what was compiled; nothing where that is not known.
    known: Option<u32>,
}

/// What a change came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// How many entries were added and removed; rules that were restored count as one.
    pub(crate) changes: usize,
    /// The connections that were allowed and may be refused now: the fast path has to forget them.
    pub(crate) restricted: Restricted,
    /// Those that peers have left behind which have gone.
    pub(crate) left_behind: Restricted,
}

impl Applied {
    /// This and another one.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            changes: self.changes + other.changes,
            restricted: self.restricted.and(other.restricted),
            left_behind: self.left_behind.and(other.left_behind),
        }
    }
}

impl PolicyTable {
    /// Nothing is known of the kernel yet.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn open(transactions: Transactions, logging: Logging) -> Result<Self> {
        let socket = Socket::netfilter()?;
        Ok(Self { socket, transactions, listener: None, logging, unloggable: None, known: None })
    }

    /// Has a listener of this process hear nothing of large changes.
    pub(crate) fn spare(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// Why the kernel does not log what is refused, where it shall: the rules are in force without that.
    pub(crate) fn unloggable(&self) -> Option<&str> {
        self.unloggable.as_deref()
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Has the sets follow a change that led to this compiled form. What another program has changed in the table meanwhile is left
    /// to [`PolicyTable::verify`], unless it is in the way: a change does not wait for a comparison. What the change itself may refuse
    /// is for the caller to know.
    ///
    /// # Errors
    /// When the kernel refuses; what was in force stays in force, and [`PolicyTable::verify`] brings the rest.
    pub(crate) fn change(&mut self, changes: &Changes, compiled: &Compiled) -> Result<Applied> {
        let Some(known) = self.known else { return self.verify(compiled) };
        let changed = contents::changed(changes, compiled);
        let requests = changed
            .iter()
            .flat_map(|[removed, added]| removed.remove(POLICY_TABLE).into_iter().chain(added.add(POLICY_TABLE)));
        let requests: Vec<_> = requests.collect();
        if requests.is_empty() {
            return Ok(Applied::default());
        }
        // Until it has succeeded.
        self.known = None;
        let generation = nft::current_generation(&mut self.socket)?;
        let changes_made = changed.iter().map(|[removed, added]| removed.len() + added.len()).sum();
        let made = match self.commit(generation, requests, changes_made) {
            Ok(made) => made,
            Err(error) => {
                // Overtaken, which is nothing to be told, or something is not as it was: then it is seen what.
                if !error.is_outdated() {
                    warn!("a change of the policies is refused, the whole table is compared instead: {error}");
                }
                return self.verify(compiled);
            }
        };
        self.known = Some(if self.transactions.only_ours(known, generation) { made } else { known });
        log(changed.iter().map(|[removed, added]| (added.set(), added.len(), removed.len())));
        Ok(Applied { changes: changes_made, ..Applied::default() })
    }

    /// Makes the table where there is none, with nothing in its sets: who isolates a pod by it needs it to be there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        match nft::names(&mut self.socket, POLICY_TABLE)? {
            found if found == Names::default() => self.verify(&Compiled::default()).map(drop),
            _ => Ok(()),
        }
    }

    /// Brings what the kernel has to what was compiled, and restores what another program has changed in the table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn verify(&mut self, compiled: &Compiled) -> Result<Applied> {
        let could_log = self.unloggable.is_none();
        for attempt in 1.. {
            let generation = nft::current_generation(&mut self.socket)?;
            if self.known.take().is_some_and(|known| self.transactions.only_ours(known, generation)) {
                self.known = Some(generation);
                return Ok(Applied::default());
            }
            let (table, desired) = (chains::table(self.logging()), contents::contents(compiled));
            let (found, contents, surplus) = self.read(&table, &desired)?;
            let mut applied = Applied::default();
            let rules = !found.is(&table) || surplus != Names::default();
            let mut requests = if rules { table.replace(&found) } else { Vec::new() };
            if rules {
                applied = Applied { changes: 1, restricted: Restricted::Any, ..Applied::default() };
            }
            let mut changed = Vec::new();
            for (desired, found) in desired.iter().zip(&contents) {
                let (more, fewer) = (desired.without(found), found.without(desired));
                if more.is_empty() && fewer.is_empty() {
                    continue;
                }
                applied.changes += more.len() + fewer.len();
                if layout::restricts(&desired.set().name, !more.is_empty(), !fewer.is_empty()) {
                    applied.restricted = Restricted::Any;
                }
                changed.push((desired.set(), more.len(), fewer.len()));
                requests.extend(fewer.remove(POLICY_TABLE));
                requests.extend(more.add(POLICY_TABLE));
            }
            requests.extend(surplus.remove(POLICY_TABLE));
            if requests.is_empty() {
                self.known = Some(generation);
                return Ok(applied);
            }
            let made = match self.commit(generation, requests, applied.changes) {
                Err(error) if error.is_outdated() && attempt < ATTEMPTS => continue,
                // Whether that is the reason is seen: what is refused is dropped, whether it is logged or not.
                Err(error) if rules && error.is_refusal() && !error.is_outdated() && self.logging() == Logging::On => {
                    self.unloggable = Some(error.to_string());
                    continue;
                }
                Err(error) => {
                    self.unloggable = self.unloggable.take().filter(|_| !could_log);
                    return Err(error);
                }
                Ok(made) => made,
            };
            if let Some(why) = self.unloggable.as_ref().filter(|_| could_log) {
                warn!("the policies are in force, and what they refuse cannot be logged: {why}");
            }
            self.known = Some(made);
            if rules {
                info!("set table inet {POLICY_TABLE}");
            }
            log(changed.into_iter());
            return Ok(applied);
        }
        unreachable!("the last attempt returns")
    }

    /// Makes a transaction of so many entries, if there was none since this generation. Its number.
    fn commit(&mut self, generation: u32, requests: nft::Requests, entries: usize) -> Result<u32> {
        let Some((hearing, missed)) = self.listener.as_ref().filter(|_| entries >= MANY) else {
            self.socket.transact_upon(Some(generation), requests)?;
            return Ok(self.transactions.made_upon(generation));
        };
        let done = hearing.pause(|| self.socket.transact_upon(Some(generation), requests)).flatten();
        let made = done.map(|()| self.transactions.made_upon(generation));
        let now = nft::current_generation(&mut self.socket);
        if !now.is_ok_and(|now| self.transactions.only_ours(generation, now)) {
            missed();
        }
        made
    }

    /// As it shall be, where it can be.
    fn logging(&self) -> Logging {
        if self.unloggable.is_none() { self.logging } else { Logging::Off }
    }

    /// What the kernel has may be something else than what was compiled: the next change is a comparison.
    pub(crate) fn mistrust(&mut self) {
        self.known = None;
    }

    /// Removes the table, where there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn remove(&mut self) -> Result<bool> {
        self.known = None;
        nft::remove_table(&mut self.socket, POLICY_TABLE)
    }

    /// What the kernel has: the fixed part, the contents of the sets in the order of the desired ones, and what is not desired:
    /// the whole table is ours.
    fn read(&mut self, table: &Table, desired: &[Entries]) -> Result<(Listed, Vec<Entries>, Names)> {
        let found = nft::read(&mut self.socket, table)?;
        let contents = desired.iter().map(|desired| match found.table.sets.contains(desired.set()) {
            true => nft::entries(&mut self.socket, POLICY_TABLE, desired),
            false => Ok(desired.none()),
        });
        let contents = contents.collect::<Result<_>>()?;
        let Names { mut chains, mut sets, mut counters } = nft::names(&mut self.socket, POLICY_TABLE)?;
        chains.retain(|name| table.chains.iter().all(|chain| chain.name != *name));
        sets.retain(|name| table.sets.iter().all(|set| set.name != *name));
        counters.retain(|name| !table.counters.contains(name));
        Ok((found, contents, Names { chains, sets, counters }))
    }
}

/// One line, since one pod concerns a dozen of sets: the name of each, and how many entries more and fewer.
fn log<'a>(changed: impl Iterator<Item = (&'a Set, usize, usize)>) {
    let sets: Vec<_> = changed.map(|(set, more, fewer)| format!("{} +{more} -{fewer}", set.name)).collect();
    if !sets.is_empty() {
        info!("set elements of table inet {POLICY_TABLE}: {}", sets.join(", "));
    }
}

/// How many packets policies have refused so far: from pods, and to pods; `None` where there is no table.
///
/// # Errors
/// When the kernel refuses to answer.
pub(crate) fn refused(socket: &mut Socket) -> Result<[Option<u64>; 2]> {
    let counted = nft::counted(socket, POLICY_TABLE, &layout::COUNTERS)?;
    Ok([0, 1].map(|place: usize| counted.get(place).copied().flatten()))
}
