//! The system call bpf(2), and a name as it takes one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// `BPF_OBJ_NAME_LEN`, the terminating zero included.
const NAME_LENGTH: usize = 16;

/// Makes the call and returns its result. Whatever `attributes` points to must be alive.
#[expect(unsafe_code, reason = "no library has this call without a loader of object files around it")]
pub(super) fn bpf(command: u32, attributes: &mut [u8]) -> io::Result<RawFd> {
    // SAFETY: the kernel reads `len` bytes at the address, which are valid, and writes only to those and, for a load,
    // to the log in the attributes, which the caller keeps alive during the call.
    let reply = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) };
    if reply < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(reply).map_err(io::Error::other)
}

/// Makes the call with a command that returns a new descriptor.
#[expect(unsafe_code, reason = "a raw descriptor from a system call has to be given an owner")]
pub(super) fn open(command: u32, attributes: &mut [u8]) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attributes)?;
    // SAFETY: it is new (and closed on exec), so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A name as the kernel takes it: truncated, and padded with zeros.
pub(super) fn object_name(name: &str) -> [u8; NAME_LENGTH] {
    let mut field = [0; NAME_LENGTH];
    for (place, byte) in field.iter_mut().zip(name.bytes()).take(NAME_LENGTH - 1) {
        *place = byte;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_truncated() {
        assert_eq!(&object_name("flows")[..6], b"flows\0");
        assert_eq!(&object_name("a-name-of-nineteen1")[13..], b"et\0");
    }
}
