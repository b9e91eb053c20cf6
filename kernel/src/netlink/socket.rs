//! One blocking netlink socket: requests with their acknowledgements, many in one system call, and dumps.
//!
//! It knows the framing of netlink (sequence numbers, acknowledgements, multi-part answers, interrupted dumps) and
//! nothing of what the messages mean.

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

/// Messages of one system call: few enough that every one of them may be refused without overrunning the default
/// receive buffer with the refusals.
const CHUNK: usize = 128;

/// Questions of one system call: few enough that all answers fit into the default receive buffer.
const QUESTIONS: usize = 64;

/// What of a send buffer no message can have, in bytes (net/netlink/af_netlink.c).
const SEND_OVERHEAD: usize = 32;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_BATCH_GENID` (uapi/linux/netfilter/nfnetlink.h).
const BATCH_BEGIN: u8 = 16;
const BATCH_GENERATION: u16 = 1;

/// How often and how long an interrupted dump is asked for again before it is reported as one: where many pods come and go,
/// ten attempts pass in a few milliseconds.
const DUMP_ATTEMPTS: usize = 10;
const DUMPED_WITHIN: Duration = Duration::from_secs(5);

/// A blocking netlink socket of one protocol, in the namespace it was opened in.
pub struct Socket {
    socket: netlink_sys::Socket,
    port: u32,
    sequence: u32,
    received: Vec<u8>,
    interrupted: u64,
    stop: Arc<AtomicBool>,
}

/// What is remembered of a request that was sent.
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
                // Dumps are then filtered in the kernel (by device, by route protocol): what strangers put beside ours
                // is never read, so it can never be misread.
                socket.set_netlink_get_strict_chk(true)?;
            }
            Ok((socket, port))
        };
        let (socket, port) = open().map_err(|error| Error::system(operation, error))?;
        let received = Vec::with_capacity(64 * 1024);
        Ok(Self { socket, port, sequence: 0, received, interrupted: 0, stop: Arc::default() })
    }

    /// How many lists were interrupted by changes, and asked for again, since the socket was opened.
    pub fn interrupted(&self) -> u64 {
        self.interrupted
    }

    /// The number that the kernel's notices of what this socket has changed bear (`nlmsg_pid`, netlink(7)).
    pub fn port(&self) -> u32 {
        self.port
    }

    /// From now on no list is begun while `stop` is set: it is an error that says so. What is being changed is not stopped.
    pub fn stop_by(&mut self, stop: Arc<AtomicBool>) {
        self.stop = stop;
    }

    /// Executes one request and waits for its acknowledgement.
    pub fn execute<T: NetlinkSerializable>(&mut self, request: Request<T>) -> Result<()> {
        self.execute_all(vec![request]).pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Executes requests in order, many in one system call, and goes on after a refusal. The answer lists the refused
    /// ones by their place; empty means that all is done. When the socket itself fails, every request that it has no
    /// answer for is a refused one.
    pub fn execute_all<T: NetlinkSerializable>(&mut self, requests: Vec<Request<T>>) -> Vec<(usize, Error)> {
        self.execute_each(requests, drop)
    }

    /// As [`Socket::execute_all`], of requests that are made as they are sent, so that a long list of them is never held;
    /// `granted` hears the operation of each one that was done, soon after and in order.
    pub fn execute_each<T: NetlinkSerializable>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
        mut granted: impl FnMut(String),
    ) -> Vec<(usize, Error)> {
        let mut refused = Vec::new();
        let mut requests = requests.into_iter().enumerate().peekable();
        let mut bytes = Vec::new();
        while requests.peek().is_some() {
            bytes.clear();
            let mut sent = Vec::with_capacity(CHUNK);
            let first = self.sequence.wrapping_add(1);
            while let Some((place, Request { operation, message, flags, removal })) = requests.next() {
                // Only the last of a chunk asks for an acknowledgement: refusals are always sent.
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
                    |operation: String| Error::unreadable(operation, format!("not known to be done: {error}"));
                refused.extend(not_refused.map(|sent| (sent.place, unanswered(sent.operation))));
                refused.extend(requests.map(|(place, request)| (place, unanswered(request.operation))));
                return refused;
            }
            not_refused.for_each(|sent| granted(sent.operation));
        }
        refused
    }

    /// Executes nftables requests as one transaction: all of them or none. The error is the first refusal.
    pub fn transact(&mut self, requests: Vec<Request<NetfilterMessage>>) -> Result<()> {
        self.transact_upon(None, requests)
    }

    /// As [`Socket::transact`], if no nftables transaction has been made since `generation` was read: else nothing is
    /// done, and the error says that it is outdated. Without a generation it does not matter what was done meanwhile.
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
        // A refusal of the transaction as a whole bears the number of its beginning.
        let operation = requests.first().map_or_else(String::new, |request| request.operation.clone());
        sent.push(Sent { place: 0, operation, removal: false, refused: false });
        for (place, Request { operation, message, flags, removal }) in requests.into_iter().enumerate() {
            // The end of a batch is acknowledged by Linux 6.10 and newer only, so the last request is what is waited for.
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

    /// Makes the send buffer large enough for a message: a transaction cannot be sent in parts. What is beyond the limit of
    /// the machine (`net.core.wmem_max`) takes CAP_NET_ADMIN.
    fn make_room(&self, bytes: usize) -> Result<()> {
        let enough = |room: usize| bytes.saturating_add(SEND_OVERHEAD) <= room;
        let failed = |errno| Error::system("enlarge the send buffer", io::Error::from(errno));
        if enough(getsockopt(&self.socket, SndBuf).map_err(failed)?) {
            return Ok(());
        }
        // The kernel doubles what is asked for.
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
            for answer in self.receive("wait for an acknowledgement")? {
                let offset = answer.sequence.wrapping_sub(first) as usize;
                let (NLMSG_ERROR, Some(sent)) = (answer.kind, sent.get_mut(offset)) else { continue };
                let (number, said) = acknowledgement(&answer);
                if number != 0 {
                    let error = Error::kernel(sent.operation.clone(), number, said);
                    if !(sent.removal && error.is_gone()) {
                        sent.refused = true;
                        refused.push((sent.place, error));
                    }
                }
                done |= answer.sequence == last || (transaction && offset == 0);
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Asks one question that has one answer; `None` when the kernel says that there is no such thing, or, asked with
    /// `NLM_F_ACK`, nothing but that it has answered.
    pub fn get<T>(&mut self, request: Request<T>) -> Result<Option<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable,
    {
        Ok(self.get_all(vec![request])?.pop().flatten())
    }

    /// As [`Socket::get`], many questions in one system call, answered by messages of any type; the answers are in their
    /// order. The first error is returned when all are answered.
    pub fn get_all<T, A>(&mut self, requests: Vec<Request<T>>) -> Result<Vec<Option<A>>>
    where
        T: NetlinkSerializable,
        A: NetlinkDeserializable,
    {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let (mut bytes, mut operations) = (Vec::new(), Vec::new());
            let first = self.sequence.wrapping_add(1);
            for Request { operation, message, flags, .. } in requests.by_ref().take(QUESTIONS) {
                self.frame(message, flags, &mut bytes);
                operations.push(operation);
            }
            self.send(&bytes)?;
            let mut chunk: Vec<Option<Result<Option<A>>>> = operations.iter().map(|_| None).collect();
            let mut open = chunk.len();
            while open > 0 {
                for answer in self.receive(&operations[0])? {
                    let place = answer.sequence.wrapping_sub(first) as usize;
                    // An answer to something that was asked before.
                    let Some(slot) = chunk.get_mut(place).filter(|slot| slot.is_none()) else { continue };
                    *slot = Some(reply::answer(&operations[place], &answer));
                    open -= 1;
                }
            }
            for answer in chunk.into_iter().flatten() {
                answers.push(answer?);
            }
        }
        Ok(answers)
    }

    /// Asks for a list. A dump that the kernel marks as interrupted (something changed while it was made, so it may be
    /// missing what is there) is asked for again; it is never returned, since a caller would delete by it.
    pub fn dump<T>(&mut self, request: Request<T>) -> Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.dump_some(request, Some)
    }

    /// As [`Socket::dump`], keeping what is picked out of the answers, of whatever type: a long list is never held whole.
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
            return Err(Error::unreadable(operation, "not asked for: something else comes first"));
        }
        let mut bytes = Vec::new();
        self.frame(request.message.clone(), request.flags | NLM_F_DUMP, &mut bytes);
        self.send(&bytes)?;
        let sequence = self.sequence;
        let mut dump = Dump { list: Vec::new(), interrupted: false };
        loop {
            for answer in self.receive(operation)? {
                if answer.sequence == sequence
                    && let Some(list) = dump.take(operation, &answer, &pick)?
                {
                    return Ok(list);
                }
            }
        }
    }

    /// Serialises a message behind `bytes` under the next sequence number.
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

    /// Throws away what waits to be read. Until nothing does, the kernel gives no further answer to a socket that has lost one
    /// (net/netlink/af_netlink.c, `NETLINK_S_CONGESTED`).
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
