//! What is looked up on the node at the moment of a question: which addresses pods hold, what the guards have dropped, how
//! long ADDs took. The daemon keeps none of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use podwire_attachment::error::Error;
use podwire_attachment::ledger::{Ledger, Record};
use podwire_conf::defaults;
use podwire_conf::rules::node::GUARDS;
use podwire_kernel::{Result, Socket, nft};

use crate::datapath::policy::refused::{self, Refused};
use crate::datapath::policy::table;
use crate::node::forward_policies::Policies;
use crate::observe::status::document::Adds;
use crate::report::problem::{Problem, ProblemKind};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The addresses that attachments of podwire's network hold.
    pub held: Vec<IpAddr>,
    /// The attachments whose ADD is complete.
    pub attachments: Vec<Record>,
    /// Packets that each guard has dropped, by its name.
    pub guards: BTreeMap<String, u64>,
    /// Chains of others that drop forwarded packets.
    pub policies: Policies,
    /// Packets that NetworkPolicies have refused: from pods, and to pods.
    pub refused: [Option<u64>; 2],
    /// The same by the address of the pod that was judged, as far as it is isolated still.
    pub refused_by_address: BTreeMap<IpAddr, Refused>,
    /// Packets that passed, and that policies would have refused which are not enforced.
    pub audited_by_address: BTreeMap<IpAddr, Refused>,
    /// How long ADDs took.
    pub adds: Option<Adds>,
    /// What could not be looked up.
    pub unread: Vec<Problem>,
}

impl Snapshot {
    /// Looks.
    pub fn take() -> Self {
        let mut snapshot = Self::default();
        let state = Path::new(defaults::RUN_DIRECTORY);
        match attached(state) {
            Ok((held, attachments)) => (snapshot.held, snapshot.attachments) = (held, attachments),
            Err(failure) => {
                let problem = Problem::new(ProblemKind::LedgerUnreadable, defaults::NETWORK, failure.to_string());
                snapshot.unread.push(problem);
            }
        }
        snapshot.adds = durations(state);
        if let Err(error) = Socket::netfilter().and_then(|mut socket| snapshot.ask(&mut socket)) {
            snapshot.unread.push(error.into());
        }
        snapshot
    }

    /// What nftables knows.
    fn ask(&mut self, socket: &mut Socket) -> Result<()> {
        self.guards = dropped(socket)?;
        self.policies = Policies::read(socket)?;
        self.refused = table::refused(socket)?;
        self.refused_by_address = refused::by_address(socket)?;
        self.audited_by_address = refused::would_be(socket)?;
        Ok(())
    }
}

/// Which addresses of podwire's network are held, and by which attachments.
fn attached(state: &Path) -> std::result::Result<(Vec<IpAddr>, Vec<Record>), Error> {
    let Some(ledger) = Ledger::of_this_boot(state, defaults::NETWORK)? else { return Ok(Default::default()) };
    Ok((ledger.claimed()?, ledger.attachments()?))
}

/// How many packets each guard has dropped since its counter was made, by the guard's name ([`GUARDS`]).
fn dropped(socket: &mut Socket) -> Result<BTreeMap<String, u64>> {
    let names = GUARDS.map(|(name, _)| name);
    let counted = nft::counted(socket, defaults::TABLE, &names)?;
    Ok(names.into_iter().zip(counted).filter_map(|(name, packets)| Some((name.to_owned(), packets?))).collect())
}

/// How long the ADDs of podwire's network took, as the plugin has noted it.
fn durations(state: &Path) -> Option<Adds> {
    let times = podwire_attachment::add_durations::read(&state.join(defaults::NETWORK)).ok()?;
    if times.is_empty() {
        return None;
    }
    let mut adds = Adds { count: times.len() as u64, ..Adds::default() };
    for limit in WITHIN {
        adds.within_microseconds.insert(limit, times.iter().filter(|time| u64::from(**time) <= limit).count() as u64);
    }
    adds.seconds = times.iter().map(|time| f64::from(*time)).sum::<f64>() / 1e6;
    Some(adds)
}

/// The upper ends of the classes of durations, in microseconds.
const WITHIN: [u64; 10] = [500, 1_000, 2_000, 3_000, 5_000, 10_000, 30_000, 100_000, 1_000_000, 10_000_000];
