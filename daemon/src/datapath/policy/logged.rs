//! Packets that policies have refused, and those that they would have refused which are not enforced, one by one, as the rules log them
//! to a group of the kernel's packet log.
//!
//! What may not live here: what is said of them.

use std::time::Duration;

use podwire_conf::defaults::{POLICY_LOG_GROUP, POLICY_TABLE};
use podwire_kernel::nflog::{self, PacketLog};
use podwire_kernel::{Result, Socket, nft};

use crate::datapath::policy::layout::{self, Fate};
use crate::policy::compiled::Packet;
use crate::policy::network_policy::Direction;
use crate::policy::port::Protocol;

/// The group, while it is read.
pub(crate) struct LoggedPackets {
    log: PacketLog,
    /// For the counters of what is not logged.
    socket: Socket,
}

/// A packet that was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedPacket {
    /// Which end has judged it.
    pub(crate) direction: Direction,
    /// What has become of it.
    pub(crate) fate: Fate,
    /// The packet, as it was judged.
    pub(crate) packet: Packet,
    /// The protocol above IP (`IPPROTO_*`).
    pub(crate) protocol: u8,
}

impl LoggedPackets {
    /// Begins to read.
    ///
    /// # Errors
    /// When the kernel refuses: another program reads the group, or there is no packet log.
    pub(crate) fn open() -> Result<Self> {
        let log = PacketLog::open(POLICY_LOG_GROUP, layout::LOGGED_BYTES)?;
        Ok(Self { log, socket: Socket::netfilter()? })
    }

    /// Waits for packets, so long at most; and how many were lost, since this was too slow.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub(crate) fn wait(&mut self, within: Duration) -> Result<(Vec<LoggedPacket>, u64)> {
        let heard = self.log.wait(within)?;
        Ok((heard.packets.iter().filter_map(of_policies).collect(), heard.lost))
    }

    /// How many packets were not logged so far, since there were too many. The count begins with the table.
    ///
    /// # Errors
    /// When the kernel refuses to answer.
    pub(crate) fn unlogged(&mut self) -> Result<u64> {
        let counters = kinds().map(|(direction, fate)| layout::unlogged(direction, fate));
        let counted = nft::counted(&mut self.socket, POLICY_TABLE, &counters.each_ref().map(String::as_str))?;
        Ok(counted.into_iter().flatten().sum())
    }
}

fn kinds() -> [(Direction, Fate); 4] {
    let [ingress, egress] = Direction::BOTH.map(|direction| Fate::BOTH.map(|fate| (direction, fate)));
    [ingress[0], ingress[1], egress[0], egress[1]]
}

/// One of ours; another program may log to the same group.
fn of_policies(logged: &nflog::LoggedPacket) -> Option<LoggedPacket> {
    let nflog::LoggedPacket { word, source, destination, protocol, ports } = logged;
    let (direction, fate) = kinds().into_iter().find(|(direction, fate)| layout::word(*direction, *fate) == *word)?;
    let known = Protocol::ALL.into_iter().find(|known| known.number() == *protocol);
    let port = known.zip(ports.map(|(_, to)| to));
    let packet = Packet { source: *source, destination: *destination, port };
    Some(LoggedPacket { direction, fate, packet, protocol: *protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_packet_is_known_by_its_word_and_what_others_log_is_left_out() {
        let logged = |word: &str, protocol, ports| {
            let [source, destination] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
            of_policies(&nflog::LoggedPacket { word: word.into(), source, destination, protocol, ports })
        };
        let found = logged("podwire-policy ingress refused", 17, Some((1, 53))).unwrap();
        assert_eq!((found.direction, found.fate), (Direction::Ingress, Fate::Refused));
        assert_eq!(found.packet.port, Some((Protocol::Udp, 53)));
        let found = logged("podwire-policy egress audited", 1, None).unwrap();
        assert_eq!((found.direction, found.fate), (Direction::Egress, Fate::Audited));
        assert_eq!((found.packet.port, found.protocol), (None, 1));
        assert_eq!(logged("", 17, None), None);
        assert_eq!(logged("podwire-policy egress", 17, None), None);
    }
}
