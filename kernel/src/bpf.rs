//! BPF: programs as values, written instruction by instruction, and the kernel's maps and loaded programs.
//!
//! There is no compiler and no object file: what a program does is in its source here, and a build needs nothing but
//! Rust. What may not live here: what any one program is for.

mod assembler;
mod call;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use self::assembler::{Code, Condition, Label, Register, Width};
use crate::{Error, Result};

/// `BPF_MAP_CREATE`, `BPF_MAP_UPDATE_ELEM`, `BPF_PROG_LOAD` (uapi/linux/bpf.h).
const MAP_CREATE: u32 = 0;
const MAP_UPDATE: u32 = 2;
const PROGRAM_LOAD: u32 = 5;
/// `BPF_MAP_TYPE_ARRAY`, `BPF_MAP_TYPE_LRU_HASH`.
const ARRAY: u32 = 2;
const LEAST_RECENTLY_USED_HASH: u32 = 9;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
/// `BPF_OBJ_NAME_LEN`, the terminating zero included.
const NAME_LENGTH: usize = 16;
/// How much of what the verifier says is kept, in bytes.
const LOG: usize = 256 * 1024;

/// A hash map of the kernel's that forgets what was used least recently when it is full. It lives as long as somebody has
/// it: this value, or a loaded program.
#[derive(Debug)]
pub struct Map(OwnedFd);

/// A number of 64 bits that programs read and whoever has this writes (a `BPF_MAP_TYPE_ARRAY` of one).
#[derive(Debug)]
pub struct Number(OwnedFd);

/// A program of the kernel's that looks at packets (`BPF_PROG_TYPE_SCHED_CLS`). It lives as long as somebody has it: this
/// value, or a device that it was attached to.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Map {
    /// Makes one. Sizes are in bytes.
    ///
    /// # Errors
    /// When the kernel refuses: CAP_BPF is missing, or memory.
    pub fn create(name: &str, key: u32, value: u32, entries: u32) -> Result<Self> {
        create(name, [LEAST_RECENTLY_USED_HASH, key, value, entries]).map(Self)
    }
}

impl Number {
    /// Makes one, which is 0.
    ///
    /// # Errors
    /// As with [`Map::create`].
    pub fn create(name: &str) -> Result<Self> {
        create(name, [ARRAY, 4, 8, 1]).map(Self)
    }

    /// Makes it another.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, number: u64) -> Result<()> {
        let (place, value) = (0_u32.to_ne_bytes(), number.to_ne_bytes());
        let mut attributes = Vec::new();
        attributes.extend(self.0.as_raw_fd().to_ne_bytes());
        // Addresses begin at multiples of eight.
        attributes.extend([0; 4]);
        for address in [place.as_ptr() as usize, value.as_ptr() as usize, 0] {
            attributes.extend((address as u64).to_ne_bytes());
        }
        let set = call::bpf(MAP_UPDATE, &mut attributes);
        set.map(drop).map_err(|error| Error::system(format!("set a number of BPF programs to {number}"), error))
    }
}

/// Makes a map of this type, with these lengths of a key and a value in bytes, and this many entries.
fn create(name: &str, shape: [u32; 4]) -> Result<OwnedFd> {
    let mut attributes = Vec::new();
    // Without flags, without another map in it, on any node of the machine's memory.
    for field in shape.into_iter().chain([0, 0, 0]) {
        attributes.extend(field.to_ne_bytes());
    }
    attributes.extend(named(name));
    let made = call::open(MAP_CREATE, &mut attributes);
    made.map_err(|error| Error::system(format!("create BPF map {name}"), error))
}

impl Program {
    /// Has the kernel verify a program and take it in.
    ///
    /// # Errors
    /// When it refuses: with the last words of its verifier, where that had any.
    pub fn load(name: &str, code: &Code) -> Result<Self> {
        let operation = format!("load BPF program {name}");
        let instructions = code.bytes();
        let mut log = Vec::new();
        let error = match load(name, &instructions, &mut log) {
            Ok(program) => return Ok(Self(program)),
            Err(error) => error,
        };
        // Once more for its reasons: they take long to write, and nobody reads them when it says yes.
        log.resize(LOG, 0);
        match load(name, &instructions, &mut log) {
            Ok(program) => Ok(Self(program)),
            Err(_) => Err(match said(&log) {
                Some(said) => Error::unreadable(operation, format!("{error}: {said}")),
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
    // No helper that it calls is reserved to programs under the GPL.
    let licence = c"Apache-2.0";
    let count = u32::try_from(instructions.len() / assembler::LENGTH).unwrap_or(u32::MAX);
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
    attributes.extend(named(name));
    call::open(PROGRAM_LOAD, &mut attributes)
}

/// A name as the kernel takes it: cut, and filled with zeros.
fn named(name: &str) -> [u8; NAME_LENGTH] {
    let mut field = [0; NAME_LENGTH];
    for (place, byte) in field.iter_mut().zip(name.bytes()).take(NAME_LENGTH - 1) {
        *place = byte;
    }
    field
}

/// The verifier's reason: the line before its statistics.
fn said(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let mut lines =
        text.trim_end_matches('\0').lines().filter(|line| !line.is_empty() && !line.starts_with("processed "));
    lines.next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_is_its_last_line_but_the_statistics() {
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\0\0\0";
        assert_eq!(said(log).as_deref(), Some("R0 !read_ok"));
        assert_eq!(said(b"\0\0"), None);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut() {
        assert_eq!(&named("flows")[..6], b"flows\0");
        assert_eq!(&named("a-name-of-nineteen1")[13..], b"et\0");
    }
}
