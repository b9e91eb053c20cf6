//! One blocking netlink socket: requests with their acknowledgements, many in one system call, and dumps.
//!
//! It knows the framing of netlink (sequence numbers, acknowledgements, multi-part replies, interrupted dumps) and not
//! what the messages mean.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, NetfilterSubsystem};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{getsockopt, setsockopt};

use crate::netlink::dump::Dump;
use crate::netlink::error::{Error, Result};
use crate::netlink::reply::{self, NLMSG_ERROR, Reply, acknowledgement};
use crate::netlink::request::Request;

/// Messages per system call: few enough that all of them may be refused without the errors overrunning the default
/// receive buffer.
const CHUNK: usize = 128;

/// Queries per system call: few enough that all replies fit into the default receive buffer.
const QUERIES: usize = 64;

/// Bytes of a send buffer that no message can use (net/netlink/af_netlink.c).
const SEND_OVERHEAD: usize = 32;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_BATCH_GENID` (uapi/linux/netfilter/nfnetlink.h).
const BATCH_BEGIN: u8 = 16;
const BATCH_GENERATION: u16 = 1;

/// How often and how long an interrupted dump is retried before that is an error: on a node where many pods come and
/// go, ten attempts pass in a few milliseconds.
const DUMP_ATTEMPTS: usize = 10;
const DUMPED_WITHIN: Duration = Duration::from_secs(5);

/// A blocking netlink socket of one protocol, in the namespace in which it was opened.
pub struct Socket {
    socket: netlink_sys::Socket,
    port: u32,
    sequence: u32,
    received: Vec<u8>,
    interrupted: u64,
    stop: Arc<AtomicBool>,
}

/// What is kept of a request that was sent.
struct Sent {
    place: usize,
    operation: String,
    removal: bool,
    refused: bool,
}

impl Socket {
    /// A socket for links, addresses, routes, neighbours, nexthops (`NETLINK_ROUTE`).
    pub fn route() -> Result<Self> {
        Self::open(NETLINK_ROUTE, "open a route netlink socket")
    }

    /// A socket for nftables (`NETLINK_NETFILTER`).
    pub fn netfilter() -> Result<Self> {
        Self::open(NETLINK_NETFILTER, "open a netfilter netlink socket")
    }

    fn open(protocol: isize, operation: &str) -> Result<Self> {
        let open = || -> io::Result<(netlink_sys::Socket, u32)> {
            let mut socket = netlink_sys::Socket::new(protocol)?;
            let port = socket.bind_auto()?.port_number();
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            if protocol == NETLINK_ROUTE {
                // Dumps are then filtered in the kernel (by device, by route protocol): foreign objects are never read,
                // so they can never be misread.
                socket.set_netlink_get_strict_chk(true)?;
            }
            Ok((socket, port))
        };
        let (socket, port) = open().map_err(|error| Error::system(operation, error))?;
        let received = Vec::with_capacity(64 * 1024);
        Ok(Self { socket, port, sequence: 0, received, interrupted: 0, stop: Arc::default() })
    }

    /// How many dumps were interrupted by changes, and retried, since the socket was opened.
    pub fn interrupted(&self) -> u64 {
        self.interrupted
    }

    /// The port that notifications about this socket's own changes bear (`nlmsg_pid`, netlink(7)).
    pub fn port(&self) -> u32 {
        self.port
    }

    /// From now on no dump starts while `stop` is set; it returns an error instead. Changes are not stopped.
    pub fn stop_by(&mut self, stop: Arc<AtomicBool>) {
        self.stop = stop;
    }

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

    /// Executes nftables requests as one transaction: all of them or none. The error is the first one.
    pub fn transact(&mut self, requests: Vec<Request<NetfilterMessage>>) -> Result<()> {
        self.transact_upon(None, requests)
    }

    /// As [`Socket::transact`], if no nftables transaction has been committed since `generation` was read; else nothing
    /// is done, and the error is "outdated". Without a generation, other transactions do not matter.
    pub fn transact_upon(&mut self, generation: Option<u32>, requests: Vec<Request<NetfilterMessage>>) -> Result<()> {
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
        // An error of the transaction as a whole bears the sequence number of its beginning.
        let operation = requests.first().map_or_else(String::new, |request| request.operation.clone());
        sent.push(Sent { place: 0, operation, removal: false, refused: false });
        for (place, Request { operation, message, flags, removal }) in requests.into_iter().enumerate() {
            // Only Linux 6.10 and newer acknowledge the end of a batch, so the last request is waited for.
            let acknowledge = if place + 1 == count { NLM_F_ACK } else { 0 };
            self.frame(message, flags | acknowledge, &mut bytes);
            sent.push(Sent { place, operation, removal, refused: false });
        }
        let last = self.sequence;
        self.frame(control(ControlMessage::BatchEnd), 0, &mut bytes);
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
        let transaction = last != self.sequence;
        loop {
            let mut done = false;
            for reply in self.receive("wait for an acknowledgement")? {
                let offset = reply.sequence.wrapping_sub(first) as usize;
                let (NLMSG_ERROR, Some(sent)) = (reply.kind, sent.get_mut(offset)) else { continue };
                let (number, extack) = acknowledgement(&reply);
                if number != 0 {
                    let error = Error::kernel(sent.operation.clone(), number, extack);
                    if !(sent.removal && error.is_gone()) {
                        sent.refused = true;
                        refused.push((sent.place, error));
                    }
                }
                done |= reply.sequence == last || (transaction && offset == 0);
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Sends a query that has one reply; `None` when the object does not exist, or, with `NLM_F_ACK`, when there is an
    /// acknowledgement only.
    pub fn get<T>(&mut self, request: Request<T>) -> Result<Option<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable,
    {
        Ok(self.get_all(vec![request])?.pop().flatten())
    }

    /// As [`Socket::get`], many queries in one system call, with replies of any message type, in order. The first error
    /// is returned when all are answered.
    pub fn get_all<T, A>(&mut self, requests: Vec<Request<T>>) -> Result<Vec<Option<A>>>
    where
        T: NetlinkSerializable,
        A: NetlinkDeserializable,
    {
        let mut replies = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let (mut bytes, mut operations) = (Vec::new(), Vec::new());
            let first = self.sequence.wrapping_add(1);
            for Request { operation, message, flags, .. } in requests.by_ref().take(QUERIES) {
                self.frame(message, flags, &mut bytes);
                operations.push(operation);
            }
            self.send(&bytes)?;
            let mut chunk: Vec<Option<Result<Option<A>>>> = operations.iter().map(|_| None).collect();
            let mut open = chunk.len();
            while open > 0 {
                for reply in self.receive(&operations[0])? {
                    let place = reply.sequence.wrapping_sub(first) as usize;
                    // A reply to an earlier query.
                    let Some(slot) = chunk.get_mut(place).filter(|slot| slot.is_none()) else { continue };
                    *slot = Some(reply::reply(&operations[place], &reply));
                    open -= 1;
                }
            }
            for reply in chunk.into_iter().flatten() {
                replies.push(reply?);
            }
        }
        Ok(replies)
    }

    /// Dumps objects. A dump that the kernel marks as interrupted (something changed meanwhile, so objects may be
    /// missing from it) is retried and never returned, since a caller would delete by it.
    pub fn dump<T>(&mut self, request: Request<T>) -> Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.dump_some(request, Some)
    }

    /// As [`Socket::dump`], keeping only what `pick` returns for each message, of any type: a long dump is never held
    /// whole.
    pub fn dump_some<T, A, I>(&mut self, request: Request<T>, pick: impl Fn(A) -> I) -> Result<Vec<I::Item>>
    where
        T: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
        I: IntoIterator,
    {
        let deadline = Instant::now() + DUMPED_WITHIN;
        let mut attempts = 0;
        loop {
            if let Some(list) = self.dump_once(&request, &pick)? {
                return Ok(list);
            }
            attempts += 1;
            self.interrupted += 1;
            if attempts >= DUMP_ATTEMPTS && Instant::now() > deadline {
                let why = format!("interrupted by changes {attempts} times in a row");
                return Err(Error::unreadable(request.operation, why));
            }
        }
    }

    fn dump_once<T, A, I>(&mut self, request: &Request<T>, pick: impl Fn(A) -> I) -> Result<Option<Vec<I::Item>>>
    where
        T: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
        I: IntoIterator,
    {
        let operation = &request.operation;
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::stopped(operation));
        }
        let mut bytes = Vec::new();
        self.frame(request.message.clone(), request.flags | NLM_F_DUMP, &mut bytes);
        self.send(&bytes)?;
        let sequence = self.sequence;
        let mut dump = Dump { list: Vec::new(), interrupted: false };
        loop {
            for reply in self.receive(operation)? {
                if reply.sequence == sequence
                    && let Some(list) = dump.take(operation, &reply, &pick)?
                {
                    return Ok(list);
                }
            }
        }
    }

    /// Appends a message to `bytes` under the next sequence number.
    fn frame<T: NetlinkSerializable>(&mut self, message: T, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..start + message.buffer_len()]);
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let sent = loop {
            match self.socket.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => break sent.map_err(|error| Error::system("send to the kernel", error))?,
            }
        };
        if sent == bytes.len() { Ok(()) } else { Err(Error::unreadable("send to the kernel", "a short write")) }
    }

    /// Discards what is queued. Until the queue is empty, the kernel sends no further reply to a socket that has lost
    /// one (net/netlink/af_netlink.c, `NETLINK_S_CONGESTED`).
    fn forget(&mut self) {
        let lost = |error: &io::Error| error.raw_os_error() == Some(Errno::ENOBUFS as i32);
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, MsgFlags::MSG_DONTWAIT.bits()) {
                Err(error) if !lost(&error) => return,
                _ => {}
            }
        }
    }

    /// The messages of one datagram.
    fn receive(&mut self, operation: &str) -> Result<Vec<Reply<'_>>> {
        self.received.clear();
        loop {
            match self.socket.recv(&mut self.received, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.forget();
                    return Err(Error::system(operation, error));
                }
            }
        }
        reply::of_datagram(operation, &self.received)
    }
}

#[cfg(test)]
mod tests;
