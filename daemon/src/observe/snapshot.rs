//! What is looked up on the node at the moment of a question: who holds which address, what the guards have refused, how
//! long ADDs took. The daemon keeps none of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use podwire_attachment::error::Error;
use podwire_attachment::ledger::{Ledger, Record};
use podwire_conf::defaults;
use podwire_kernel::Socket;

use crate::datapath::firewall;
use crate::observe::status::Adds;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// The addresses that attachments of podwire's network hold.
    pub held: Vec<IpAddr>,
    /// Those whose ADD went to its end.
    pub attachments: Vec<Record>,
    /// Packets that each guard has refused, by its name.
    pub guards: BTreeMap<String, u64>,
    /// How long ADDs took.
    pub adds: Option<Adds>,
    /// What could not be looked up, each a sentence.
    pub unread: Vec<String>,
}

impl Local {
    /// Looks.
    pub fn look() -> Self {
        let mut local = Self::default();
        let state = Path::new(defaults::RUN_DIRECTORY);
        match attached(state) {
            Ok((held, attachments)) => (local.held, local.attachments) = (held, attachments),
            Err(failure) => local.unread.push(failure.to_string()),
        }
        local.adds = durations(state);
        match Socket::netfilter().and_then(|mut socket| firewall::refused(&mut socket)) {
            Ok(refused) => local.guards = refused.into_iter().map(|(guard, packets)| (guard.into(), packets)).collect(),
            Err(error) => local.unread.push(error.to_string()),
        }
        local
    }
}

/// Which addresses of podwire's network are held, and by whom.
fn attached(state: &Path) -> Result<(Vec<IpAddr>, Vec<Record>), Error> {
    let Some(ledger) = Ledger::of_this_boot(state, defaults::NETWORK)? else { return Ok(Default::default()) };
    Ok((ledger.claimed()?, ledger.attachments()?))
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
