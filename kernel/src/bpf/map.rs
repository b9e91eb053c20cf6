//! Maps of the kernel: a hash map that evicts, one that does not, the devices that exist, and a single number.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::bpf::call;
use crate::netlink::error::{Error, Result};

/// `BPF_MAP_CREATE`, `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_DELETE_ELEM` (uapi/linux/bpf.h).
const MAP_CREATE: u32 = 0;
const MAP_UPDATE: u32 = 2;
const MAP_DELETE: u32 = 3;
/// `BPF_MAP_TYPE_HASH`, `BPF_MAP_TYPE_ARRAY`, `BPF_MAP_TYPE_LRU_HASH`, `BPF_MAP_TYPE_DEVMAP_HASH`.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const LRU_HASH: u32 = 9;
const DEVICES: u32 = 25;
/// `BPF_F_NO_PREALLOC`: memory for the entries that there are.
const NO_PREALLOC: u32 = 1;

/// A hash map in the kernel. It lives as long as this value or a loaded program refers to it.
#[derive(Debug)]
pub struct Map(pub(super) OwnedFd);

/// A 64-bit number that programs read and the owner of this value writes (a `BPF_MAP_TYPE_ARRAY` with one entry).
#[derive(Debug)]
pub struct Number(pub(super) OwnedFd);

impl Map {
    /// Creates a map that evicts the least recently used entry when it is full. Sizes are in bytes.
    ///
    /// # Errors
    /// When the kernel refuses: CAP_BPF or memory is missing.
    pub fn create(name: &str, key: u32, value: u32, entries: u32) -> Result<Self> {
        create(name, [LRU_HASH, key, value, entries, 0]).map(Self)
    }

    /// Creates a map that keeps its entries, and takes no more when it is full. Sizes are in bytes.
    ///
    /// # Errors
    /// As with [`Map::create`].
    pub fn keeping(name: &str, key: u32, value: u32, entries: u32) -> Result<Self> {
        create(name, [HASH, key, value, entries, NO_PREALLOC]).map(Self)
    }

    /// Creates a map of devices by index. The kernel removes a device that is unregistered or leaves the namespace
    /// (kernel/bpf/devmap.c, `dev_map_notification`), so that an entry is found only while it exists.
    ///
    /// # Errors
    /// As with [`Map::create`].
    pub fn devices(name: &str, entries: u32) -> Result<Self> {
        create(name, [DEVICES, 4, 4, entries, 0]).map(Self)
    }

    /// Adds a device of this namespace to a map made by [`Map::devices`].
    ///
    /// # Errors
    /// When there is no such device, or the map is full.
    pub fn add_device(&self, device: u32) -> Result<()> {
        self.set(&device.to_ne_bytes(), &device.to_ne_bytes())
    }

    /// Sets an entry. Key and value have the lengths that the map was created with.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let set = element(&self.0, MAP_UPDATE, key, Some(value));
        set.map_err(|error| Error::system("set an entry of a map of BPF programs", error))
    }

    /// Removes an entry; one that is not there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, key: &[u8]) -> Result<()> {
        match element(&self.0, MAP_DELETE, key, None) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::system("remove an entry of a map of BPF programs", error))
            }
            _ => Ok(()),
        }
    }
}

impl Number {
    /// Creates one with the value 0.
    ///
    /// # Errors
    /// As with [`Map::create`].
    pub fn create(name: &str) -> Result<Self> {
        create(name, [ARRAY, 4, 8, 1, 0]).map(Self)
    }

    /// Sets its value.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, number: u64) -> Result<()> {
        let set = element(&self.0, MAP_UPDATE, &0_u32.to_ne_bytes(), Some(&number.to_ne_bytes()));
        set.map_err(|error| Error::system(format!("set a number of BPF programs to {number}"), error))
    }
}

/// A call about one entry of a map.
fn element(map: &OwnedFd, command: u32, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
    let mut attributes = Vec::new();
    attributes.extend(map.as_raw_fd().to_ne_bytes());
    // Addresses are aligned to eight bytes.
    attributes.extend([0; 4]);
    for address in [key.as_ptr() as usize, value.map_or(0, |value| value.as_ptr() as usize), 0] {
        attributes.extend((address as u64).to_ne_bytes());
    }
    call::bpf(command, &mut attributes).map(drop)
}

/// Creates a map: type, length of a key, length of a value, number of entries, flags.
fn create(name: &str, shape: [u32; 5]) -> Result<OwnedFd> {
    let mut attributes = Vec::new();
    // No inner map, any NUMA node.
    for field in shape.into_iter().chain([0, 0]) {
        attributes.extend(field.to_ne_bytes());
    }
    attributes.extend(call::object_name(name));
    let made = call::open(MAP_CREATE, &mut attributes);
    made.map_err(|error| Error::system(format!("create BPF map {name}"), error))
}
