//! A range of addresses for pods, as a user writes it, and its usable addresses.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family;
use serde::Serialize;

use crate::invalid::{Invalid, invalid};
use crate::json::Field;

/// A range of addresses within a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The subnet, host bits clear. Its network address is never used, and in IPv4 neither is its broadcast address.
    pub subnet: IpNetwork,
    /// First address of the range, inclusive; the default is the first usable one of the subnet.
    #[serde(rename = "rangeStart", skip_serializing_if = "Option::is_none")]
    pub start: Option<IpAddr>,
    /// Last address of the range, inclusive; the default is the last usable one of the subnet.
    #[serde(rename = "rangeEnd", skip_serializing_if = "Option::is_none")]
    pub end: Option<IpAddr>,
    /// An address that no pod gets; the default is the first of the subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (None, None) => write!(f, "{}", self.subnet),
            _ => write!(f, "{} to {} of {}", self.first(), self.last(), self.subnet),
        }
    }
}

impl Range {
    /// Reads a range; returns it with its path in the document.
    pub(crate) fn read(field: &Field<'_>) -> Result<(String, Self), Invalid> {
        let Some(subnet) = field.get("subnet")? else { return field.wrong("has no \"subnet\"") };
        let address = |key: &str| -> Result<Option<IpAddr>, Invalid> {
            let found = field.get(key)?.filter(|field| field.value() != "");
            found.map(|field| field.parse("an address")).transpose()
        };
        let range = Self {
            subnet: subnet.parse("a prefix, as in 10.0.0.0/24")?,
            start: address("rangeStart")?,
            end: address("rangeEnd")?,
            gateway: address("gateway")?,
        };
        range.check(field.path())?;
        Ok((field.path().to_owned(), range))
    }

    fn check(&self, field: &str) -> Result<(), Invalid> {
        let subnet = self.subnet;
        if subnet.network() != subnet.ip() {
            let right = family::masked(subnet);
            return invalid(format!("{field}.subnet"), format!("{subnet} has host bits set: did you mean {right}?"));
        }
        if let Some(reserved) = family::reserved().find(|reserved| family::overlap(*reserved, subnet)) {
            let why = format!("{subnet} overlaps {reserved}, which no pod can have addresses in");
            return invalid(format!("{field}.subnet"), why);
        }
        let width = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > width - 2 {
            return invalid(format!("{field}.subnet"), format!("{subnet} is too small for pods"));
        }
        for (key, address) in [("rangeStart", self.start), ("rangeEnd", self.end), ("gateway", self.gateway)] {
            if let Some(address) = address.filter(|address| !subnet.contains(*address)) {
                return invalid(format!("{field}.{key}"), format!("{address} is not in {subnet}"));
            }
        }
        if self.first() > self.last() {
            let (first, last) = (self.first(), self.last());
            return invalid(format!("{field}.rangeStart"), format!("{first} is after the end of the range, {last}"));
        }
        Ok(())
    }

    /// The first usable address.
    pub fn first(&self) -> IpAddr {
        self.start.unwrap_or_else(|| offset(self.subnet.network(), 1)).max(offset(self.subnet.network(), 1))
    }

    /// The last usable address.
    pub fn last(&self) -> IpAddr {
        let usable = match self.subnet {
            IpNetwork::V4(subnet) => offset(subnet.broadcast().into(), -1),
            IpNetwork::V6(subnet) => IpAddr::V6(subnet.broadcast()),
        };
        self.end.unwrap_or(usable).min(usable)
    }

    /// The address that no pod gets: the configured gateway, else the first of the subnet, which is the gateway with
    /// host-local.
    pub fn reserved(&self) -> IpAddr {
        self.gateway.unwrap_or_else(|| offset(self.subnet.network(), 1))
    }
}

/// The address at an offset, wrapping within its family.
pub(crate) fn offset(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(address.to_bits().wrapping_add_signed(by.into()).into()),
        IpAddr::V6(address) => IpAddr::V6(address.to_bits().wrapping_add_signed(by.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_broadcast_address_are_not_in_a_range() {
        let range = |text: &str| Range { subnet: text.parse().unwrap(), start: None, end: None, gateway: None };
        let four = range("10.0.0.0/29");
        assert_eq!((four.first().to_string(), four.last().to_string()), ("10.0.0.1".into(), "10.0.0.6".into()));
        assert_eq!(four.reserved().to_string(), "10.0.0.1");
        let given = Range {
            start: Some("10.0.0.0".parse().unwrap()),
            end: Some("10.0.0.7".parse().unwrap()),
            gateway: Some("10.0.0.3".parse().unwrap()),
            ..four
        };
        assert_eq!((given.first().to_string(), given.last().to_string()), ("10.0.0.1".into(), "10.0.0.6".into()));
        assert_eq!(given.reserved().to_string(), "10.0.0.3");
        let six = range("fd00::/125");
        assert_eq!((six.first().to_string(), six.last().to_string()), ("fd00::1".into(), "fd00::7".into()));
    }
}
