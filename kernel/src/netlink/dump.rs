//! A dump that is being received: its list so far, and whether the kernel has marked it as interrupted.

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkDeserializable};

use crate::netlink::error::{Error, Result};
use crate::netlink::reply::{self, NLMSG_DONE, NLMSG_ERROR, Reply, acknowledgement};

/// A dump that is being received.
pub(super) struct Dump<U> {
    pub(super) list: Vec<U>,
    pub(super) interrupted: bool,
}

impl<U> Dump<U> {
    /// Takes the next message. At the end of the dump there is a result: the list, or `None` when it was interrupted.
    pub(super) fn take<A: NetlinkDeserializable, I: IntoIterator<Item = U>>(
        &mut self,
        operation: &str,
        reply: &Reply<'_>,
        mut pick: impl FnMut(A) -> I,
    ) -> Result<Option<Option<Vec<U>>>> {
        self.interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
        if !matches!(reply.kind, NLMSG_DONE | NLMSG_ERROR) {
            self.list.extend(pick(reply::parse(operation, reply.bytes)?));
            return Ok(None);
        }
        let (number, extack) = acknowledgement(reply);
        match number {
            0 => Ok(Some((!self.interrupted).then(|| std::mem::take(&mut self.list)))),
            _ => Err(Error::kernel(operation, number, extack)),
        }
    }
}

#[cfg(test)]
mod tests;
