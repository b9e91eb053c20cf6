//! A 48-bit link-layer address, and the IPv6 link-local address derived from it.

use std::{fmt, net::Ipv6Addr};

/// An Ethernet address, written as lower-case hex with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address out of 46 bits of `seed` (IEEE 802, bits 1 and 0 of the first byte).
    pub fn local(seed: u64) -> Self {
        let [first, rest @ ..] = seed.to_be_bytes();
        let [_, tail @ ..] = rest;
        // Seven bytes are left after the first one; the five low ones and the top one make the address.
        Self([(first & 0xfc) | 0x02, tail[1], tail[2], tail[3], tail[4], tail[5]])
    }

    /// From the bytes of a netlink attribute; `None` unless there are six.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Parses six pairs of hexadecimal digits separated by colons or hyphens; `None` unless it is a unicast address
    /// that is not zero.
    pub fn parse(text: &str) -> Option<Self> {
        let separator = if text.contains('-') { '-' } else { ':' };
        // `from_str_radix` would accept a sign.
        let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = |pair: &str| is_pair(pair).then(|| u8::from_str_radix(pair, 16).ok())?;
        let bytes = text.split(separator).map(digits).collect::<Option<Vec<_>>>()?;
        Self::from_bytes(&bytes).filter(|mac| mac.0[0] & 1 == 0 && mac.0 != [0; 6])
    }

    /// The modified EUI-64 link-local address (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let half = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, half(a ^ 0x02, b), half(c, 0xff), half(0xfe, d), half(e, f))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_address_is_unicast_and_locally_administered_for_any_seed() {
        for seed in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(Mac::local(seed).0[0] & 0b11, 0b10);
        }
        assert_eq!(Mac::local(0x0123_4567_89ab_cdef).to_string(), "02:67:89:ab:cd:ef");
    }

    #[test]
    fn parse_reads_what_display_writes_and_rejects_group_addresses() {
        let mac = Mac([0x02, 0, 0, 0, 0xab, 1]);
        assert_eq!([Mac::parse("02:00:00:00:AB:01"), Mac::parse("02-00-00-00-ab-01")], [Some(mac), Some(mac)]);
        assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
        for wrong in
            ["", "02:00:00:00:00", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:0g", "+2:00:00:00:00:01"]
        {
            assert_eq!(Mac::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_link_local_address_is_the_modified_eui_64() {
        let mac = Mac([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);
        assert_eq!(mac.link_local().to_string(), "fe80::11:22ff:fe33:4455");
    }
}
