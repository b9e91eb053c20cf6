//! A loaded program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::bpf::assembler::{Code, LENGTH};
use crate::bpf::call;
use crate::netlink::error::{Error, Result};

/// `BPF_PROG_LOAD` (uapi/linux/bpf.h).
const PROGRAM_LOAD: u32 = 5;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
/// Size of the verifier's log, in bytes.
const LOG: usize = 256 * 1024;

/// A classifier loaded into the kernel (`BPF_PROG_TYPE_SCHED_CLS`). It lives as long as this value or a device with it
/// attached.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Has the kernel verify and load a program.
    ///
    /// # Errors
    /// When it refuses: with the last line of the verifier's log, if there is one.
    pub fn load(name: &str, code: &Code) -> Result<Self> {
        let operation = format!("load BPF program {name}");
        let instructions = code.bytes();
        let mut log = Vec::new();
        let error = match load(name, &instructions, &mut log) {
            Ok(program) => return Ok(Self(program)),
            Err(error) => error,
        };
        // Load once more with a log, which is slow and of no use when the program is accepted.
        log.resize(LOG, 0);
        match load(name, &instructions, &mut log) {
            Ok(program) => Ok(Self(program)),
            Err(_) => Err(match reason(&log) {
                Some(reason) => Error::unreadable(operation, format!("{error}: {reason}")),
                None => Error::system(operation, error),
            }),
        }
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn load(name: &str, instructions: &[u8], log: &mut [u8]) -> std::io::Result<OwnedFd> {
    // It calls no helper that is reserved for GPL programs.
    let licence = c"Apache-2.0";
    let count = u32::try_from(instructions.len() / LENGTH).unwrap_or(u32::MAX);
    let mut attributes = Vec::new();
    let number = |attributes: &mut Vec<u8>, value: u32| attributes.extend(value.to_ne_bytes());
    let address = |attributes: &mut Vec<u8>, value: usize| attributes.extend((value as u64).to_ne_bytes());
    number(&mut attributes, CLASSIFIER);
    number(&mut attributes, count);
    address(&mut attributes, instructions.as_ptr() as usize);
    address(&mut attributes, licence.as_ptr() as usize);
    number(&mut attributes, u32::from(!log.is_empty()));
    number(&mut attributes, u32::try_from(log.len()).unwrap_or(u32::MAX));
    address(&mut attributes, if log.is_empty() { 0 } else { log.as_mut_ptr() as usize });
    number(&mut attributes, 0);
    number(&mut attributes, 0);
    attributes.extend(call::object_name(name));
    call::open(PROGRAM_LOAD, &mut attributes)
}

/// The verifier's reason: the last line before its statistics.
fn reason(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let mut lines =
        text.trim_end_matches('\0').lines().filter(|line| !line.is_empty() && !line.starts_with("processed "));
    lines.next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_is_the_last_line_before_the_statistics() {
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\0\0\0";
        assert_eq!(reason(log).as_deref(), Some("R0 !read_ok"));
        assert_eq!(reason(b"\0\0"), None);
    }
}
