//! Queries with their replies, many in one system call, and dumps.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NetlinkDeserializable, NetlinkSerializable};

use crate::netlink::dump::Dump;
use crate::netlink::error::{Error, Result};
use crate::netlink::reply;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// Queries per system call: few enough that all replies fit into the default receive buffer.
const QUERIES: usize = 64;

/// How often and how long an interrupted dump is retried before that is an error: on a node where many pods come and
/// go, ten attempts pass in a few milliseconds.
const DUMP_ATTEMPTS: usize = 10;
const DUMPED_WITHIN: Duration = Duration::from_secs(5);

impl Socket {
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
    pub fn dump_some<T, A, I>(&mut self, request: Request<T>, mut pick: impl FnMut(A) -> I) -> Result<Vec<I::Item>>
    where
        T: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
        I: IntoIterator,
    {
        let deadline = Instant::now() + DUMPED_WITHIN;
        let mut attempts = 0;
        loop {
            if let Some(list) = self.dump_once(&request, &mut pick)? {
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

    fn dump_once<T, A, I>(
        &mut self,
        request: &Request<T>,
        pick: &mut impl FnMut(A) -> I,
    ) -> Result<Option<Vec<I::Item>>>
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
                    && let Some(list) = dump.take(operation, &reply, &mut *pick)?
                {
                    return Ok(list);
                }
            }
        }
    }
}
