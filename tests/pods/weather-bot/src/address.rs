//! The address of the IRC server as it is given on the command line. Pure: no name is resolved here.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest DNS name in bytes, written with dots (RFC 1035 section 3.1, without the root's byte and length bytes).
const NAME_LIMIT: usize = 253;

/// Where the IRC server listens: a DNS name, an IPv4 or an IPv6 address, and a TCP port that is not 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    /// The host without brackets.
    pub(crate) host: String,
    /// The TCP port.
    pub(crate) port: u16,
}

/// Why a text is no server address. The text itself is not repeated: when somebody swaps the two arguments it is the
/// password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// No colon and port at the end.
    PortMissing,
    /// What follows the last colon is no number from 1 to 65535.
    PortInvalid,
    /// An IPv6 address without brackets, or brackets around something else.
    Brackets,
    /// Neither a DNS name nor an address.
    HostInvalid,
}

impl fmt::Display for AddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::PortMissing => "<HOST:PORT> has no port: write it as in irc-server:6667",
            Self::PortInvalid => "the port of <HOST:PORT> is no number from 1 to 65535: write it as in irc-server:6667",
            Self::Brackets => "<HOST:PORT> needs brackets around an IPv6 address and only there, as in [fd00::1]:6667",
            Self::HostInvalid => "the host of <HOST:PORT> is neither a DNS name nor an IPv4 or IPv6 address",
        })
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::PortMissing)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| AddressError::Brackets)?.to_string(),
            None if host.contains([':', '[', ']']) => return Err(AddressError::Brackets),
            None if is_name_or_ipv4(host) => host.to_owned(),
            None => return Err(AddressError::HostInvalid),
        };
        // The parser of numbers would take a plus sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if digits && port != 0 => Ok(Self { host, port }),
            _ => Err(AddressError::PortInvalid),
        }
    }
}

/// A text of digits and dots alone is an IPv4 address or an error, never a name.
fn is_name_or_ipv4(host: &str) -> bool {
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= NAME_LIMIT
        && host.strip_suffix('.').unwrap_or(host).split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_families_are_read_and_written_back_alike() {
        for text in ["10.1.2.3:6667", "[fd00::1]:6667", "irc-server.default.svc:6667", "irc.:1", "localhost:65535"] {
            assert_eq!(text.parse::<ServerAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        let address: ServerAddress = "[fd00::1]:6667".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("fd00::1", 6667));
    }

    #[test]
    fn each_malformed_address_is_refused_with_its_own_reason() {
        use AddressError::{Brackets, HostInvalid, PortInvalid, PortMissing};
        for (text, reason) in [
            ("irc-server", PortMissing),
            ("", PortMissing),
            ("irc-server:", PortInvalid),
            ("irc-server:0", PortInvalid),
            ("irc-server:65536", PortInvalid),
            ("irc-server:+1", PortInvalid),
            ("fd00::1:6667", Brackets),
            ("[10.1.2.3]:6667", Brackets),
            ("[fd00::1:6667", Brackets),
            (":6667", HostInvalid),
            ("10.1.2.300:6667", HostInvalid),
            ("10.1.2:6667", HostInvalid),
            ("irc server:6667", HostInvalid),
            ("irc..server:6667", HostInvalid),
        ] {
            assert_eq!(text.parse::<ServerAddress>(), Err(reason), "{text:?}");
        }
        assert_eq!(format!("{}:1", "a".repeat(254)).parse::<ServerAddress>(), Err(HostInvalid));
    }
}
