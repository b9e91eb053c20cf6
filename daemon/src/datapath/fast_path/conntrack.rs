//! What connection tracking has to be told because the fast path carries most packets past it: two of its sysctls.
//!
//! What may not live here: which packets those are (`program`).

use podwire_kernel::sysctl::{self, Sysctl};
use podwire_kernel::{Error, Result};
use tracing::info;

/// conntrack does not see the packets of the fast path, and would take the next one that it sees for one outside the
/// TCP window: with this setting it ignores windows. `nft_flow_offload` sets the same for each of its connections.
fn be_liberal() -> Sysctl {
    Sysctl { path: "net/netfilter/nf_conntrack_tcp_be_liberal".into(), value: "1" }
}

/// The time-outs of TCP connections, in seconds: of one that is established, and of one whose last data is not
/// acknowledged as far as conntrack has seen (net/netfilter/nf_conntrack_proto_tcp.c,
/// `IP_CT_TCP_FLAG_DATA_UNACKNOWLEDGED`; 5 minutes unless changed). What conntrack saw last of a connection that falls
/// idle may be data whose acknowledgement took the fast path, so the second must not be shorter than the first.
///
/// A connection whose other end is gone still ends early: its retransmissions take the normal forwarding path and are
/// counted (`nf_conntrack_tcp_max_retrans`).
const ESTABLISHED: &str = "net/netfilter/nf_conntrack_tcp_timeout_established";
const UNACKNOWLEDGED: &str = "net/netfilter/nf_conntrack_tcp_timeout_unacknowledged";

/// Sets what differs, and logs it; how many that were. `None` where there is no conntrack yet.
///
/// # Errors
/// When a sysctl cannot be read or written.
pub(super) fn set() -> Result<Option<usize>> {
    let be_liberal = be_liberal();
    let mut changed = 0;
    match be_liberal.holds()? {
        None => return Ok(None),
        Some(true) => {}
        Some(false) => {
            be_liberal.set()?;
            changed += 1;
            info!("set sysctl {} to {}", be_liberal.path, be_liberal.value);
        }
    }
    let Some((established, unacknowledged)) = sysctl::number(ESTABLISHED)?.zip(sysctl::number(UNACKNOWLEDGED)?) else {
        return Err(Error::unreadable(format!("read sysctl {UNACKNOWLEDGED}"), "the kernel has none"));
    };
    if unacknowledged < established {
        sysctl::set_number(UNACKNOWLEDGED, established)?;
        changed += 1;
        info!("set sysctl {UNACKNOWLEDGED} to {established}");
    }
    Ok(Some(changed))
}
