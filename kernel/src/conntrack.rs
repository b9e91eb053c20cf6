//! Conntrack entries: selected by a filter, listed, and deleted.
//!
//! A UDP flow keeps the translation of its first packet: after a change of the rules it goes to the old destination for
//! as long as packets keep coming. Such entries are deleted here; the next packet creates a new one.
//!
//! Below are the parts: `message` (what all messages have), `connection` (an entry), `few` (all of them), `filter`, `selection`, `to_ports` (a search).
//! What may not live here: which flows are outdated, and when (`podwire_attachment`).

mod connection;
mod few;
mod filter;
mod message;
mod selection;
mod to_ports;

use std::convert::Infallible;

pub use connection::Connection;
pub use few::few;
pub use filter::Filter;
pub use selection::Selection;
pub use to_ports::list_to_ports;

use crate::conntrack::connection::Listed;
use crate::conntrack::message::{DELETE, GET};
use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// Deletes the connections that match a filter, of any owner. The kernel scans every connection of the machine: 0.2 ms
/// when there are few, 50 ms when there are 100,000. By IPv6 address they are listed first, which takes 11 ms or more.
///
/// # Errors
/// What the kernel refused.
pub fn forget(socket: &mut Socket, filter: &Filter) -> Result<()> {
    if filter.asked() != *filter {
        return forget_one_by_one(socket, filter);
    }
    match socket.execute(Request::new(format!("forget {filter}"), filter.message(DELETE), 0)) {
        // Linux before 6.8 looks for a connection with exactly these tuples, and refuses incomplete ones.
        Err(error) if takes_no_filter(&error) => forget_one_by_one(socket, filter),
        other => other,
    }
}

fn takes_no_filter(error: &Error) -> bool {
    use nix::errno::Errno::{EINVAL, ENOENT, EOPNOTSUPP};
    matches!(error.errno(), Some(EINVAL | ENOENT | EOPNOTSUPP))
}

/// As [`forget`], by listing first: for filters that the kernel does not support.
///
/// # Errors
/// The first error.
pub fn forget_one_by_one(socket: &mut Socket, filter: &Filter) -> Result<()> {
    let connections = list(socket, filter)?;
    forget_each(socket, &connections)
}

/// Deletes these connections. One that has gone is fine.
///
/// # Errors
/// The first error.
pub fn forget_each(socket: &mut Socket, connections: &[Connection]) -> Result<()> {
    let refused = socket.execute_each(connections.iter().map(Connection::delete), drop);
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Sets these bits of the marks of connections. One that has gone is fine.
///
/// # Errors
/// The first error.
pub fn mark_each(socket: &mut Socket, connections: &[Connection], bits: u32, of: u32) -> Result<()> {
    let refused = socket.execute_each(connections.iter().map(|connection| connection.set_mark(bits, of)), drop);
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// The connections of every protocol with ports that are meant, of both versions of IP. 100,000 take some 140 ms.
///
/// # Errors
/// What the kernel refused.
pub fn list_those(socket: &mut Socket, is_meant: impl Fn(&Connection) -> bool) -> Result<Vec<Connection>> {
    let all = Request::new("list connections", Selection::All.message(), 0);
    socket.dump_some(all, |Listed(connection)| {
        connection.filter(|connection| connection.has_ports() && is_meant(connection))
    })
}

/// Shows each connection of a selection, of every protocol, while the list still comes. After an error no more are shown. One
/// that comes or goes meanwhile may be missing, and where the list has to begin anew one may be shown twice.
///
/// # Errors
/// What the kernel refused, and the first error of whom they are shown to.
pub fn each(socket: &mut Socket, selection: Selection, mut show: impl FnMut(Connection) -> Result<()>) -> Result<()> {
    let mut shown = Ok(());
    let list =
        socket.dump_some(Request::new(format!("list {selection}"), selection.message(), 0), |Listed(connection)| {
            if let (Ok(()), Some(connection)) = (&shown, connection) {
                shown = show(connection);
            }
            None::<Infallible>
        });
    list.and(shown)
}

/// The connections that match a filter.
///
/// # Errors
/// What the kernel refused.
pub fn list(socket: &mut Socket, filter: &Filter) -> Result<Vec<Connection>> {
    // Linux before 5.8 ignores the filter.
    let pick = |Listed(connection): Listed| connection.filter(|connection| filter.matches(connection));
    socket.dump_some(Request::new(format!("list {filter}"), filter.message(GET), 0), pick)
}
