//! The system call bpf(2), and a name as it takes one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// `BPF_OBJ_NAME_LEN`, the terminating zero included.
const NAME_LENGTH: usize = 16;

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

/// A name as the kernel takes it: cut, and filled with zeros.
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
    fn a_name_that_is_too_long_is_cut() {
        assert_eq!(&object_name("flows")[..6], b"flows\0");
        assert_eq!(&object_name("a-name-of-nineteen1")[13..], b"et\0");
    }
}
