//! Ensures a table and elements of its sets in one transaction, and removes elements. Several processes do so
//! concurrently: the table is the same for all of them, the elements are each one's own.

use crate::netlink::error::{Error, Result};
use crate::netlink::socket::Socket;
use crate::nft::element::{self, Element, Presence};
use crate::nft::table::{Table, read, sets};

/// How often a transaction that others outran is retried. One of them makes progress each time.
const ATTEMPTS: usize = 100;

/// Elements per transaction: few enough for the default send buffer.
const ELEMENTS: usize = 256;

/// What was missing or different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ensured {
    /// Whether the table, a set or a chain was missing or different.
    pub table: bool,
    /// How many elements were missing or different.
    pub elements: usize,
}

/// Ensures that the table is as desired and that the elements are in its sets, in one transaction (from 257 elements on
/// in several). What exists is left alone; an element with other data or another owner is replaced. Other processes may
/// do the same concurrently.
///
/// # Errors
/// What the kernel refused.
pub fn ensure(socket: &mut Socket, wanted: &Table, elements: &[Element]) -> Result<Ensured> {
    let elements = sorted(elements);
    let mut done = Ensured::default();
    let mut chunks = elements.chunks(ELEMENTS);
    // Without elements there is still the table.
    let first = chunks.next().unwrap_or_default();
    for chunk in std::iter::once(first).chain(chunks) {
        let established = retry(|| ensure_once(socket, wanted, chunk))?;
        done.table |= established.table;
        done.elements += established.elements;
    }
    Ok(done)
}

/// Removes elements, in one transaction (from 257 elements on in several). Missing ones are fine; one with other data
/// or another owner stays, and so does the table. Returns how many were removed.
///
/// # Errors
/// What the kernel refused.
pub fn remove_elements(socket: &mut Socket, table: &Table, elements: &[Element]) -> Result<usize> {
    let mut withdrawn = 0;
    for chunk in sorted(elements).chunks(ELEMENTS) {
        withdrawn += retry(|| remove_once(socket, table, chunk))?;
    }
    Ok(withdrawn)
}

/// Each element once: removing it twice in one transaction would fail.
fn sorted(elements: &[Element]) -> Vec<Element> {
    let mut elements = elements.to_vec();
    elements.sort();
    elements.dedup();
    elements
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if changed_meanwhile(&error) => {}
            other => return other,
        }
    }
    attempt()
}

/// Whether an error may be due to a change by others since the read.
fn changed_meanwhile(error: &Error) -> bool {
    error.is_outdated() || error.is_gone() || error.is_busy() || error.already_there()
}

fn ensure_once(socket: &mut Socket, wanted: &Table, elements: &[Element]) -> Result<Ensured> {
    let found = read(socket, wanted)?;
    let table = !found.is(wanted);
    let mut requests = if table { wanted.replace(&found) } else { Vec::new() };
    let presences = element::presences(socket, &wanted.name, &found.table.sets, elements)?;
    let (mut count, mut removals) = (0, false);
    for (element, presence) in elements.iter().zip(presences) {
        if presence == Presence::Same {
            continue;
        }
        if presence == Presence::Other {
            removals = true;
            requests.push(element.delete(&wanted.name));
        }
        requests.push(element.add(&wanted.name));
        count += 1;
    }
    if !requests.is_empty() {
        // A transaction that only adds has the same result whatever others did meanwhile. One that removes must not
        // remove what they made.
        let destructive = removals || !found.misplaced.is_empty() || !found.mistyped.is_empty();
        socket.transact_upon(destructive.then_some(found.generation), requests)?;
    }
    Ok(Ensured { table, elements: count })
}

fn remove_once(socket: &mut Socket, table: &Table, elements: &[Element]) -> Result<usize> {
    let (generation, right) = sets(socket, table)?;
    let presences = element::presences(socket, &table.name, &right, elements)?;
    let ours = elements.iter().zip(presences).filter(|(_, presence)| *presence == Presence::Same);
    let requests: Vec<_> = ours.map(|(element, _)| element.delete(&table.name)).collect();
    let count = requests.len();
    if count > 0 {
        socket.transact_upon(Some(generation), requests)?;
    }
    Ok(count)
}
