//! One blocking netlink socket: framing and sequence numbers, sending and receiving. It does not know what the messages mean.
//!
//! What may not live here: requests with their acknowledgements (`changes`), replies and dumps (`queries`), what comes without a
//! question (`hearing`).

mod changes;
mod hearing;
mod queries;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::netlink::error::{Error, Result};
use crate::netlink::reply::{self, Reply};

/// A blocking netlink socket of one protocol, in the namespace in which it was opened.
pub struct Socket {
    socket: netlink_sys::Socket,
    port: u32,
    sequence: u32,
    received: Vec<u8>,
    interrupted: u64,
    stop: Arc<AtomicBool>,
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
