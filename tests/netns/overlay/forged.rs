//! VXLAN packets written by hand, byte by byte, as somebody writes them who is no node: what is carried is a datagram.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use podwire_tests::lab::frame::Datagram;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::Outcome;

/// The port of the carried datagrams, both ends.
pub(crate) const CARRIED_PORT: u16 = 9999;

/// A datagram in VXLAN: RFC 7348, section 5.
#[derive(Debug, Clone)]
pub(crate) struct Forged {
    pub(crate) vni: u32,
    /// The link-layer address of the device that is to take it in.
    pub(crate) device: [u8; 6],
    /// In place of the type of what is carried, where it is not that of its addresses' family.
    pub(crate) ethertype: Option<u16>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) text: String,
}

impl Forged {
    /// What is behind the outer UDP header.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [_, vni @ ..] = self.vni.to_be_bytes();
        let mut bytes = [&[0x08, 0, 0, 0][..], &vni, &[0]].concat();
        bytes.extend(self.device);
        bytes.extend([2, 0, 0, 0, 0, 9]);
        let ethertype = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        bytes.extend(self.ethertype.unwrap_or(ethertype).to_be_bytes());
        bytes.extend(self.packet());
        bytes
    }

    fn packet(&self) -> Vec<u8> {
        Datagram::new((self.source, CARRIED_PORT), (self.destination, CARRIED_PORT), &self.text).packet()
    }

    /// Sends it from a host to a port of an address.
    pub(crate) fn send(&self, from: &Host, to: IpAddr, port: u16) -> Outcome {
        send(from, None, (to, port).into(), &self.bytes())
    }
}

/// Sends a datagram, from an address of the host where one is given.
pub(crate) fn send(from: &Host, own: Option<IpAddr>, to: SocketAddr, bytes: &[u8]) -> Outcome {
    let any = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let send = || {
        let socket = UdpSocket::bind((own.unwrap_or(any), 0))?;
        socket.set_broadcast(true)?;
        socket.send_to(bytes, to)
    };
    from.enter(send).map(drop).map_err(|error| format!("send from {} to {to}: {error}", from.name))
}

/// Takes in what is carried, on every address of a host.
pub(crate) struct Ear {
    socket: UdpSocket,
}

impl Ear {
    pub(crate) fn open(host: &Host) -> Outcome<Self> {
        let open = || {
            let socket = UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, CARRIED_PORT))?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(socket)
        };
        let opened: std::io::Result<_> = host.enter(open);
        Ok(Self { socket: opened.map_err(|error| format!("listen on {}: {error}", host.name))? })
    }

    /// The next text that comes.
    pub(crate) fn next(&self) -> Outcome<String> {
        let mut buffer = [0; 256];
        let heard = self.socket.recv_from(&mut buffer);
        let (length, _) = heard.map_err(|error| format!("nothing is heard: {error}"))?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}
