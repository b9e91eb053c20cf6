//! The socket options by which the kernel hands out the tables of the legacy iptables (net/ipv4/netfilter/ip_tables.c).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::{self, c_int, socklen_t};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`; those of IPv6 have the same numbers.
const INFO: c_int = 64;
const ENTRIES: c_int = 65;

/// A socket that the tables of the family of `like` can be asked of.
pub(super) fn open(like: IpAddr) -> io::Result<OwnedFd> {
    let family = if like.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?)
}

/// Fills in a `struct ipt_getinfo` that begins with a table's name.
pub(super) fn info(socket: &OwnedFd, like: IpAddr, info: &mut [u8]) -> io::Result<()> {
    get(socket, like, INFO, info)
}

/// Fills in a `struct ipt_get_entries` that begins with a table's name and the size of its rules.
pub(super) fn entries(socket: &OwnedFd, like: IpAddr, entries: &mut [u8]) -> io::Result<()> {
    get(socket, like, ENTRIES, entries)
}

#[expect(unsafe_code, reason = "no library reads these options, which are given a part of what they fill in")]
fn get(socket: &OwnedFd, like: IpAddr, option: c_int, value: &mut [u8]) -> io::Result<()> {
    let level = if like.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let mut length = socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes no more than `length` bytes at the address, which are valid and borrowed alone.
    let reply =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length) };
    if reply < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
