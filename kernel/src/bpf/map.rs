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

/// A hash map in the kernel that evicts the least recently used entry when it is full. It lives as long as this value
/// or a loaded program refers to it.
#[derive(Debug)]
pub struct Map(pub(super) OwnedFd);

/// A 64-bit number that programs read and the owner of this value writes (a `BPF_MAP_TYPE_ARRAY` with one entry).
#[derive(Debug)]
pub struct Number(pub(super) OwnedFd);

impl Map {
    /// Creates a map. Sizes are in bytes.
    ///
    /// # Errors
    /// When the kernel refuses: CAP_BPF or memory is missing.
    pub fn create(name: &str, key: u32, value: u32, entries: u32) -> Result<Self> {
        create(name, [LRU_HASH, key, value, entries]).map(Self)
    }
}

impl Number {
    /// Creates one with the value 0.
    ///
    /// # Errors
    /// As with [`Map::create`].
    pub fn create(name: &str) -> Result<Self> {
        create(name, [ARRAY, 4, 8, 1]).map(Self)
    }

    /// Sets its value.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, number: u64) -> Result<()> {
        let (place, value) = (0_u32.to_ne_bytes(), number.to_ne_bytes());
        let mut attributes = Vec::new();
        attributes.extend(self.0.as_raw_fd().to_ne_bytes());
        // Addresses are aligned to eight bytes.
        attributes.extend([0; 4]);
        for address in [place.as_ptr() as usize, value.as_ptr() as usize, 0] {
            attributes.extend((address as u64).to_ne_bytes());
        }
        let set = call::bpf(MAP_UPDATE, &mut attributes);
        set.map(drop).map_err(|error| Error::system(format!("set a number of BPF programs to {number}"), error))
    }
}

/// Creates a map: type, length of a key, length of a value, number of entries.
fn create(name: &str, shape: [u32; 4]) -> Result<OwnedFd> {
    let mut attributes = Vec::new();
    // No flags, no inner map, any NUMA node.
    for field in shape.into_iter().chain([0, 0, 0]) {
        attributes.extend(field.to_ne_bytes());
    }
    attributes.extend(call::object_name(name));
    let made = call::open(MAP_CREATE, &mut attributes);
    made.map_err(|error| Error::system(format!("create BPF map {name}"), error))
}
