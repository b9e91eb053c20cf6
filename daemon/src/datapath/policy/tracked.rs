//! Connections that had begun before a policy refused them: they get a bit in their mark, by which the rules judge every packet of theirs
//! anew, and drop replies. Deleting their entries would not cut them: a packet that goes on, of either end, would begin them again.
//!
//! What may not live here: what is refused (`policy`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use podwire_kernel::conntrack::{self, Connection, Selection};
use podwire_kernel::family::IpVersion;
use podwire_kernel::{Result, Socket};

use crate::datapath::policy::layout::CUT;
use crate::policy::compiled::Packet;
use crate::policy::port::Protocol;
use crate::policy::restricted::Restricted;

/// So many are given away together.
const TOGETHER: usize = 512;

/// Connections of so many addresses are listed one address after the other: each is a walk past all connections.
const WALKS: usize = 8;

/// How many connections were cut, and how many are allowed again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Refused now.
    pub(crate) cut: usize,
    /// Allowed again.
    pub(crate) resumed: usize,
    /// Whether some are cut now.
    pub(crate) are_some: bool,
}

impl Judged {
    /// These and others.
    pub(crate) fn and(self, others: Self) -> Self {
        Self {
            cut: self.cut + others.cut,
            resumed: self.resumed + others.resumed,
            are_some: self.are_some || others.are_some,
        }
    }
}

/// Lists tracked connections: those that may be refused now, and, where there are some, those that are cut. They are given away some
/// hundreds together, while the list still comes; one may be given twice.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn list(
    socket: &mut Socket,
    restricted: &Restricted,
    are_some: bool,
    mut give: impl FnMut(Vec<Connection>),
) -> Result<()> {
    let is_meant = |connection: &Connection| {
        let packet = packet(connection);
        connection.mark & CUT != 0 || restricted.has(packet.source, packet.destination)
    };
    if let Some(few) = conntrack::few(socket)? {
        let found: Vec<_> = few.into_iter().filter(is_meant).collect();
        if !found.is_empty() {
            give(found);
        }
        return Ok(());
    }
    let mut found = Vec::with_capacity(TOGETHER);
    for selection in selections(restricted, are_some) {
        conntrack::each(socket, selection, |connection| {
            if is_meant(&connection) {
                found.push(connection);
                if found.len() == TOGETHER {
                    give(std::mem::replace(&mut found, Vec::with_capacity(TOGETHER)));
                }
            }
            Ok(())
        })?;
    }
    if !found.is_empty() {
        give(found);
    }
    Ok(())
}

/// Judges connections that were listed, and marks those that are to be cut, and those that are not cut any more.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn judge(
    socket: &mut Socket,
    connections: Vec<Connection>,
    passes: impl Fn(&Packet) -> bool,
) -> Result<Judged> {
    let is_cut = |connection: &Connection| connection.mark & CUT != 0;
    let (allowed, refused): (Vec<_>, Vec<_>) =
        connections.into_iter().partition(|connection| passes(&packet(connection)));
    let are_some = !refused.is_empty();
    let cut: Vec<_> = refused.into_iter().filter(|connection| !is_cut(connection)).collect();
    let resumed: Vec<_> = allowed.into_iter().filter(is_cut).collect();
    conntrack::mark_each(socket, &cut, CUT, CUT)?;
    conntrack::mark_each(socket, &resumed, 0, CUT)?;
    Ok(Judged { cut: cut.len(), resumed: resumed.len(), are_some })
}

/// What has to be listed so that none of these connections is missing, nor one of those that are cut where there are some.
fn selections(restricted: &Restricted, are_some: bool) -> Vec<Selection> {
    let Restricted::Of { sources, destinations } = restricted else { return vec![Selection::All] };
    let four = |addresses: &BTreeSet<IpAddr>, selection: fn(Ipv4Addr) -> Selection| -> Vec<Selection> {
        let four = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(selection(*address)),
            IpAddr::V6(_) => None,
        });
        four.collect()
    };
    let mut selections = [four(sources, Selection::From), four(destinations, Selection::AnsweredBy)].concat();
    // Of IPv6 the kernel cannot tell them apart.
    let is_six = sources.iter().chain(destinations).any(IpAddr::is_ipv6);
    match selections.len() > WALKS {
        true if is_six => return vec![Selection::All],
        true => selections = vec![Selection::Of(IpVersion::V4)],
        false => {}
    }
    selections.extend(is_six.then_some(Selection::Of(IpVersion::V6)));
    selections.extend(are_some.then_some(Selection::Marked(CUT)));
    selections
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::network_policy::Direction;

    #[test]
    fn what_is_listed_has_all_that_may_be_refused_and_all_that_is_cut() {
        use Selection::{All, AnsweredBy, From, Marked, Of};
        let four = |last: u8| Ipv4Addr::new(10, 0, 0, last);
        let six: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(selections(&Restricted::Any, true), [All]);
        assert_eq!(selections(&Restricted::default(), false), []);
        assert_eq!(selections(&Restricted::default(), true), [Marked(CUT)]);
        let to = Restricted::judged(Direction::Ingress, [four(1).into()]);
        assert_eq!(selections(&to, false), [AnsweredBy(four(1))]);
        let from = Restricted::judged(Direction::Egress, [four(2).into(), six]);
        let both = [From(four(2)), AnsweredBy(four(1)), Of(IpVersion::V6), Marked(CUT)];
        assert_eq!(selections(&to.and(from), true), both);
        // Too many walks.
        let many = Restricted::judged(Direction::Egress, (1..=9).map(|last| four(last).into()));
        assert_eq!(selections(&many, true), [Of(IpVersion::V4), Marked(CUT)]);
        assert_eq!(selections(&many.and(Restricted::with([six])), true), [All]);
    }
}
