//! The kernel's notifications that something changed: when to dump again, never what the state is. What changed is
//! known from a fresh dump.
//!
//! Other programs may change the network thousands of times a second. Notifications are read in bursts, with a rest between
//! two that is many times as long as the reading took; what has no room in the socket meanwhile is lost, which means the
//! same: dump again.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netlink::error::{Error, Result};

/// Multicast groups of uapi/linux/rtnetlink.h (`RTNLGRP_*`): links, neighbours, addresses, routes, per-device
/// settings, nexthops, VNI filters; and traffic control.
const ROUTE_GROUPS: [u32; 11] = [1, 3, 4, 5, 7, 9, 11, 24, 25, 32, 35];

/// `NFNLGRP_NFTABLES` of uapi/linux/netfilter/nfnetlink.h.
const NFTABLES_GROUPS: [u32; 1] = [7];

/// Length of a message's header (`struct nlmsghdr`), and the offsets of its length, its type and the port of the socket
/// that made the change.
const HEADER: usize = 16;
const LENGTH: usize = 0;
const TYPE: usize = 4;
const PORT: usize = 12;

/// `RTM_NEWNEIGH`, `RTM_DELNEIGH` (uapi/linux/rtnetlink.h).
const NEIGHBOURS: [u16; 2] = [28, 29];

/// Reading takes one part in this many of a core, however many notifications there are.
const SHARE: u32 = 50;

/// The limits of the rest after a burst: a burst that follows is one with the last, and damage is noticed soon.
const REST: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));

/// Datagrams that are read at once: more than a socket has room for by default.
const BURST: usize = 1024;

/// The port of changes that the kernel makes by itself.
const KERNEL: u32 = 0;

/// Receives notifications about links, addresses, routes, neighbours, nexthops and nftables, in the namespace in which
/// it was opened.
pub struct Monitor {
    /// Each with the ports of the sockets whose own changes are ignored.
    sockets: [(Arc<netlink_sys::Socket>, Vec<u32>); 2],
    /// Until then nothing is read.
    rests_until: Cell<Option<Instant>>,
}

impl Monitor {
    /// Starts to listen. Changes made by the sockets with these ports (of routes and of nftables,
    /// [`crate::Socket::port`]) are ignored: those sockets have their acknowledgements. What the kernel changes by
    /// itself as a consequence mostly bears no port, and so it is noticed.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn open(routes: &[u32], nftables: &[u32]) -> Result<Self> {
        let open = |protocol, groups: &[u32], own: &[u32]| -> io::Result<(Arc<netlink_sys::Socket>, Vec<u32>)> {
            let mut socket = netlink_sys::Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            for group in groups {
                match socket.add_membership(*group) {
                    // An older kernel without this group sends no such notifications either.
                    Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
                    other => other?,
                }
            }
            Ok((Arc::new(socket), own.to_vec()))
        };
        let both = || {
            let routes = open(NETLINK_ROUTE, &ROUTE_GROUPS, routes)?;
            Ok([routes, open(NETLINK_NETFILTER, &NFTABLES_GROUPS, nftables)?])
        };
        both()
            .map(|sockets| Self { sockets, rests_until: Cell::new(None) })
            .map_err(|error: io::Error| Error::system("listen to kernel notifications", error))
    }

    /// What it hears of nftables by.
    pub fn nftables(&self) -> Hearing {
        let [_, (nftables, _)] = &self.sockets;
        Hearing(nftables.clone())
    }

    /// Blocks until there is a notification, and discards all that are queued. After a quiet time it returns at once with the
    /// first one; amid many it rests in between.
    ///
    /// # Errors
    /// When the sockets cannot be waited for or read.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            if let Some(until) = self.rests_until.take() {
                thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            let mut descriptors =
                self.sockets.each_ref().map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            match poll(&mut descriptors, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let start = Instant::now();
            let mut any = false;
            for (socket, own) in &self.sockets {
                any |= drain(socket, own)?;
            }
            self.rests_until.set(Some(Instant::now() + rest(start.elapsed())));
            if any {
                return Ok(());
            }
        }
    }
}

/// What a monitor hears of nftables by.
///
/// Where anybody listens the kernel makes a message for each element that a transaction changes. Of a transaction of this process the
/// monitor reads and ignores them: with 54,000 elements that was half of the time from nothing to policies in force.
#[derive(Clone)]
pub struct Hearing(Arc<netlink_sys::Socket>);

impl Hearing {
    /// Hears nothing while this is done. What others change meanwhile has to be found in another way.
    ///
    /// # Errors
    /// When the kernel refuses to be listened to again. What was done is lost then.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let each = |step: fn(&netlink_sys::Socket, u32) -> io::Result<()>| {
            let mut groups = NFTABLES_GROUPS.iter();
            let done = groups.try_for_each(|group| step(&self.0, *group));
            done.map_err(|error| Error::system("listen to nftables again", error))
        };
        // Who goes on listening has only more to read.
        let _ = each(netlink_sys::Socket::drop_membership);
        let done = work();
        each(netlink_sys::Socket::add_membership)?;
        Ok(done)
    }
}

/// The rest after a burst that took so long to read.
fn rest(took: Duration) -> Duration {
    took.saturating_mul(SHARE - 1).clamp(REST.0, REST.1)
}

/// Whether any notification is about a change from another port. Lost ones (ENOBUFS) count: they too mean "dump again".
fn drain(socket: &netlink_sys::Socket, own: &[u32]) -> io::Result<bool> {
    let mut any = false;
    let mut buffer = Vec::with_capacity(16 * 1024);
    for _ in 0..BURST {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => any |= by_others(&buffer, own),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => any = true,
            Err(error) => return Err(error),
        }
    }
    // Whatever is left is read after a rest.
    Ok(any)
}

/// Whether any message of a datagram matters: a change that came neither from a port in `own` nor, for neighbours, from
/// the kernel itself. The kernel learns, probes and forgets neighbours all the time, on a link with many peers many
/// times a second. It removes a permanent one only with its device, or when that goes down or changes its address,
/// which is notified as well.
fn by_others(mut datagram: &[u8], own: &[u32]) -> bool {
    let number = |bytes: &[u8], place: usize| {
        bytes.get(place..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes))
    };
    let kind = |bytes: &[u8]| {
        bytes.get(TYPE..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
    };
    while datagram.len() >= HEADER {
        let port = number(datagram, PORT);
        let own = port.is_some_and(|port| own.contains(&port));
        let learned = port == Some(KERNEL) && NEIGHBOURS.contains(&kind(datagram));
        if !(own || learned) {
            return true;
        }
        let length = number(datagram, LENGTH).map_or(0, |length| length as usize).max(HEADER);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_many_times_as_long_as_the_reading_and_short_after_a_single_notification() {
        let milliseconds = Duration::from_millis;
        assert_eq!(rest(Duration::from_micros(20)), milliseconds(5));
        assert_eq!(rest(Duration::from_micros(400)), Duration::from_micros(19_600));
        assert_eq!(rest(milliseconds(7)), milliseconds(40));
    }

    #[test]
    fn a_datagram_counts_when_any_change_in_it_is_foreign() {
        let of = |kind: u32, port: u32, payload: usize| {
            let length = u32::try_from(HEADER + payload).unwrap();
            let header = [length.to_ne_bytes(), kind.to_ne_bytes(), [0; 4], port.to_ne_bytes()].concat();
            [header, vec![0xff; payload.next_multiple_of(4)]].concat()
        };
        let message = |port, payload| of(24, port, payload);
        assert!(!by_others(&message(7, 3), &[7]));
        assert!(by_others(&message(8, 0), &[7]) && by_others(&message(0, 0), &[7]));
        assert!(!by_others(&[message(7, 5), message(7, 12)].concat(), &[7]));
        assert!(by_others(&[message(7, 5), message(9, 12)].concat(), &[7]));
        // Neighbours that the kernel changes by itself do not count; those that others change do.
        assert!(!by_others(&[of(28, 0, 12), of(29, 0, 12)].concat(), &[7]));
        assert!(by_others(&[of(28, 0, 12), of(24, 0, 12)].concat(), &[7]) && by_others(&of(28, 9, 12), &[7]));
        // Malformed input ends the loop.
        assert!(!by_others(&[[0; 12].to_vec(), 7_u32.to_ne_bytes().to_vec()].concat(), &[7]));
    }
}
