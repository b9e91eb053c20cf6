//! An ifb device, through whose queue the packets of another device are sent.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use crate::mac::Mac;
use crate::netlink::message::Message;
use crate::netlink::request::Request;

/// An ifb device to be created: packets redirected to it wait in its queue and continue where they were taken from
/// (drivers/net/ifb.c).
#[derive(Debug, Clone, Copy)]
pub struct Ifb<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its link-layer address, set at creation for the same reason as a veth's; no packet bears it.
    pub mac: Mac,
    /// Its MTU, in bytes: that of the device whose packets it queues.
    pub mtu: u32,
    /// Its alias, for people, at most 255 bytes.
    pub alias: Option<&'a str>,
}

impl Ifb<'_> {
    /// Creates the device, down. The length of its queue is the driver's default (32 packets, at which it stops the
    /// queueing discipline; 0 would stop it for ever).
    pub fn create(&self) -> Request<Message> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Address(self.mac.0.to_vec()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
        ];
        let request = RouteNetlinkMessage::NewLink(message).into();
        Request::new(format!("create ifb device {}", self.name), request, NLM_F_CREATE | NLM_F_EXCL)
    }
}
