//! The queueing disciplines that shaping is made of: a token bucket at the root of a device, and the ingress hook.
//!
//! Units are the kernel's: bytes, bytes per second. `shaping` converts from bits.

use std::fmt;

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_ECHO, NLM_F_REPLACE, Nla, NlaBuffer, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::netlink::error::{Error, Result};
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// The attributes of a token bucket (uapi/linux/pkt_sched.h).
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Offsets in `struct tc_tbf_qopt`: two times `struct tc_ratespec` (12 bytes, the rate its last four), then the limit,
/// the buffer and the MTU of the peak rate.
const QOPT: usize = 36;
const QOPT_RATE: usize = 8;
const QOPT_LIMIT: usize = 24;
const QOPT_BUFFER: usize = 28;
const LINKLAYER: usize = 1;
const TC_LINKLAYER_ETHERNET: u8 = 1;

/// The kernel's scheduler tick, in nanoseconds (`PSCHED_SHIFT` in net/pkt_sched.h).
const TICK: u128 = 64;

/// A token bucket filter (net/sched/sch_tbf.c): at most `rate`, and after a pause `burst` at once.
///
/// The kernel accepts any value. A packet counts with its link-layer header. One that is larger than `burst` is
/// segmented when it is a GSO packet, and always dropped otherwise: a burst must hold a packet of the device's MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tbf {
    /// In bytes per second; not 0.
    pub rate: u64,
    /// In bytes; not 0.
    pub burst: u32,
    /// How many bytes may be queued; more are dropped.
    pub limit: u32,
}

/// The queueing discipline at the root of a device, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Its kind (`tbf`, `noqueue`, …).
    pub kind: String,
    /// Its values, where it is a token bucket.
    pub bucket: Option<ObservedTbf>,
}

/// A token bucket as the kernel reports it. It keeps the burst as the time in which it is earned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedTbf {
    /// In bytes per second.
    pub rate: u64,
    /// The time in which the burst is earned, in ticks of 64 ns, modulo 2³².
    pub buffer: u32,
    /// How many bytes may be queued.
    pub limit: u32,
}

impl Tbf {
    /// Sets this bucket at the root of a device. An existing bucket is changed in place: no queued packet is lost.
    pub fn replace(&self, device: u32) -> Request<Message> {
        let mut message = message(device, TcHandle::ROOT, TcHandle::UNSPEC);
        message.attributes = vec![TcAttribute::Kind("tbf".into()), TcAttribute::Options(self.options())];
        let operation = format!("set a token bucket of {self} on device {device}");
        Request::new(operation, RouteNetlinkMessage::NewQueueDiscipline(message).into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn options(&self) -> Vec<TcOption> {
        let mut parameters = vec![0; QOPT];
        // Without a link layer the kernel expects a rate table, as older programs send it.
        parameters[LINKLAYER] = TC_LINKLAYER_ETHERNET;
        let mut set = |place: usize, value: u32| parameters[place..place + 4].copy_from_slice(&value.to_ne_bytes());
        set(QOPT_RATE, u32::try_from(self.rate).unwrap_or(u32::MAX));
        set(QOPT_LIMIT, self.limit);
        let mut attributes = vec![DefaultNla::new(TCA_TBF_PARMS, parameters)];
        if u32::try_from(self.rate).is_err() {
            attributes.push(DefaultNla::new(TCA_TBF_RATE64, self.rate.to_ne_bytes().into()));
        }
        // Instead of the buffer among the parameters, which is a time in 32 bits of ticks.
        attributes.push(DefaultNla::new(TCA_TBF_BURST, self.burst.to_ne_bytes().into()));
        attributes.into_iter().map(TcOption::Other).collect()
    }

    /// Whether the observed bucket is this one.
    pub fn is(&self, found: &ObservedTbf) -> bool {
        found.rate == self.rate && found.limit == self.limit && self.has_buffer(found.buffer)
    }

    /// Whether `buffer` is the time in which the burst is earned. The kernel multiplies by a reciprocal of the rate that
    /// has 31 bits at least, so that the time is too short by a part in 2³⁰ and a tick at most.
    fn has_buffer(&self, buffer: u32) -> bool {
        let ticks = u128::from(self.burst) * 1_000_000_000 / u128::from(self.rate.max(1)) / TICK;
        let slack = 1 + (ticks >> 30);
        // 2³² ticks (275 s) and more are reported modulo that.
        let missing = (ticks + (1 << 32) - u128::from(buffer)) % (1 << 32);
        missing <= slack
    }
}

/// Creates the ingress hook of a device, before the host's network stack (`ingress`).
pub fn ingress(device: u32) -> Request<Message> {
    let mut message = message(device, TcHandle::INGRESS, INGRESS_HANDLE);
    message.attributes = vec![TcAttribute::Kind("ingress".into())];
    let operation = format!("create the ingress hook of device {device}");
    Request::new(operation, RouteNetlinkMessage::NewQueueDiscipline(message).into(), NLM_F_CREATE | NLM_F_REPLACE)
}

/// The handle of the ingress hook as the parent of filters: `ffff:`.
pub(crate) const INGRESS_HANDLE: TcHandle = TcHandle { major: u16::MAX, minor: 0 };

/// The queueing discipline at the root of a device; `None` when there is none, or no such device.
pub fn root(socket: &mut Socket, device: u32) -> Result<Option<Qdisc>> {
    let operation = format!("look up the queueing discipline of device {device}");
    let message = message(device, TcHandle::ROOT, TcHandle::UNSPEC);
    let query = Message::from(RouteNetlinkMessage::GetQueueDiscipline(message));
    // The reply is a notification, which needs `NLM_F_ECHO`. For a device that has never been up there is only the
    // acknowledgement.
    let request = Request::new(operation.clone(), query, NLM_F_ECHO | NLM_F_ACK);
    let Some(reply) = socket.get(request)? else { return Ok(None) };
    if let Message::Route(message) = reply
        && let RouteNetlinkMessage::NewQueueDiscipline(message) = *message
    {
        return Ok(Some(parse(&message)));
    }
    Err(Error::unreadable(operation, "not a queueing discipline"))
}

fn parse(message: &TcMessage) -> Qdisc {
    let mut qdisc = Qdisc { kind: String::new(), bucket: None };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => qdisc.kind.clone_from(kind),
            // For an unknown kind the crate returns the attribute as a whole.
            TcAttribute::Options(options) if qdisc.kind == "tbf" => {
                qdisc.bucket = options.first().and_then(|options| {
                    let mut nested = vec![0; options.value_len()];
                    options.emit_value(&mut nested);
                    measure(&nested)
                });
            }
            _ => {}
        }
    }
    qdisc
}

fn measure(options: &[u8]) -> Option<ObservedTbf> {
    let (mut found, mut wide) = (None, None);
    for attribute in NlasIterator::new(options) {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            TCA_TBF_PARMS => {
                let at = |place: usize| value.get(place..place + 4)?.try_into().ok().map(u32::from_ne_bytes);
                found =
                    Some(ObservedTbf { rate: at(QOPT_RATE)?.into(), buffer: at(QOPT_BUFFER)?, limit: at(QOPT_LIMIT)? });
            }
            TCA_TBF_RATE64 => wide = Some(u64::from_ne_bytes(value.try_into().ok()?)),
            _ => {}
        }
    }
    found.map(|found: ObservedTbf| ObservedTbf { rate: wide.unwrap_or(found.rate), ..found })
}

/// A message about a queueing discipline.
fn message(device: u32, parent: TcHandle, handle: TcHandle) -> TcMessage {
    // The kernel's indices are positive.
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = parent;
    message.header.handle = handle;
    message
}

impl fmt::Display for Tbf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes/s, {} at once, {} waiting", self.rate, self.burst, self.limit)
    }
}

impl fmt::Display for Qdisc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bucket {
            Some(ObservedTbf { rate, buffer, limit }) => {
                let burst = u128::from(buffer) * TICK * u128::from(rate) / 1_000_000_000;
                write!(f, "{rate} bytes/s, about {burst} at once, {limit} waiting")
            }
            None => write!(f, "{}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_compared_by_the_time_in_which_it_is_earned() {
        let bucket = |rate, burst| Tbf { rate, burst, limit: 1 };
        // 125,000 bytes at 12.5 MB/s are 10 ms, which are 156,250 ticks.
        assert!(bucket(12_500_000, 125_000).has_buffer(156_250));
        assert!(bucket(12_500_000, 125_000).has_buffer(156_249));
        assert!(!bucket(12_500_000, 125_000).has_buffer(156_251));
        assert!(!bucket(12_500_000, 125_000).has_buffer(156_248));
        assert!(!bucket(12_500_000, 126_000).has_buffer(156_250));
        // 4 GB at 12.5 MB/s are 343.6 s, which are reported without their first 274.9 s.
        assert!(bucket(12_500_000, u32::MAX).has_buffer(1_073_741_822));
        assert!(!bucket(12_500_000, u32::MAX - 100).has_buffer(1_073_741_822));
        // A burst that is earned in no time.
        assert!(bucket(u64::MAX / 8, 1).has_buffer(0));
    }
}
