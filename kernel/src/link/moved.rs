//! Tunnels that were created in this network namespace and have been moved to another one: they keep their port and
//! their VNIs here (drivers/net/vxlan/vxlan_core.c: a device belongs to the namespace in which it was created).

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use crate::link::device::{self, Link};
use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::netns::Namespace;

/// A VXLAN device of this namespace that was moved to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The device as it is there.
    pub link: Link,
    /// The id of the other namespace here (rtnetlink's nsid).
    namespace: i32,
}

impl Moved {
    /// Removes it.
    pub fn delete(&self) -> Request<Message> {
        let mut message = LinkMessage::default();
        message.header.index = self.link.index;
        message.attributes.push(LinkAttribute::IfNetnsId(self.namespace));
        Request::removal(format!("remove device {self}"), RouteNetlinkMessage::DelLink(message).into())
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of network namespace {}", self.link.name, self.namespace)
    }
}

/// The VXLAN devices of this namespace that were moved to another one with an id here; a namespace without an id here
/// has never had a device of this one.
pub fn list(socket: &mut Socket) -> Result<Vec<Moved>> {
    let mut found = Vec::new();
    for namespace in namespaces(socket)? {
        let of_here = |(link, made_in): (Link, Option<i32>)| link.vxlan.is_some().then_some((link, made_in?));
        match device::list_in(socket, namespace) {
            Ok(links) => {
                let tunnels = links.into_iter().filter_map(of_here);
                found.extend(tunnels.map(|(link, made_in)| (made_in, Moved { link, namespace })));
            }
            // It ended meanwhile, or this process may not read it.
            Err(error) if error.is_refusal() => {}
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // This namespace gets an id for itself when one is first needed.
    let own = own_id(socket)?;
    Ok(found.into_iter().filter(|(made_in, _)| Some(*made_in) == own).map(|(_, moved)| moved).collect())
}

/// The ids of namespaces here.
fn namespaces(socket: &mut Socket) -> Result<Vec<i32>> {
    let query = RouteNetlinkMessage::GetNsId(NsidMessage::default());
    let replies = socket.dump(Request::new("list network namespaces", Message::from(query), 0))?;
    Ok(replies.into_iter().filter_map(id).collect())
}

fn own_id(socket: &mut Socket) -> Result<Option<i32>> {
    let own = Namespace::own()?;
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(own.as_fd().as_raw_fd().cast_unsigned()));
    let query = Request::new(
        "look up the network namespace of this process",
        Message::from(RouteNetlinkMessage::GetNsId(message)),
        0,
    );
    Ok(socket.get(query)?.and_then(id))
}

fn id(reply: Message) -> Option<i32> {
    let Message::Route(message) = reply else { return None };
    let RouteNetlinkMessage::NewNsId(message) = *message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) => Some(*id).filter(|id| *id >= 0),
        _ => None,
    })
}
