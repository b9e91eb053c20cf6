//! Bandwidth limits of a pod: what the runtime requests, as rates of the kernel on the pod's devices.

use podwire_attachment::names::{self, Attachment};
use podwire_conf::{Bandwidth, TokenBucket};
use podwire_kernel::link::{Ifb, Link};
use podwire_kernel::tc::shaping::{self, Rates};
use podwire_kernel::{Mac, Socket};

use crate::cni::{Code, Failure};

/// The ifb device on the host that shapes what a pod sends.
pub(crate) struct Shaper {
    /// Its name.
    pub(crate) name: String,
    /// Its link-layer address.
    pub(crate) mac: Mac,
}

impl Shaper {
    /// The shaper of an attachment.
    pub(crate) fn of(attachment: &Attachment) -> Self {
        Self { name: names::shaper_device(attachment), mac: names::shaper_mac(attachment) }
    }

    /// Shapes what goes through the host end with this index.
    pub(crate) fn apply(
        &self,
        bandwidth: &Bandwidth,
        host: &mut Socket,
        host_end: u32,
        mtu: u32,
        alias: &str,
    ) -> Result<(), Failure> {
        let ifb = Ifb { name: &self.name, mac: self.mac, mtu, alias: Some(alias) };
        Ok(rates(bandwidth)?.apply(host, host_end, &ifb)?)
    }

    /// What in the kernel differs from what ADD set, as sentences.
    pub(crate) fn differences(
        &self,
        bandwidth: &Bandwidth,
        host: &mut Socket,
        host_end: &Link,
    ) -> Result<Vec<String>, Failure> {
        let observed = shaping::observe(host, host_end.index, &self.name)?;
        Ok(rates(bandwidth)?.differences(&observed, host_end.mtu))
    }
}

fn rates(bandwidth: &Bandwidth) -> Result<Rates, Failure> {
    let bucket = |requested: Option<TokenBucket>| {
        let Some(TokenBucket { rate, burst }) = requested else { return Ok(None) };
        let invalid = |why: shaping::InvalidBucket| Failure::new(Code::Configuration, format!("bandwidth: {why}"), "");
        shaping::Bucket::new(rate, burst).map_err(invalid)
    };
    Ok(Rates { ingress: bucket(bandwidth.ingress)?, egress: bucket(bandwidth.egress)? })
}
