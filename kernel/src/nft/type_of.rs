//! How the program `nft` is told what the fields of a key are where their types do not say it: bytes of a packet at a fixed
//! place are an integer to it, and a set of such has to be declared by the expression, `typeof ip saddr . @th,336,32`.
//! Without this a ruleset that `nft list ruleset` has written could not be loaded again. The kernel only keeps it.
//!
//! What may not live here: which field is where in a packet (`field`).

use crate::family::IpVersion;
use crate::nft::encode::{carried_source, quoted_destination};
use crate::nft::field_type::Type;

/// `NFTNL_UDATA_SET_KEYBYTEORDER`, `NFTNL_UDATA_SET_KEY_TYPEOF` (libnftnl, udata.h).
const BYTE_ORDER: u8 = 0;
const KEY_TYPE_OF: u8 = 3;
/// `NFTNL_UDATA_SET_TYPEOF_EXPR`, `NFTNL_UDATA_SET_TYPEOF_DATA`.
const EXPRESSION: u8 = 0;
const DATA: u8 = 1;
/// `EXPR_PAYLOAD`, `EXPR_CONCAT` (nftables, expression.h).
const PAYLOAD: u32 = 7;
const CONCATENATION: u32 = 13;
/// `NFTNL_UDATA_SET_KEY_PAYLOAD_*` (nftables, payload.c): protocol, its field; base, offset and length in bits.
const PROTOCOL: u8 = 0;
const FIELD: u8 = 1;
const BASE: u8 = 2;
const OFFSET: u8 = 3;
const LENGTH: u8 = 4;
/// `PROTO_DESC_IP` and `IPHDR_SADDR`, `PROTO_DESC_IP6` and `IP6HDR_SADDR`, `PROTO_BASE_TRANSPORT_HDR` (nftables, proto.h).
const IP_SOURCE: (u32, u32) = (12, 11);
const IP6_SOURCE: (u32, u32) = (13, 8);
const TRANSPORT: u32 = 3;

/// What is told of a key; nothing where the types say it all.
pub(super) fn user_data(key: &[Type]) -> Option<Vec<u8>> {
    let is_read = |field: &Type| matches!(field, Type::CarriedSource(_) | Type::QuotedDestination(_));
    if !key.iter().any(is_read) {
        return None;
    }
    let fields: Option<Vec<_>> = key.iter().map(|field| expression(*field)).collect();
    let type_of = match &fields?[..] {
        [field] => field.clone(),
        fields => {
            let fields = (0..).zip(fields).flat_map(|(place, field)| part(place, field)).collect::<Vec<_>>();
            [number(EXPRESSION, CONCATENATION), part(DATA, &fields)].concat()
        }
    };
    // The order of the bytes of several fields is that of each.
    Some([number(BYTE_ORDER, 0), part(KEY_TYPE_OF, &type_of)].concat())
}

/// A field of the packet; nothing for those that stand in no such key.
fn expression(field: Type) -> Option<Vec<u8>> {
    let data = match field {
        Type::Address(version) => {
            let (protocol, source) = if version == IpVersion::V4 { IP_SOURCE } else { IP6_SOURCE };
            [number(PROTOCOL, protocol), number(FIELD, source)].concat()
        }
        Type::CarriedSource(version) => bytes_at(carried_source(version), version.address_length()),
        Type::QuotedDestination(version) => bytes_at(quoted_destination(version), version.address_length()),
        Type::Protocol | Type::Port | Type::DeviceName | Type::Number => return None,
    };
    Some([number(EXPRESSION, PAYLOAD), part(DATA, &data)].concat())
}

/// So many bytes at a place behind the outer IP header.
fn bytes_at(offset: u32, length: usize) -> Vec<u8> {
    let bits = u32::try_from(length * 8).unwrap_or(u32::MAX);
    let place = [number(BASE, TRANSPORT), number(OFFSET, offset * 8)];
    let none = [number(PROTOCOL, 0), number(FIELD, 0)];
    [none.concat(), place.concat(), number(LENGTH, bits)].concat()
}

fn number(kind: u8, value: u32) -> Vec<u8> {
    part(kind, &value.to_ne_bytes())
}

fn part(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(value.len()).unwrap_or(u8::MAX)], value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_as_the_program_nft_tells_it() {
        // As nft 1.0.6 and 1.1.3 write it for `typeof ip saddr . @th,336,32`, on a little-endian machine.
        #[cfg(target_endian = "little")]
        assert_eq!(
            user_data(&[Type::Address(IpVersion::V4), Type::CarriedSource(IpVersion::V4)]).unwrap(),
            [
                0, 4, 0, 0, 0, 0, 3, 0x46, 0, 4, 0x0d, 0, 0, 0, 1, 0x3e, 0, 0x14, 0, 4, 7, 0, 0, 0, 1, 0x0c, 0, 4,
                0x0c, 0, 0, 0, 1, 4, 0x0b, 0, 0, 0, 1, 0x26, 0, 4, 7, 0, 0, 0, 1, 0x1e, 0, 4, 0, 0, 0, 0, 1, 4, 0, 0,
                0, 0, 2, 4, 3, 0, 0, 0, 3, 4, 0x50, 1, 0, 0, 4, 4, 0x20, 0, 0, 0
            ]
        );
        assert_eq!(user_data(&[Type::Address(IpVersion::V4), Type::Port]), None);
    }
}
