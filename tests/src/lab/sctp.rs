//! SCTP (RFC 9260) by hand, as the first packet of an association, through raw sockets: a kernel that has no SCTP tracks and
//! forwards it all the same.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::host::Host;

/// The protocol's number.
const SCTP: i32 = 132;

/// Sends an INIT from a port of a host.
///
/// # Errors
/// A sentence that says what was refused.
pub fn send_init(from: &Host, port: u16, to: SocketAddr) -> Result<(), String> {
    let send = || {
        let socket = raw(to.ip())?;
        // A raw socket of IPv6 takes no port.
        socket.send_to(&init(port, to.port()), &SocketAddr::new(to.ip(), 0).into())
    };
    from.enter(send).map(drop).map_err(|error| format!("send an INIT from {} to {to}: {error}", from.name))
}

/// Takes note of the associations that begin at a host.
#[derive(Debug)]
pub struct Inits {
    sockets: [Socket; 2],
    ports: BTreeSet<u16>,
}

impl Inits {
    /// Begins to listen.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn listen(host: &Host) -> Result<Self, String> {
        let open = || -> io::Result<[Socket; 2]> {
            let sockets = [raw(Ipv4Addr::UNSPECIFIED.into())?, raw(Ipv6Addr::UNSPECIFIED.into())?];
            sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
            Ok(sockets)
        };
        let sockets = host.enter(open).map_err(|error| format!("listen for SCTP on {}: {error}", host.name))?;
        Ok(Self { sockets, ports: BTreeSet::new() })
    }

    /// The ports that an INIT has come from so far.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn heard(&mut self) -> Result<&BTreeSet<u16>, String> {
        let mut packet = [0; 256];
        for socket in &mut self.sockets {
            let is_ipv4 = socket.domain().is_ok_and(|domain| domain == Domain::IPV4);
            loop {
                match socket.read(&mut packet) {
                    Ok(length) => self.ports.extend(source_port(&packet[..length], is_ipv4)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("listen for SCTP: {error}")),
                }
            }
        }
        Ok(&self.ports)
    }
}

fn raw(like: IpAddr) -> io::Result<Socket> {
    let domain = if like.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::RAW.cloexec(), Some(Protocol::from(SCTP)))
}

/// An INIT: the common header, and the only chunk that may begin an association.
fn init(source: u16, destination: u16) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    // No verification tag yet; then the place of the checksum.
    let header = [&ports[..], &[0; 8]].concat();
    // Type 1, 20 bytes; the tag of this side, its window, one stream each way, the first number.
    let chunk = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let mut packet = [&header[..], &chunk].concat();
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// The port that a packet comes from. Raw sockets of IPv4 show the IP header as well.
fn source_port(packet: &[u8], is_ipv4: bool) -> Option<u16> {
    let header = if is_ipv4 { usize::from(packet.first()? & 15) * 4 } else { 0 };
    let port = packet.get(header..header + 2)?;
    Some(u16::from_be_bytes([port[0], port[1]]))
}

/// The checksum of SCTP (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 3720, B.4: 32 bytes of zeroes, and the numbers from 0 to 31.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }
}
