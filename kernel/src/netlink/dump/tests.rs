//! A dump of which a part was interrupted is discarded.

use netlink_packet_route::RouteNetlinkMessage;
use proptest::prelude::*;

use super::*;
use crate::netlink::reply::{HEADER, NLM_F_ACK_TLVS, NLM_F_CAPPED};

/// A message from the kernel: its type, its flags, and its payload.
fn reply(kind: u16, flags: u16, payload: &[u8]) -> (u16, u16, Vec<u8>) {
    let length = u32::try_from(HEADER + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    (kind, flags, bytes)
}

fn dump(replies: &[(u16, u16, Vec<u8>)]) -> Result<Option<Option<usize>>> {
    let mut dump = Dump { list: Vec::new(), interrupted: false };
    let mut last = None;
    for (kind, flags, bytes) in replies {
        last =
            dump.take("list", &Reply { kind: *kind, flags: *flags, sequence: 0, bytes }, Some::<RouteNetlinkMessage>)?;
    }
    Ok(last.map(|list| list.map(|list| list.len())))
}

#[test]
fn l13_an_interrupted_dump_is_discarded_whichever_message_says_so() {
    // An RTM_NEWROUTE with nothing but its header.
    let route = |flags| reply(24, flags, &[2, 0, 0, 0, 254, 112, 0, 1, 0, 0, 0, 0]);
    let done = |flags| reply(NLMSG_DONE, flags, &0_i32.to_ne_bytes());
    assert_eq!(dump(&[route(0)]).unwrap(), None);
    assert_eq!(dump(&[route(0), route(0), done(0)]).unwrap(), Some(Some(2)));
    assert_eq!(dump(&[route(NLM_F_DUMP_INTR), route(0), done(0)]).unwrap(), Some(None));
    assert_eq!(dump(&[route(0), done(NLM_F_DUMP_INTR)]).unwrap(), Some(None));
}

#[test]
fn a_dump_that_ends_with_an_error_is_that_error() {
    let failed = reply(NLMSG_DONE, 0, &(-22_i32).to_ne_bytes());
    assert_eq!(dump(&[failed]).unwrap_err().to_string(), "list: Invalid argument (22)");
    // With the extended acknowledgement: attribute 1, a text.
    let mut payload = (-22_i32).to_ne_bytes().to_vec();
    payload.extend([8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
    payload.extend(*b"why\0");
    let explained = reply(NLMSG_DONE, NLM_F_ACK_TLVS, &payload);
    let error = dump(&[explained]).unwrap_err().to_string();
    assert_eq!(error, "list: Invalid argument (22), the kernel says: why");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_of_any_content_is_a_list_or_an_error(
        kind in prop_oneof![Just(NLMSG_ERROR), Just(NLMSG_DONE), 16..120_u16],
        flags in prop_oneof![Just(NLM_F_ACK_TLVS), Just(NLM_F_ACK_TLVS | NLM_F_CAPPED), any::<u16>()],
        code in prop_oneof![Just(0), Just(i32::MIN), any::<i32>()],
        rest in prop::collection::vec(prop_oneof![0..9_u8, any::<u8>()], 0..64),
    ) {
        let payload = [&code.to_ne_bytes(), rest.as_slice()].concat();
        // The kernel sends errors as negative numbers; the least one has no positive counterpart.
        let result = dump(&[reply(kind, flags, &payload)]);
        if matches!(kind, NLMSG_ERROR | NLMSG_DONE) {
            prop_assert_eq!(result.is_ok(), code == 0);
        }
    }
}
