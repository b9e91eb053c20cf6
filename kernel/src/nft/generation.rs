//! The generation of nftables: a number that grows with every transaction, of any table.

use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};

use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::message::message;
use crate::nft::reply::Reply;

/// `NFTA_GEN_ID` (uapi/linux/netfilter/nf_tables.h).
const GENERATION: u16 = 1;

/// The number of the last transaction, of any table.
///
/// # Errors
/// When the kernel refuses to reply.
pub fn current_generation(socket: &mut Socket) -> Result<u32> {
    let replies = socket.get_all(vec![query()])?;
    parse(replies.into_iter().next().flatten())
}

pub(super) fn query() -> Request<NetfilterMessage> {
    let inner = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    Request::new("read the generation of nftables", message(inner), 0)
}

pub(super) fn parse(reply: Option<Reply>) -> Result<u32> {
    let number = reply.and_then(|reply| reply.number(GENERATION));
    number.ok_or_else(|| Error::unreadable("read the generation of nftables", "the reply has no generation"))
}
