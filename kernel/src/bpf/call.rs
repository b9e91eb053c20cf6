//! The system call bpf(2), and nothing else.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Makes the call; its answer. Whatever `attributes` refers to by its address has to be alive.
#[expect(unsafe_code, reason = "no library has this call without a loader of object files around it")]
pub(super) fn bpf(command: u32, attributes: &mut [u8]) -> io::Result<RawFd> {
    // SAFETY: the kernel reads `len` bytes at the address, which are there, and writes to none but those and, for a load,
    // the log that the attributes name, which the caller holds for as long as this takes.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}

/// Makes the call with a command that answers with a new descriptor.
#[expect(unsafe_code, reason = "who asks the kernel for a descriptor by a number has to say that it is his")]
pub(super) fn open(command: u32, attributes: &mut [u8]) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attributes)?;
    // SAFETY: it is new (and closed on exec), so that nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
