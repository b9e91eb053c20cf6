//! The socket against the real kernel.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::*;
use crate::netlink::message::Message;
use crate::netlink::request::Request;

#[test]
fn requests_whose_replies_were_lost_are_reported_and_the_socket_stays_usable() {
    let mut socket = Socket::route().unwrap();
    // As small as the kernel allows: replies are lost, and the socket returns ENOBUFS.
    socket.socket.set_rx_buf_sz(1_i32).unwrap();
    let look_up = |number: u32| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(format!("none-{number}")));
        let message = Message::from(RouteNetlinkMessage::GetLink(message));
        Request::new(format!("look up none-{number}"), message, 0)
    };
    let mut refused = socket.execute_all((0..300).map(look_up).collect());
    refused.sort_by_key(|(place, _)| *place);
    assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    let lost = refused.iter().filter(|(_, error)| !error.is_refusal()).collect::<Vec<_>>();
    let why = "no reply, so perhaps not done: wait for an acknowledgement: No buffer space available (105)";
    assert!(lost.iter().all(|(_, error)| error.to_string().ends_with(why)), "{lost:?}");
    // Requests of chunks that were not even sent are among them.
    assert!(lost.iter().any(|(place, _)| *place == 299), "{lost:?}");
    // Late replies are not taken for new ones.
    let mut loopback = LinkMessage::default();
    loopback.header.index = 1;
    let loopback = Message::from(RouteNetlinkMessage::GetLink(loopback));
    socket.socket.set_rx_buf_sz(1_i32 << 20).unwrap();
    assert!(socket.get(look_up(300)).unwrap().is_none());
    assert!(socket.get(Request::new("look up the first device", loopback, 0)).unwrap().is_some());
}
