//! How fast a pod may send and receive: what the runtime wishes, as the kernel's rates on the pod's devices.

use podwire_attachment::names::{self, Attachment};
use podwire_conf::{Bandwidth, TokenBucket};
use podwire_kernel::link::{Ifb, Link};
use podwire_kernel::tc::shaping::{self, Rates};
use podwire_kernel::{Mac, Socket};

use crate::cni::{Code, Failure};

/// The device on the host that what a pod sends is shaped by.
pub(crate) struct Shaper {
    /// Its name.
    pub(crate) name: String,
    /// Its link-layer address.
    pub(crate) mac: Mac,
}

impl Shaper {
    /// The one of an attachment.
    pub(crate) fn of(attachment: &Attachment) -> Self {
        Self { name: names::shaper_device(attachment), mac: names::shaper_mac(attachment) }
    }

    /// Shapes what goes through the host's end of a pair, of which this is the index.
    pub(crate) fn apply(
        &self,
        bandwidth: &Bandwidth,
        host: &mut Socket,
        outer: u32,
        mtu: u32,
        alias: &str,
    ) -> Result<(), Failure> {
        let ifb = Ifb { name: &self.name, mac: self.mac, mtu, alias: Some(alias) };
        Ok(rates(bandwidth)?.apply(host, outer, &ifb)?)
    }

    /// In what the kernel's state is not as ADD made it, as sentences.
    pub(crate) fn differences(
        &self,
        bandwidth: &Bandwidth,
        host: &mut Socket,
        outer: &Link,
    ) -> Result<Vec<String>, Failure> {
        let found = shaping::observe(host, outer.index, &self.name)?;
        Ok(rates(bandwidth)?.differences(&found, outer.mtu))
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
