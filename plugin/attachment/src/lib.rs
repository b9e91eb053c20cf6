//! What an attachment is on this node: its names, its lease, and what it has on the host. The CNI plugin and the daemon
//! are siblings over this crate.
//!
//! ```text
//! names      device names and link-layer addresses, derived from the attachment
//! ipam       which addresses a set of ranges has (pure)
//! ledger     what is held, and by which attachment: records, claims, host ports and free lists below the state directory
//! log        what a reader should know that fails no call
//! host_side  the veth end on the host, its routes, neighbours and settings (pure)
//! pod_rules  host ports and masquerade in table inet podwire
//! host_port_flows  tracked UDP flows that do not follow a change of host ports
//! detach     remove what an attachment has in the kernel, then release what it holds
//! reclaim    detach dead attachments when an ADD needs what they hold
//! regular_file     a file that others may have put there
//! release    detach on behalf of a caller other than the runtime
//! ```
//! No CNI code or version, no stdin or stdout, nothing of the pod's side, and nothing of the daemon belongs here.
//! Errors are of [`error::Error`]: the plugin turns their kind into a code of CNI, the daemon into a problem.

#![warn(clippy::print_stderr, reason = "what others have named in it is to be escaped: `log::note`, or tracing")]

pub mod add_durations;
pub mod detach;
pub mod error;
pub mod host_side;
pub mod ipam;
pub mod ledger;
pub mod log;
pub mod names;
pub mod pod_rules;
pub mod reclaim;
pub mod regular_file;
pub mod release;

mod host_port_flows;
