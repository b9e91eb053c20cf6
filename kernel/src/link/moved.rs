//! Tunnels that were made in this network namespace and are in another one now: they go on holding their port and their
//! networks here (drivers/net/vxlan/vxlan_core.c: a device belongs to the namespace it was made in).

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

/// A VXLAN device of this namespace that is in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The device as it is there.
    pub link: Link,
    /// What this namespace calls the other one (rtnetlink's id of a namespace).
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

/// The VXLAN devices of this namespace that are in another one which this one knows; one that it does not know it has never
/// had to do with.
pub fn list(socket: &mut Socket) -> Result<Vec<Moved>> {
    let mut found = Vec::new();
    for namespace in namespaces(socket)? {
        let of_here = |(link, made_in): (Link, Option<i32>)| link.vxlan.is_some().then_some((link, made_in?));
        match device::list_in(socket, namespace) {
            Ok(links) => {
                let tunnels = links.into_iter().filter_map(of_here);
                found.extend(tunnels.map(|(link, made_in)| (made_in, Moved { link, namespace })));
            }
            // It ended meanwhile, or is none that this process may look into.
            Err(error) if error.is_refusal() => {}
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // This namespace has an id for itself from the moment that one had to be named.
    let own = own_id(socket)?;
    Ok(found.into_iter().filter(|(made_in, _)| Some(*made_in) == own).map(|(_, moved)| moved).collect())
}

/// The ids of the namespaces that this one knows.
fn namespaces(socket: &mut Socket) -> Result<Vec<i32>> {
    let ask = RouteNetlinkMessage::GetNsId(NsidMessage::default());
    let answers = socket.dump(Request::new("list network namespaces", Message::from(ask), 0))?;
    Ok(answers.into_iter().filter_map(id).collect())
}

fn own_id(socket: &mut Socket) -> Result<Option<i32>> {
    let own = Namespace::own()?;
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(own.as_fd().as_raw_fd().cast_unsigned()));
    let ask =
        Request::new("look up the own network namespace", Message::from(RouteNetlinkMessage::GetNsId(message)), 0);
    Ok(socket.get(ask)?.and_then(id))
}

fn id(answer: Message) -> Option<i32> {
    let Message::Route(message) = answer else { return None };
    let RouteNetlinkMessage::NewNsId(message) = *message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) => Some(*id).filter(|id| *id >= 0),
        _ => None,
    })
}
