//! Flows that have begun before a policy: a datagram that is answered, again and again from one port.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{Outcome, check};
use podwire_tests::lab::{SOON, eventually};
use policy_model::packet::Packet;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(50);

/// A flow from one port to another.
pub(super) struct Flow {
    /// Its first packet, as policies see it.
    pub(super) packet: Packet,
    socket: UdpSocket,
}

impl Flow {
    /// Begins one to a pod that answers.
    pub(super) fn begin(from: &Host, source: IpAddr, to: SocketAddr) -> Outcome<Self> {
        let open = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let socket = from.enter(open).map_err(|error| format!("a flow from {source} to {to}: {error}"))?;
        let packet = Packet { source, destination: to.ip(), port: Some(("UDP", to.port())) };
        let mut flow = Self { packet, socket };
        flow.becomes(true)?;
        Ok(flow)
    }

    /// Waits until it is answered, or is not any more.
    pub(super) fn becomes(&mut self, answered: bool) -> Outcome {
        eventually(SOON, || {
            let answers = (0..3).map(|_| self.ask()).collect::<Outcome<Vec<_>>>()?;
            check(answers == [answered; 3], || {
                format!("of three datagrams were answered: {answers:?}, should: {answered}")
            })
        })
    }

    fn ask(&mut self) -> Outcome<bool> {
        let mut answer = [0; 64];
        let failed = |error: io::Error| format!("a datagram {}: {error}", self.packet);
        self.socket.send(b"?").map_err(failed)?;
        match self.socket.recv(&mut answer) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}
