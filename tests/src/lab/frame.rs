//! Ethernet frames written by hand, as whoever has CAP_NET_RAW writes them: any source, any destination, and tags.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};

use super::host::Host;

/// A UDP datagram (RFC 768) in an IP packet.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Where it claims to come from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What it says.
    pub text: String,
    /// Options of the IPv4 header (RFC 791), a multiple of four bytes.
    pub options: Vec<u8>,
}

impl Datagram {
    /// One without options.
    pub fn new(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>, text: &str) -> Self {
        Self { source: source.into(), destination: destination.into(), text: text.into(), options: Vec::new() }
    }

    /// The IP packet.
    ///
    /// # Panics
    /// When its two ends are of different families, or it is too long.
    pub fn packet(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.text.len()).expect("a short text");
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        let mut datagram = [&ports[..], &length.to_be_bytes(), &[0, 0], self.text.as_bytes()].concat();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let words = u8::try_from(self.options.len() / 4).expect("few options");
                let total = length + 20 + u16::from(words) * 4;
                let mut header = [&[0x45 + words, 0][..], &total.to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
                header.extend([source.octets(), destination.octets()].concat());
                header.extend(&self.options);
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum);
                // Without a checksum of its own, which UDP over IPv4 allows.
                [header, datagram].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let addresses = [source.octets(), destination.octets()].concat();
                let pseudo = [&addresses[..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 17], &datagram].concat();
                let sum = checksum(&pseudo);
                datagram[6..8].copy_from_slice(&sum);
                [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[17, 64], &addresses, &datagram].concat()
            }
            _ => panic!("two families"),
        }
    }

    /// Sends it from a device of a host to the host with this link-layer address.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn send(&self, from: &Host, device: &str, to: [u8; 6]) -> Result<(), String> {
        self.send_tagged(from, device, to, 0)
    }

    /// The same with some priority tags in front (IEEE 802.1Q with VLAN 0), which a receiver takes off.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn send_tagged(&self, from: &Host, device: &str, to: [u8; 6], tags: usize) -> Result<(), String> {
        let frame = frame(to, tags, &self.packet());
        transmit(from, device, &frame)
            .map_err(|why| format!("send {:?} from {device} of {}: {why}", self.text, from.name))
    }
}

/// Sends an IP packet from a device of a host to the host with this link-layer address.
///
/// # Errors
/// A sentence that says what was refused.
pub fn send_packet(from: &Host, device: &str, to: [u8; 6], packet: &[u8]) -> Result<(), String> {
    transmit(from, device, &frame(to, 0, packet))
}

/// An Ethernet frame with this packet.
fn frame(to: [u8; 6], tags: usize, packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet.first().is_some_and(|first| first >> 4 == 4) { 0x0800_u16 } else { 0x86dd };
    let mut frame = [to, [2, 0, 0, 0, 0, 9]].concat();
    frame.extend([0x81, 0, 0, 0].repeat(tags));
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

/// Transmits a frame as it is.
///
/// # Errors
/// A sentence that says what was refused.
pub fn transmit(host: &Host, device: &str, frame: &[u8]) -> Result<(), String> {
    host.enter(|| {
        let addresses = getifaddrs().map_err(|error| error.to_string())?;
        let mut own = addresses.filter(|one| one.interface_name == device).filter_map(|one| one.address);
        let own = own.find(|address| address.family() == Some(AddressFamily::Packet));
        let own = own.as_ref().and_then(|address| address.as_link_addr()).ok_or("no such device")?;
        let sender = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|error| error.to_string())?;
        sendto(sender.as_raw_fd(), frame, own, MsgFlags::empty()).map_err(|error| error.to_string())?;
        Ok(())
    })
}

/// The Internet checksum (RFC 1071).
///
/// # Panics
/// Never: a folded sum has 16 bits.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).expect("folded");
    (!sum).to_be_bytes()
}
