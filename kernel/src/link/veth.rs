//! A veth pair, one end in this namespace and one in another.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};

use crate::mac::Mac;
use crate::netlink::message::Message;
use crate::netlink::request::Request;

/// A veth pair to be created.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// The end that stays in the socket's namespace.
    pub host: End<'a>,
    /// The end that is created in another namespace.
    pub pod: End<'a>,
    /// That other namespace.
    pub namespace: BorrowedFd<'a>,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The device's name.
    pub name: &'a str,
    /// Its link-layer address, set at creation so that no other program has a reason to rewrite it.
    pub mac: Mac,
}

impl Veth<'_> {
    /// Creates the pair, each end in its namespace and with its name, in one message: nothing is moved or renamed.
    pub fn create(&self) -> Request<Message> {
        let end = |end: End<'_>| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(end.name.to_owned()),
                LinkAttribute::Address(end.mac.0.to_vec()),
                LinkAttribute::Mtu(self.mtu),
                // By default the kernel creates a queue for each processor and removes all but one again, with all
                // their files.
                LinkAttribute::NumTxQueues(1),
                LinkAttribute::NumRxQueues(1),
            ];
            message
        };
        let mut peer = end(self.pod);
        peer.attributes.push(LinkAttribute::NetNsFd(self.namespace.as_raw_fd()));
        let mut message = end(self.host);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let operation = format!("create the pair of {} and {}", self.pod.name, self.host.name);
        Request::new(operation, RouteNetlinkMessage::NewLink(message).into(), NLM_F_CREATE | NLM_F_EXCL)
    }
}
