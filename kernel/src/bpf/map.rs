//! Maps of the kernel: a hash map that evicts, and a single number.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::bpf::call;
use crate::netlink::error::{Error, Result};

/// `BPF_MAP_CREATE`, `BPF_MAP_UPDATE_ELEM` (uapi/linux/bpf.h).
const MAP_CREATE: u32 = 0;
const MAP_UPDATE: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY`, `BPF_MAP_TYPE_LRU_HASH`.
const ARRAY: u32 = 2;
const LRU_HASH: u32 = 9;

/// A hash map of the kernel's that forgets what was used least recently when it is full. It lives as long as somebody has
/// it: this value, or a loaded program.
#[derive(Debug)]
pub struct Map(pub(super) OwnedFd);

/// A number of 64 bits that programs read and whoever has this writes (a `BPF_MAP_TYPE_ARRAY` of one).
#[derive(Debug)]
pub struct Number(pub(super) OwnedFd);

impl Map {
    /// Makes one. Sizes are in bytes.
    ///
    /// # Errors
    /// When the kernel refuses: CAP_BPF is missing, or memory.
    pub fn create(name: &str, key: u32, value: u32, entries: u32) -> Result<Self> {
        create(name, [LRU_HASH, key, value, entries]).map(Self)
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
    attributes.extend(call::object_name(name));
    let made = call::open(MAP_CREATE, &mut attributes);
    made.map_err(|error| Error::system(format!("create BPF map {name}"), error))
}
