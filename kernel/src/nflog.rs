//! The kernel's packet log: what rules log to a group ([`crate::nft::Rule::log`]) is read here, by one socket for each group. The
//! kernel waits for nobody: what has no room in the socket is lost, and counted.
//!
//! What may not live here: which packets are logged, and what is said of them.

mod packet;

use std::time::Duration;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_netfilter::nflog::{ConfigCmd, ConfigFlags, ConfigMode, ConfigNla, ULogMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

pub use self::packet::LoggedPacket;
use crate::netlink::attribute::attributes;
use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// The type of a message with a packet: `NFNL_SUBSYS_ULOG`, `NFULNL_MSG_PACKET` (uapi/linux/netfilter/nfnetlink_log.h).
const PACKET: u16 = 4 << 8;
/// `NFULA_*` (same file).
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQUENCE: u16 = 12;
/// `struct nfgenmsg` (uapi/linux/netfilter/nfnetlink.h).
const NETFILTER_HEADER: usize = 4;

/// A group, as long as this lives, in the namespace in which it was opened.
pub struct PacketLog {
    socket: Socket,
    operation: String,
    /// The number of the next packet.
    next: u32,
}

/// What has been heard of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packets, in order.
    pub packets: Vec<LoggedPacket>,
    /// How many were lost before the last of them.
    pub lost: u64,
}

impl PacketLog {
    /// Begins to read a group: so many bytes of each packet at most, each packet as soon as it is logged.
    ///
    /// # Errors
    /// When the kernel refuses: another socket reads the group (EPERM), or the kernel has no packet log (EINVAL).
    pub fn open(group: u16, bytes: u32) -> Result<Self> {
        let mut socket = Socket::netfilter()?;
        let operation = format!("read group {group} of the packet log");
        let attributes = vec![
            ConfigNla::Cmd(ConfigCmd::Bind),
            ConfigNla::Mode(ConfigMode::new_packet(bytes)),
            ConfigNla::QThresh(1),
            ConfigNla::Flags(ConfigFlags::SEQ),
        ];
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, group);
        let message = NetfilterMessage::new(header, ULogMessage::Config(attributes));
        socket.execute(Request::new(&operation, message, 0))?;
        Ok(Self { socket, operation, next: 0 })
    }

    /// Waits for packets, so long at most. Those that are lost without one behind them are counted with the next.
    ///
    /// # Errors
    /// When the socket cannot be waited for or read, or what is read is no packet.
    pub fn wait(&mut self, within: Duration) -> Result<Heard> {
        let mut heard = Heard::default();
        for message in self.socket.hear(&self.operation, PACKET, within)? {
            let Message { sequence, packet } = message;
            heard.lost += u64::from(sequence.wrapping_sub(self.next));
            self.next = sequence.wrapping_add(1);
            heard.packets.extend(packet);
        }
        Ok(heard)
    }
}

/// A message with a packet.
struct Message {
    sequence: u32,
    /// Nothing for one that is no packet of IP, or is cut before its addresses.
    packet: Option<LoggedPacket>,
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, message: &[u8]) -> std::result::Result<Self, Self::Error> {
        let rest = message.get(NETFILTER_HEADER..).ok_or("a message shorter than its header")?;
        let (mut sequence, mut word, mut payload) = (None, &[][..], &[][..]);
        for (kind, value) in attributes(rest) {
            match kind {
                SEQUENCE => sequence = value.try_into().ok().map(u32::from_be_bytes),
                PREFIX => word = value.strip_suffix(&[0]).unwrap_or(value),
                PAYLOAD => payload = value,
                _ => {}
            }
        }
        let sequence = sequence.ok_or("a logged packet without a number")?;
        Ok(Self { sequence, packet: LoggedPacket::parse(&String::from_utf8_lossy(word), payload) })
    }
}
