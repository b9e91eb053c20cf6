//! Connections that had begun before a policy refused them: they get a bit in their mark, by which the rules judge every packet of theirs
//! anew, and drop replies. Deleting their entries would not cut them: a packet that goes on, of either end, would begin them again.
//!
//! What may not live here: what is refused (`policy`).

use podwire_kernel::conntrack::{self, Connection};
use podwire_kernel::{Result, Socket};

use crate::datapath::policy::layout::CUT;
use crate::policy::compiled::{Compiled, Packet};
use crate::policy::port::Protocol;

/// How many connections were cut, and how many are allowed again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Refused now.
    pub(crate) cut: usize,
    /// Allowed again.
    pub(crate) resumed: usize,
    /// How many are cut in all.
    pub(crate) all: usize,
}

/// Judges all tracked connections: 100,000 take some 140 ms.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn judge(socket: &mut Socket, compiled: &Compiled) -> Result<Judged> {
    let is_refused = |connection: &Connection| !compiled.verdict(&packet(connection)).passes();
    let is_cut = |connection: &Connection| connection.mark & CUT != 0;
    let wrong = |connection: &Connection| is_cut(connection) || is_refused(connection);
    let (refused, allowed): (Vec<_>, Vec<_>) = conntrack::list_those(socket, wrong)?.into_iter().partition(is_refused);
    let all = refused.len();
    let cut: Vec<_> = refused.into_iter().filter(|connection| !is_cut(connection)).collect();
    conntrack::mark_each(socket, &cut, CUT, CUT)?;
    conntrack::mark_each(socket, &allowed, 0, CUT)?;
    Ok(Judged { cut: cut.len(), resumed: allowed.len(), all })
}

/// The first packet of a connection, as the forward hook has seen it: the destination is translated, the source not yet.
fn packet(connection: &Connection) -> Packet {
    let Connection { protocol, source, reply_source, .. } = connection;
    let protocol = Protocol::ALL.into_iter().find(|known| known.number() == *protocol);
    Packet {
        source: source.ip(),
        destination: reply_source.ip(),
        port: protocol.map(|protocol| (protocol, reply_source.port())),
    }
}
