//! Requests with their acknowledgements, many in one system call, and transactions of nftables.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NetlinkSerializable};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, NetfilterSubsystem};
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{getsockopt, setsockopt};

use crate::netlink::error::{Error, Result};
use crate::netlink::reply::{NLMSG_ERROR, Reply, acknowledgement};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// Messages per system call: few enough that all of them may be refused without the errors overrunning the default
/// receive buffer.
const CHUNK: usize = 128;

/// Bytes of a send buffer that no message can use (net/netlink/af_netlink.c).
const SEND_OVERHEAD: usize = 32;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_BATCH_GENID` (uapi/linux/netfilter/nfnetlink.h).
const BATCH_BEGIN: u8 = 16;
const BATCH_GENERATION: u16 = 1;

/// What is kept of a request that was sent.
struct Sent {
    place: usize,
    operation: String,
    removal: bool,
    refused: bool,
}

impl Socket {
    /// Executes one request and waits for its acknowledgement.
    pub fn execute<T: NetlinkSerializable>(&mut self, request: Request<T>) -> Result<()> {
        self.execute_all(vec![request]).pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Executes requests in order, many in one system call, and continues after an error. Returns the failed ones with
    /// their index; empty means that all is done. When the socket itself fails, every request without a reply counts as
    /// failed.
    pub fn execute_all<T: NetlinkSerializable>(&mut self, requests: Vec<Request<T>>) -> Vec<(usize, Error)> {
        self.execute_each(requests, drop)
    }

    /// As [`Socket::execute_all`], for requests that are built as they are sent, so that a long list is never held;
    /// `done` is called with the operation of each one that succeeded, in order.
    pub fn execute_each<T: NetlinkSerializable>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
        mut done: impl FnMut(String),
    ) -> Vec<(usize, Error)> {
        let mut refused = Vec::new();
        let mut requests = requests.into_iter().enumerate().peekable();
        let mut bytes = Vec::new();
        while requests.peek().is_some() {
            bytes.clear();
            let mut sent = Vec::with_capacity(CHUNK);
            let first = self.sequence.wrapping_add(1);
            while let Some((place, Request { operation, message, flags, removal })) = requests.next() {
                // Only the last of a chunk requests an acknowledgement: errors are always sent.
                let last = sent.len() + 1 == CHUNK || requests.peek().is_none();
                let acknowledge = if last { NLM_F_ACK } else { 0 };
                self.frame(message, flags | acknowledge, &mut bytes);
                sent.push(Sent { place, operation, removal, refused: false });
                if last {
                    break;
                }
            }
            let answered = self.exchange(&bytes, first, self.sequence, &mut sent, &mut refused);
            let not_refused = sent.into_iter().filter(|sent| !sent.refused);
            if let Err(error) = answered {
                let unanswered =
                    |operation: String| Error::unreadable(operation, format!("no reply, so perhaps not done: {error}"));
                refused.extend(not_refused.map(|sent| (sent.place, unanswered(sent.operation))));
                refused.extend(requests.map(|(place, request)| (place, unanswered(request.operation))));
                return refused;
            }
            not_refused.for_each(|sent| done(sent.operation));
        }
        refused
    }

    /// Executes nftables requests as one transaction: all of them or none. The error is the first one. Without requests nothing is
    /// sent: the kernel acknowledges none, and would be waited for.
    pub fn transact(&mut self, requests: Vec<Request<NetfilterMessage>>) -> Result<()> {
        self.transact_upon(None, requests)
    }

    /// As [`Socket::transact`], if no nftables transaction has been committed since `generation` was read; else nothing
    /// is done, and the error is "outdated". Without a generation, other transactions do not matter.
    pub fn transact_upon(&mut self, generation: Option<u32>, requests: Vec<Request<NetfilterMessage>>) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let (mut bytes, mut sent, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let count = requests.len();
        // The header of a batch names its subsystem in `res_id` (uapi/linux/netfilter/nfnetlink.h).
        let subsystem = u16::from(u8::from(NetfilterSubsystem::NfTables));
        let control =
            |inner| NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, subsystem), inner);
        let begin = generation.map_or(ControlMessage::BatchBegin, |generation| ControlMessage::Other {
            message_type: BATCH_BEGIN,
            attributes: vec![DefaultNla::new(BATCH_GENERATION, generation.to_be_bytes().to_vec())],
        });
        self.frame(control(begin), 0, &mut bytes);
        let first = self.sequence;
        // An error of the transaction as a whole bears the sequence number of its beginning. That others have overtaken it may bear that
        // of any message, or of its end: where modules had to be loaded the kernel begins anew, and names the message that it had come
        // to (net/netfilter/nfnetlink.c, `replay`).
        let operation = requests.first().map_or_else(String::new, |request| request.operation.clone());
        let whole = || Sent { place: 0, operation: operation.clone(), removal: false, refused: false };
        sent.push(whole());
        for (place, Request { operation, message, flags, removal }) in requests.into_iter().enumerate() {
            // Only Linux 6.10 and newer acknowledge the end of a batch, so the last request is waited for.
            let acknowledge = if place + 1 == count { NLM_F_ACK } else { 0 };
            self.frame(message, flags | acknowledge, &mut bytes);
            sent.push(Sent { place, operation, removal, refused: false });
        }
        let last = self.sequence;
        self.frame(control(ControlMessage::BatchEnd), 0, &mut bytes);
        sent.push(whole());
        self.make_room(bytes.len())?;
        self.exchange(&bytes, first, last, &mut sent, &mut refused)?;
        refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Makes the send buffer large enough for a message: a transaction cannot be sent in parts. More than the limit of
    /// the machine (`net.core.wmem_max`) needs CAP_NET_ADMIN.
    fn make_room(&self, bytes: usize) -> Result<()> {
        let enough = |room: usize| bytes.saturating_add(SEND_OVERHEAD) <= room;
        let failed = |errno| Error::system("enlarge the send buffer", io::Error::from(errno));
        if enough(getsockopt(&self.socket, SndBuf).map_err(failed)?) {
            return Ok(());
        }
        // The kernel doubles the requested size.
        let wanted = bytes.saturating_add(SEND_OVERHEAD);
        setsockopt(&self.socket, SndBufForce, &wanted)
            .or_else(|_| setsockopt(&self.socket, SndBuf, &wanted))
            .map_err(failed)
    }

    /// Sends a chunk and reads until its message number `last`, or the chunk as a whole, is answered.
    fn exchange(
        &mut self,
        bytes: &[u8],
        first: u32,
        last: u32,
        sent: &mut [Sent],
        refused: &mut Vec<(usize, Error)>,
    ) -> Result<()> {
        self.send(bytes)?;
        let end = self.sequence;
        loop {
            let replies = self.receive("wait for an acknowledgement")?;
            if are_last(&replies, [first, last, end], sent, refused) {
                return Ok(());
            }
        }
    }
}

/// Takes replies to what was sent from the message number `first` on; whether there is nothing more to wait for: number `last` is answered,
/// or a transaction as a whole, which is what has an `end` behind the last.
fn are_last(
    replies: &[Reply<'_>],
    [first, last, end]: [u32; 3],
    sent: &mut [Sent],
    refused: &mut Vec<(usize, Error)>,
) -> bool {
    let mut done = false;
    for reply in replies {
        let offset = reply.sequence.wrapping_sub(first) as usize;
        let (NLMSG_ERROR, Some(sent)) = (reply.kind, sent.get_mut(offset)) else { continue };
        let mut whole = reply.sequence == first;
        let (number, extack) = acknowledgement(reply);
        if number != 0 {
            let error = Error::kernel(sent.operation.clone(), number, extack);
            whole |= error.is_outdated();
            if !(sent.removal && error.is_gone()) {
                sent.refused = true;
                refused.push((sent.place, error));
            }
        }
        done |= reply.sequence == last || (last != end && whole);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::reply;

    /// An error, or with 0 an acknowledgement, of the message with this number, as the kernel sends it.
    fn answer(sequence: u32, number: i32) -> Vec<u8> {
        let header = |kind: u16, length: u32| {
            let fields = [length.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec(), vec![0; 2]].concat();
            [fields, sequence.to_ne_bytes().to_vec(), vec![0; 4]].concat()
        };
        [header(NLMSG_ERROR, 36), (-number).to_ne_bytes().to_vec(), header(0, 16)].concat()
    }

    /// Of a transaction of two requests, with the numbers 11 and 12: whether this is all, and what is refused.
    fn taken(answers: &[(u32, i32)]) -> (bool, Vec<String>) {
        let datagram: Vec<_> = answers.iter().flat_map(|(sequence, number)| answer(*sequence, *number)).collect();
        let replies = reply::of_datagram("wait", &datagram).unwrap();
        let sent = |operation: &str| Sent { place: 0, operation: operation.into(), removal: false, refused: false };
        let (mut sent, mut refused) = (["begin", "one", "two", "end"].map(sent), Vec::new());
        let done = are_last(&replies, [10, 12, 13], &mut sent, &mut refused);
        (done, refused.iter().map(|(_, error)| error.to_string()).collect())
    }

    #[test]
    fn a_transaction_is_answered_at_its_last_request_or_as_a_whole_at_its_beginning_or_wherever_it_was_overtaken() {
        let outdated = |operation: &str| vec![format!("{operation}: Interrupted system call should be restarted (85)")];
        assert_eq!(taken(&[(12, 0)]), (true, Vec::new()));
        assert_eq!(taken(&[(10, 85)]), (true, outdated("begin")));
        // Modules were loaded meanwhile, for one of them or at the end.
        assert_eq!(taken(&[(11, 85)]), (true, outdated("one")));
        assert_eq!(taken(&[(13, 85)]), (true, outdated("end")));
        // The last one is answered behind it.
        assert_eq!(taken(&[(11, 2)]), (false, vec!["one: No such file or directory (2)".to_owned()]));
        assert_eq!(taken(&[(9, 0), (14, 0)]), (false, Vec::new()));
    }
}
