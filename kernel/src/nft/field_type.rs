//! The types of fields: what a set's keys and values are made of.

use crate::family::IpVersion;
use crate::nft::device_name;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `inet_proto`: the protocol above IP (`IPPROTO_*`).
    Protocol,
    /// `ipv4_addr` or `ipv6_addr`.
    Address(IpVersion),
    /// The source address of a packet that is carried in VXLAN; `nft` writes it as a number in hexadecimal digits.
    CarriedSource(IpVersion),
    /// The destination address of the packet that an ICMP error quotes; to `nft` a number, too.
    QuotedDestination(IpVersion),
    /// `inet_service`: a port of TCP, UDP or SCTP.
    Port,
    /// `ifname`: the name of a device.
    DeviceName,
    /// A number that a program gives for itself, such as a class of addresses: `mark` to the program `nft`, in the order of
    /// bytes of this machine.
    Number,
}

/// Where a field of a concatenation ends: at a multiple of this many bytes (`NFT_REG32_SIZE`).
pub(super) const WORD: usize = 4;

impl Type {
    /// The number of the type in the program `nft`; the kernel ignores it.
    pub(super) fn number(self) -> u32 {
        match self {
            // "integer", of any length.
            Self::CarriedSource(_) | Self::QuotedDestination(_) => 4,
            Self::Address(IpVersion::V4) => 7,
            Self::Address(IpVersion::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::DeviceName => 41,
            Self::Number => 19,
        }
    }

    /// Length of a field, in bytes.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Protocol => 1,
            Self::Address(version) | Self::CarriedSource(version) | Self::QuotedDestination(version) => {
                version.address_length()
            }
            Self::Port => 2,
            Self::DeviceName => device_name::LENGTH,
            Self::Number => 4,
        }
    }

    /// How many of the kernel's registers a field occupies.
    pub(super) fn words(self) -> usize {
        self.length().div_ceil(WORD)
    }
}
