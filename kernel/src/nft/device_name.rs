//! Names of devices as rules compare them and as sets hold them.
//!
//! What may not live here: devices (`link`).

use std::fmt;

/// `IFNAMSIZ` (uapi/linux/if.h).
pub(super) const LENGTH: usize = 16;

/// The whole name of a device: one that is only the beginning of another is not that one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName([u8; LENGTH]);

impl DeviceName {
    /// The name. What is too long for a device's is that of none: the kernel ends each with a zero byte.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; LENGTH];
        bytes.iter_mut().zip(name.bytes()).for_each(|(byte, of_name)| *byte = of_name);
        Self(bytes)
    }

    /// As the kernel has it in a register.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Out of a register.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(LENGTH);
        f.write_str(&String::from_utf8_lossy(&self.0[..end]))
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_as_long_as_the_kernels_and_comes_back() {
        let name = DeviceName::new("eth1");
        assert_eq!(name.bytes(), *b"eth1\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(DeviceName::parse(&name.bytes()).map(|name| name.to_string()).as_deref(), Some("eth1"));
        assert_ne!(name, DeviceName::new("eth10"));
        assert_eq!(DeviceName::new("a-name-of-more-than-fifteen").to_string(), "a-name-of-more-t");
    }
}
