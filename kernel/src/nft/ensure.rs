//! A table and elements of its sets, made so or taken away in one transaction, by whoever comes first: the skeleton is
//! the same for all, the elements are each one's own.

use crate::netlink::error::{Error, Result};
use crate::netlink::socket::Socket;
use crate::nft::element::{self, Element, Presence};
use crate::nft::table::{Table, read, sets};

/// How often something is looked at and tried again that others change at the same time. Somebody gets on each time.
const ATTEMPTS: usize = 100;

/// Elements of one transaction: few enough for the default send buffer.
const ELEMENTS: usize = 256;

/// What was not as it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ensured {
    /// Whether the table, a set or a chain was missing or different.
    pub table: bool,
    /// How many elements were missing or different.
    pub elements: usize,
}

/// Sees to it that the table is as wanted and that the elements are in its sets, in one transaction (from 257 elements
/// on in several). What is there already is left alone; an element whose key leads elsewhere or is somebody else's is
/// replaced. Others may do the same at the same moment.
///
/// # Errors
/// What the kernel refused.
pub fn ensure(socket: &mut Socket, wanted: &Table, elements: &[Element]) -> Result<Ensured> {
    let elements = sorted(elements);
    let mut done = Ensured::default();
    let mut chunks = elements.chunks(ELEMENTS);
    // Without any element there is still the table.
    let first = chunks.next().unwrap_or_default();
    for chunk in std::iter::once(first).chain(chunks) {
        let established = again_and_again(|| ensure_once(socket, wanted, chunk))?;
        done.table |= established.table;
        done.elements += established.elements;
    }
    Ok(done)
}

/// Takes elements away, in one transaction (from 257 elements on in several). What is gone is gone; what has the same key
/// and leads elsewhere, or is somebody else's, stays, and so does the table. The answer is how many were there.
///
/// # Errors
/// What the kernel refused.
pub fn remove_elements(socket: &mut Socket, table: &Table, elements: &[Element]) -> Result<usize> {
    let mut withdrawn = 0;
    for chunk in sorted(elements).chunks(ELEMENTS) {
        withdrawn += again_and_again(|| remove_once(socket, table, chunk))?;
    }
    Ok(withdrawn)
}

/// Each once: the second removal in one transaction would find nothing.
fn sorted(elements: &[Element]) -> Vec<Element> {
    let mut elements = elements.to_vec();
    elements.sort();
    elements.dedup();
    elements
}

fn again_and_again<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if changed_meanwhile(&error) => {}
            other => return other,
        }
    }
    attempt()
}

/// Whether a refusal may be due to what somebody did after the look.
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
        // What only adds comes to the same whatever others did meanwhile. What takes away must not take what they made.
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
