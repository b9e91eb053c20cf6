//! How fast a pod may receive and send: rates as a user writes them, the requests that apply them, and how the kernel's
//! state differs.
//!
//! Packets to the pod are queued at the root of the host's end of its veth pair. Packets from it cannot be queued
//! there, since a device has no queue for what it receives: they are redirected to an ifb device, queued at its root,
//! and come back. No policy: the names of the devices and the rates are the caller's.

use std::fmt;

use crate::link::{self, Ifb, Link};
use crate::netlink::error::{Error, Result};
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::tc::qdisc::{self, Qdisc, Tbf};
use crate::tc::redirect::{self, Redirect};

/// How long a packet waits in a full queue, in milliseconds; further ones are dropped, so that senders notice.
const LATENCY: u64 = 25;

/// How many bytes of the burst may be queued beside that: two of the largest GSO packets (64 KiB each). The rest of a
/// burst does not add to the queue, as it does where tc computes the limit. Runtimes write 512 MB or 4 GB by default; a
/// pod could fill as much of the node's memory, and would wait for it: behind eight transfers at 10 Mbit/s with a burst
/// of 32 MB that is used up, a ping took 0.93 s on average, and 0.09 s with this, at the same throughput (measured).
const ROOM: u32 = 128 * 1024;

/// What a packet has beside the MTU: the Ethernet header and one VLAN tag.
const FRAME: u32 = 18;

/// A rate and a burst, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate: u64,
    burst: u64,
}

/// How fast a pod may receive and send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Towards the pod.
    pub ingress: Option<Bucket>,
    /// From the pod.
    pub egress: Option<Bucket>,
}

/// Why a rate and a burst are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidBucket {
    /// There is a rate, and a burst of 0.
    RateWithoutBurst,
    /// There is a burst, and a rate of 0.
    BurstWithoutRate,
    /// The burst, in bits, is larger than the kernel can count.
    Burst(u64),
}

/// What shapes a pod, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The root qdisc of the host's end.
    pub host: Option<Qdisc>,
    /// The redirect of the host's end.
    pub redirect: Option<Redirect>,
    /// The device with the name of the ifb.
    pub ifb: Option<Link>,
    /// Its root qdisc.
    pub ifb_root: Option<Qdisc>,
}

impl Bucket {
    /// A rate in bits per second and a burst in bits; two zeros are no bucket.
    ///
    /// # Errors
    /// When one of them is 0, and when the burst is not less than 2³² − 1 bytes, the kernel's limit (`TCA_TBF_BURST`).
    /// CRI-O writes 34359738359 for the largest one, which just fits; containerd 4294967295.
    pub fn new(rate: u64, burst: u64) -> std::result::Result<Option<Self>, InvalidBucket> {
        match (rate, burst) {
            (0, 0) => Ok(None),
            (_, 0) => Err(InvalidBucket::RateWithoutBurst),
            (0, _) => Err(InvalidBucket::BurstWithoutRate),
            _ if burst / 8 >= u64::from(u32::MAX) => Err(InvalidBucket::Burst(burst)),
            _ => Ok(Some(Self { rate, burst })),
        }
    }

    /// The bucket for a device with this MTU.
    ///
    /// Rates are rounded up to whole bytes per second (for the kernel 0 means "no limit"), bursts down to whole bytes,
    /// but at least one packet: with less, the kernel would drop every packet of full size.
    fn on(self, mtu: u32) -> Tbf {
        let rate = self.rate.div_ceil(8);
        let burst = u32::try_from(self.burst / 8).unwrap_or(u32::MAX).max(mtu.saturating_add(FRAME));
        let waiting = u32::try_from(u128::from(rate) * u128::from(LATENCY) / 1000).unwrap_or(u32::MAX);
        Tbf { rate, burst, limit: waiting.saturating_add(burst.min(ROOM)) }
    }
}

impl Rates {
    /// Shapes a pod; idempotent. `host` is the index of the host's end, `ifb` the device that is created when the pod's
    /// egress is shaped, with the MTU of the host's end.
    pub fn apply(&self, socket: &mut Socket, host: u32, ifb: &Ifb<'_>) -> Result<()> {
        let ifb_index = if self.egress.is_some() { make(socket, ifb)? } else { 0 };
        let refused = socket.execute_all(self.requests(host, ifb_index, ifb));
        refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The requests, in order: no packet is redirected to a device that is down or that does not shape. `ifb_index` is
    /// read only when the pod's egress is shaped.
    pub fn requests(&self, host: u32, ifb_index: u32, ifb: &Ifb<'_>) -> Vec<Request<Message>> {
        let mut requests = Vec::new();
        if let Some(bucket) = self.egress {
            requests.extend([
                // Nothing sends from it: it needs no address, and would generate one.
                link::set_router_port(ifb_index, ifb.mtu, ifb.alias, &[]),
                bucket.on(ifb.mtu).replace(ifb_index),
                link::set_up(ifb_index, ifb.name),
                qdisc::ingress(host),
                Redirect { from: host, to: ifb_index }.replace(),
            ]);
        }
        requests.extend(self.ingress.map(|bucket| bucket.on(ifb.mtu).replace(host)));
        requests
    }

    /// How the kernel's state differs from these rates, as sentences; empty when it does not. Where no rate is given,
    /// any state is fine: another plugin may have shaped the pod. `mtu` is the one of [`Self::apply`].
    pub fn differences(&self, found: &Observed, mtu: u32) -> Vec<String> {
        let root = |place: &str, bucket: Bucket, found: Option<&Qdisc>| {
            let wanted = bucket.on(mtu);
            let same = found.and_then(|qdisc| qdisc.bucket).is_some_and(|measure| wanted.is(&measure));
            let found = || found.map_or_else(|| "nothing".to_owned(), Qdisc::to_string);
            (!same).then(|| format!("{place}: desired {wanted}; observed {}", found()))
        };
        let mut differences: Vec<_> =
            self.ingress.and_then(|bucket| root("towards the pod", bucket, found.host.as_ref())).into_iter().collect();
        let Some(bucket) = self.egress else { return differences };
        let Some(ifb) = &found.ifb else {
            differences.push("from the pod: there is no ifb".into());
            return differences;
        };
        differences.extend(root("from the pod", bucket, found.ifb_root.as_ref()));
        let redirected = found.redirect.is_some_and(|redirect| redirect.to == ifb.index);
        let holds = [(is_ifb(ifb), "not an ifb"), (ifb.up, "down"), (redirected, "not where it is redirected to")];
        let missing = holds.into_iter().filter(|(holds, _)| !holds);
        differences.extend(missing.map(|(_, what)| format!("from the pod: {} is {what}", ifb.name)));
        differences
    }
}

/// Observes what shapes a pod: `host` is the index of the host's end, `ifb` the name of the other device.
pub fn observe(socket: &mut Socket, host: u32, ifb: &str) -> Result<Observed> {
    let ifb = link::by_name(socket, ifb)?;
    let ifb_root = ifb.as_ref().map(|ifb| qdisc::root(socket, ifb.index)).transpose()?.flatten();
    Ok(Observed { host: qdisc::root(socket, host)?, redirect: redirect::find(socket, host)?, ifb, ifb_root })
}

/// The index of the ifb, which is created when it does not exist.
fn make(socket: &mut Socket, ifb: &Ifb<'_>) -> Result<u32> {
    let made = socket.execute(ifb.create());
    match (made, link::by_name(socket, ifb.name)?) {
        (Ok(()), Some(link)) => Ok(link.index),
        (Err(error), Some(link)) if error.already_there() && is_ifb(&link) => Ok(link.index),
        (Err(error), _) => Err(error),
        (Ok(()), None) => {
            Err(Error::unreadable(format!("look up ifb {}", ifb.name), "it vanished while it was set up"))
        }
    }
}

fn is_ifb(link: &Link) -> bool {
    link.kind.as_deref() == Some("ifb")
}

impl fmt::Display for InvalidBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateWithoutBurst => write!(f, "a rate needs a burst that is not 0"),
            Self::BurstWithoutRate => write!(f, "a burst needs a rate that is not 0"),
            Self::Burst(bits) => write!(f, "a burst of {bits} bits is too large: 34359738359 is the most"),
        }
    }
}

impl std::error::Error for InvalidBucket {}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: u64) -> Bucket {
        Bucket::new(rate, burst).unwrap().unwrap()
    }

    #[test]
    fn a_bucket_needs_a_rate_and_a_burst_that_the_kernel_can_count() {
        assert_eq!(Bucket::new(0, 0), Ok(None));
        assert_eq!(Bucket::new(1000, 0), Err(InvalidBucket::RateWithoutBurst));
        assert_eq!(Bucket::new(0, 1000), Err(InvalidBucket::BurstWithoutRate));
        // What containerd and CRI-O write for a burst that is not configured.
        for burst in [4_294_967_295, 34_359_738_359] {
            assert!(Bucket::new(1000, burst).is_ok_and(|bucket| bucket.is_some()));
        }
        assert_eq!(Bucket::new(1000, 34_359_738_360), Err(InvalidBucket::Burst(34_359_738_360)));
        assert_eq!(Bucket::new(1000, u64::MAX), Err(InvalidBucket::Burst(u64::MAX)));
    }

    #[test]
    fn nothing_is_redirected_to_a_device_that_does_not_shape_or_is_down() {
        let ifb = Ifb { name: "pi", mac: crate::Mac([2; 6]), mtu: 1500, alias: None };
        let operations = |rates: Rates| -> Vec<_> {
            rates.requests(4, 5, &ifb).into_iter().map(|request| request.operation).collect()
        };
        let from_pod = [
            "make device 5 a router port",
            "set a token bucket of 1000 bytes/s, 1518 at once, 1543 waiting on device 5",
            "bring pi up",
            "create the ingress hook of device 4",
            "redirect what device 4 receives through device 5",
        ];
        let towards_pod = ["set a token bucket of 1000 bytes/s, 1518 at once, 1543 waiting on device 4"];
        let one = Some(bucket(8000, 8));
        assert_eq!(operations(Rates { ingress: None, egress: one }), from_pod);
        assert_eq!(operations(Rates { ingress: one, egress: None }), towards_pod);
        assert_eq!(operations(Rates { ingress: one, egress: one }), [&from_pod[..], &towards_pod].concat());
        assert!(operations(Rates::default()).is_empty());
    }

    #[test]
    fn bits_become_bytes_with_a_queue_of_25_milliseconds() {
        let expected = Tbf { rate: 12_500_000, burst: 100_000, limit: 312_500 + 100_000 };
        assert_eq!(bucket(100_000_000, 800_000).on(1500), expected);
        // Not 0, which would mean no limit.
        assert_eq!(bucket(1, 800_000).on(1500).rate, 1);
        assert_eq!(bucket(u64::MAX, 800_000).on(1500).limit, u32::MAX);
    }

    #[test]
    fn a_burst_holds_a_packet_and_does_not_add_to_the_queue() {
        assert_eq!(bucket(8000, 8).on(1500).burst, 1518);
        assert_eq!(bucket(8000, 8 * 1519).on(1500).burst, 1519);
        assert_eq!(bucket(8000, 8).on(65_535).burst, 65_553);
        let largest = bucket(8000, 34_359_738_359).on(1500);
        assert_eq!(largest, Tbf { rate: 1000, burst: u32::MAX - 1, limit: 25 + 128 * 1024 });
    }
}
