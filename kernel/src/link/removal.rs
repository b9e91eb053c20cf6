//! Removal of devices that returns when the kernel announces it, not when the kernel has freed everything.
//!
//! Unregistering a device ends with a wait for all processors (`rcu_barrier` in `netdev_run_todo`, net/core/dev.c),
//! which blocks the caller for some 20 ms. The notification (`RTM_DELLINK`) comes long before: by then the device, its
//! addresses, routes and neighbours are gone and its name is free. So a child process makes the request, and its parent
//! listens. What is removed is the caller's decision.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork, pipe};

use crate::link::{change, device};
use crate::netlink::error::{Error, Result};
use crate::netlink::socket::Socket;

/// `RTNLGRP_LINK` and `RTM_DELLINK` (uapi/linux/rtnetlink.h).
const LINKS: u32 = 1;
const DELETED_LINK: u16 = 17;

/// How long the notification may take: the kernel takes the lock of all network changes first.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(30);

/// Removes devices, and with one end of a veth pair the other. Missing ones are fine. Returns when the kernel has
/// announced the removal of all.
///
/// The process must have a single thread. Its child may outlive it by some milliseconds, with no standard stream open.
///
/// # Errors
/// The kernel's reply for the first device that it did not remove.
pub fn announced(names: &[&str]) -> Result<()> {
    let mut socket = Socket::route()?;
    let listening = || -> std::io::Result<netlink_sys::Socket> {
        let mut notifications = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        notifications.bind_auto()?;
        notifications.set_non_blocking(true)?;
        notifications.add_membership(LINKS)?;
        Ok(notifications)
    };
    let notifications = listening().map_err(|error| Error::system("listen to notifications of devices", error))?;
    let mut waited = Vec::new();
    for name in names {
        if let Some(found) = device::by_name(&mut socket, name)? {
            let asked = ask(name)?;
            waited.push(Waited { name, index: found.index, asked });
        }
    }
    let deadline = Instant::now() + ANNOUNCED_WITHIN;
    while let Some(first) = waited.first() {
        if Instant::now() > deadline {
            let operation = format!("remove device {}", first.name);
            return Err(Error::unreadable(operation, format!("not announced within {ANNOUNCED_WITHIN:?}")));
        }
        wait(&notifications, &mut waited, &mut socket)?;
    }
    Ok(())
}

/// Removes devices as [`announced`] does, but waits until the kernel has freed them: for a process that has several
/// threads, or cannot have a child.
///
/// # Errors
/// The kernel's reply for the first device that it did not remove; the others are removed.
pub fn acknowledged(names: &[&str]) -> Result<()> {
    let refused = Socket::route()?.execute_all(names.iter().map(|name| change::delete(name)).collect());
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// A removal in progress.
struct Waited<'a> {
    name: &'a str,
    index: u32,
    /// A pipe from the child: an error number, and end of file when the child has ended.
    asked: File,
}

/// Has a child request the removal.
#[expect(unsafe_code, reason = "there is no other way to make a system call that outlives this process")]
#[expect(clippy::exit, reason = "the child has nowhere to return to")]
fn ask(name: &str) -> Result<File> {
    let operation = || format!("remove device {name}");
    let (reply, mut report) = pipe()
        .map(|(from, to)| (File::from(from), File::from(to)))
        .map_err(|errno| Error::system(operation(), errno))?;
    let mut socket = Socket::route()?;
    // SAFETY: fork is unsafe because another thread may hold a lock, such as the allocator's, which is never released
    // in the child. The caller promises that there is no other thread.
    match unsafe { fork() }.map_err(|errno| Error::system(operation(), errno))? {
        ForkResult::Parent { .. } => Ok(reply),
        ForkResult::Child => {
            // A reader of this process's output must not wait for the child (a runtime reads to end of file).
            for stream in 0..3 {
                // Closed already is fine.
                let _ = nix::unistd::close(stream);
            }
            drop(reply);
            if let Err(error) = socket.execute(change::delete(name)) {
                // The parent may have exited; there is no other process to report to.
                let number = error.errno().map_or(0, |errno| errno as i32);
                let _ = report.write_all(&number.to_ne_bytes());
            }
            std::process::exit(0)
        }
    }
}

/// Waits for the next notification or the end of a child, and drops removed devices from the list.
fn wait(notifications: &netlink_sys::Socket, waited: &mut Vec<Waited<'_>>, socket: &mut Socket) -> Result<()> {
    let ready = {
        let mut descriptors = vec![PollFd::new(notifications.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(waited.iter().map(|waited| PollFd::new(waited.asked.as_fd(), PollFlags::POLLIN)));
        match poll(&mut descriptors, PollTimeout::from(1000_u16)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::system("wait for the removal of a device", errno)),
        }
        descriptors.iter().map(|descriptor| descriptor.any().unwrap_or(true)).collect::<Vec<_>>()
    };
    let announced = if ready[0] { drain(notifications)? } else { Vec::new() };
    let mut place = 0;
    let mut failed = None;
    waited.retain_mut(|waited| {
        place += 1;
        if announced.contains(&waited.index) {
            return false;
        }
        if !ready[place] {
            return true;
        }
        // The child has ended, or reported an error. The notification may have been lost: query the kernel.
        let mut refusal = [0; 4];
        let refused = waited.asked.read_exact(&mut refusal).is_ok();
        match device::by_name(socket, waited.name) {
            Ok(found) if found.as_ref().is_none_or(|found| found.index != waited.index) => return false,
            Ok(_) if refused => {
                failed =
                    Some(Error::kernel(format!("remove device {}", waited.name), i32::from_ne_bytes(refusal), None))
            }
            Ok(_) => {
                failed = Some(Error::unreadable(
                    format!("remove device {}", waited.name),
                    "the child that requested it died",
                ))
            }
            Err(error) => failed = Some(error),
        }
        false
    });
    failed.map_or(Ok(()), Err)
}

/// The devices that the queued notifications are about.
fn drain(notifications: &netlink_sys::Socket) -> Result<Vec<u32>> {
    let (mut gone, mut buffer) = (Vec::new(), Vec::with_capacity(32 * 1024));
    loop {
        buffer.clear();
        match notifications.recv(&mut buffer, 0) {
            Ok(_) => gone.extend(deleted(&buffer)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(gone),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Some were lost: the end of the child shows it.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(gone),
            Err(error) => return Err(Error::system("read the removal of a device", error)),
        }
    }
}

/// The indexes in the `RTM_DELLINK` messages of a datagram: a header (length, type, …; 16 bytes), then `struct
/// ifinfomsg` with the family in its first byte and the index in bytes 4 to 7. A bridge sends the same type with its
/// own family when a port leaves.
fn deleted(datagram: &[u8]) -> Vec<u32> {
    let (mut rest, mut gone) = (datagram, Vec::new());
    while let Some((&[l0, l1, l2, l3, k0, k1, ..], _)) = rest.split_first_chunk::<24>() {
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        if u16::from_ne_bytes([k0, k1]) == DELETED_LINK && rest[16] == 0 {
            gone.push(u32::from_ne_bytes([rest[20], rest[21], rest[22], rest[23]]));
        }
        let Some(next) = rest.get(length.next_multiple_of(4).max(4)..) else { break };
        rest = next;
    }
    gone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message from the kernel about a device.
    fn message(kind: u16, family: u8, index: u32) -> Vec<u8> {
        let mut bytes = [32_u32.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), &[0; 10]].concat();
        bytes.extend([&[family, 0, 0, 0], index.to_ne_bytes().as_slice(), &[0; 8]].concat());
        bytes
    }

    #[test]
    fn only_the_removal_of_a_device_is_taken_for_one() {
        let datagram = [message(16, 0, 5), message(DELETED_LINK, 7, 6), message(DELETED_LINK, 0, 7)].concat();
        assert_eq!(deleted(&datagram), [7]);
        assert_eq!(deleted(&datagram[..40]), []);
        assert_eq!(deleted(&[]), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_datagram_of_any_content_is_read_to_its_end(
            bytes in prop::collection::vec(prop_oneof![Just(0), Just(17), Just(24), Just(255), any::<u8>()], 0..128),
            gone in prop::collection::vec(any::<u32>(), 0..5),
        ) {
            let whole: Vec<u8> = gone.iter().flat_map(|index| message(DELETED_LINK, 0, *index)).collect();
            let found = deleted(&[whole, bytes.clone()].concat());
            prop_assert_eq!(&found[..gone.len()], &gone[..]);
            prop_assert!(found.len() - gone.len() <= bytes.len() / 4);
        }
    }
}
