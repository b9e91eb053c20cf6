//! The programs of the fast path at the devices of pods and of the overlay: loaded once, attached to devices with
//! hooks, reattached after another program has detached them, detached where they must not be.
//!
//! What may not live here: whether there is a fast path at all (`fast_path`), and what the programs do (`program`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podwire_conf::defaults::HOST_VETH_PREFIX;
use podwire_kernel::bpf::{Map, Number, Program};
use podwire_kernel::family::IpVersion;
use podwire_kernel::tc::bpf_hook::{self, Hook, Queues};
use podwire_kernel::{Result, Socket, link};
use tracing::{debug, info};

use crate::datapath::fast_path::conntrack;
use crate::datapath::fast_path::forgetting::Forgetting;
use crate::datapath::fast_path::program::{self, Maps, TunnelAttributes};
use crate::report::change_kind::ChangeKind;
use crate::report::outcome::Outcome;

/// The maximum number of remembered flows: 3 MB of kernel memory.
const FLOWS: u32 = 16_384;

/// The maximum numbers of devices, and of peers behind a narrow path. Both maps use memory for what is in them.
const DEVICES: u32 = 16_384;
const PATHS: u32 = 65_536;

/// How often it is checked whether the programs are still attached; one query per device.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// How long a pod's ADD may take after its device was first seen; after that the next reconcile is early enough.
const ADD_LIMIT: Duration = Duration::from_secs(10);
/// How soon it is checked again whether the ADD has completed.
const CHECK_AGAIN: Duration = Duration::from_millis(250);

/// Names of the programs, as `tc filter` shows them.
const FORWARD: &str = "podwire-forward";
const REMEMBER: &str = "podwire-remember";

/// The loaded programs and maps.
pub(super) struct Loaded {
    maps: Maps,
    programs: Option<Programs>,
    /// The narrow paths that are in their map: each peer's address, and the MTU of pods' packets to it in bytes.
    paths: BTreeMap<IpAddr, u32>,
    /// The devices with the present programs attached.
    attached: BTreeSet<u32>,
    /// How many devices have no hooks.
    pub(super) left_out: usize,
    /// When it was last checked whether they are attached.
    looked: Instant,
    /// Devices without a record, and since when those are known that may belong to a pod whose ADD has not completed.
    without_record: BTreeMap<u32, Option<Instant>>,
}

struct Programs {
    underlay: TunnelAttributes,
    forward: Program,
    remember: Program,
    remember_tunnel: Program,
}

/// The node's overlay, as the programs need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Devices {
    /// Index of the overlay's device, where there is one.
    pub(super) tunnel: Option<u32>,
    /// The IP version of the underlay.
    pub(super) version: IpVersion,
    /// The MTU of pods, in bytes.
    pub(super) mtu: u32,
}

impl Programs {
    fn load(maps: &Maps, underlay: TunnelAttributes) -> Result<Self> {
        Ok(Self {
            underlay,
            forward: Program::load("podwire_forward", &program::forward(maps, underlay))?,
            remember: Program::load("podwire_rem", &program::remember(maps, None))?,
            remember_tunnel: Program::load("podwire_rem_tun", &program::remember(maps, Some(underlay)))?,
        })
    }
}

impl Loaded {
    /// Loads everything once, before anything depends on it.
    pub(super) fn new() -> Result<Self> {
        let maps = Maps {
            flows: Map::create("podwire_flows", program::KEY, program::VALUE, FLOWS)?,
            expired: Arc::new(Number::create("podwire_forgot")?),
            devices: Map::devices("podwire_devices", DEVICES)?,
            paths: Map::keeping("podwire_paths", program::PATH_KEY, program::PATH_VALUE, PATHS)?,
        };
        let any = TunnelAttributes { version: IpVersion::V4, mtu: u32::from(u16::MAX) };
        Programs::load(&maps, any)?;
        Ok(Self {
            maps,
            programs: None,
            paths: BTreeMap::new(),
            attached: BTreeSet::new(),
            left_out: 0,
            looked: Instant::now(),
            without_record: BTreeMap::new(),
        })
    }

    /// Replaces the narrow paths. Flows that are remembered already keep the MTU that they were remembered with.
    pub(super) fn set_paths(&mut self, paths: BTreeMap<IpAddr, u32>) -> Result<()> {
        for (peer, mtu) in paths.iter().filter(|(peer, mtu)| self.paths.get(peer) != Some(mtu)) {
            self.maps.paths.set(&program::path_key(*peer), &mtu.to_ne_bytes())?;
        }
        for peer in self.paths.keys().filter(|peer| !paths.contains_key(peer)) {
            self.maps.paths.remove(&program::path_key(*peer))?;
        }
        self.paths = paths;
        Ok(())
    }

    /// What has all flows forgotten.
    pub(super) fn forgetting(&self) -> Forgetting {
        Forgetting(self.maps.expired.clone())
    }

    pub(super) fn attach_all(
        &mut self,
        socket: &mut Socket,
        devices: Devices,
        pods: &[u32],
        outcome: &mut Outcome,
    ) -> Result<Option<Duration>> {
        // conntrack does not exist before the first rule that uses it.
        let Some(changed) = conntrack::set()? else { return Ok(None) };
        outcome.changes += changed;
        (0..changed).for_each(|_| outcome.made.add(ChangeKind::Sysctl));
        let queues = bpf_hook::queues(socket)?;
        self.detach_queued(socket, pods, devices.tunnel, &queues)?;
        // A device that has lost its hooks has dropped packets already.
        let has_lost = |device: &u32| queues.get(device).is_some_and(|queues| !queues.hooks && !queues.ingress);
        let mut lost: BTreeSet<_> = self.attached.iter().copied().filter(has_lost).collect();
        for device in &lost {
            socket.execute(bpf_hook::add_hooks(*device))?;
        }
        self.attached.retain(|device| queues.get(device).is_some_and(|queues| queues.hooks));
        lost.extend(self.detached(socket)?);
        let underlay = TunnelAttributes { version: devices.version, mtu: devices.mtu };
        if self.programs.as_ref().is_none_or(|programs| programs.underlay != underlay) {
            self.programs = Some(Programs::load(&self.maps, underlay)?);
            self.attached.clear();
        }
        let bare = pods.iter().filter(|device| queues.get(device).is_none_or(Queues::is_bare));
        let targets = bare.copied().map(|device| (device, false)).chain(devices.tunnel.map(|device| (device, true)));
        let has_hooks = |device: &u32| lost.contains(device) || queues.get(device).is_some_and(|queues| queues.hooks);
        let (ready, left_out): (Vec<_>, Vec<_>) = targets.partition(|(device, _)| has_hooks(device));
        self.left_out = left_out.len();
        for (device, is_tunnel) in ready {
            if self.attached.contains(&device) || !self.attach(socket, device, is_tunnel)? {
                continue;
            }
            debug!("the fast path is attached to device {device}");
            if lost.contains(&device) {
                info!("the fast path is reattached to device {device}");
                outcome.changes += 1;
                outcome.made.add(ChangeKind::FastPath);
            }
        }
        let known = |device: &u32| pods.contains(device) || Some(*device) == devices.tunnel;
        self.wait_for(socket, queues.into_keys().filter(|device| !known(device)))
    }

    /// Attaches the programs to a device; `false` when it is gone meanwhile.
    fn attach(&mut self, socket: &mut Socket, device: u32, is_tunnel: bool) -> Result<bool> {
        let Some(programs) = &self.programs else { return Ok(false) };
        let remember = if is_tunnel { &programs.remember_tunnel } else { &programs.remember };
        let requests = vec![
            bpf_hook::attach(device, Hook::Egress, REMEMBER, remember),
            bpf_hook::attach(device, Hook::Ingress, FORWARD, &programs.forward),
        ];
        match socket.execute_all(requests).into_iter().next() {
            None => {
                if let Err(error) = self.maps.devices.add_device(device) {
                    return if link::by_index(socket, device)?.is_none() { Ok(false) } else { Err(error) };
                }
                self.attached.insert(device);
                Ok(true)
            }
            Some((_, error)) if error.is_gone() => Ok(false),
            Some((_, error)) => Err(error),
        }
    }

    /// Detaches the programs from pods that have got a queueing discipline since: redirected packets would bypass it.
    fn detach_queued(
        &mut self,
        socket: &mut Socket,
        pods: &[u32],
        tunnel: Option<u32>,
        queues: &BTreeMap<u32, Queues>,
    ) -> Result<()> {
        for (device, found) in queues {
            let ours = pods.contains(device) && Some(*device) != tunnel;
            if ours && found.hooks && !found.is_bare() {
                self.attached.remove(device);
                for hook in Hook::BOTH {
                    if bpf_hook::attached(socket, *device, hook)? {
                        socket.execute(bpf_hook::detach(*device, hook))?;
                        info!("the fast path leaves out device {device}, whose packets are queued");
                    }
                }
            }
        }
        Ok(())
    }

    /// Every so often: the devices from which the programs have been detached.
    fn detached(&mut self, socket: &mut Socket) -> Result<BTreeSet<u32>> {
        if self.looked.elapsed() < CHECK_INTERVAL {
            return Ok(BTreeSet::new());
        }
        self.looked = Instant::now();
        let mut lost = BTreeSet::new();
        for device in &self.attached {
            for hook in Hook::BOTH {
                match bpf_hook::attached(socket, *device, hook) {
                    Ok(true) => {}
                    Ok(false) => _ = lost.insert(*device),
                    Err(error) if error.is_gone() => _ = lost.insert(*device),
                    Err(error) => return Err(error),
                }
            }
        }
        self.attached.retain(|device| !lost.contains(device));
        Ok(lost)
    }

    /// When to check again, for pods whose ADD has not completed: their devices have no record yet.
    fn wait_for(&mut self, socket: &mut Socket, without_record: impl Iterator<Item = u32>) -> Result<Option<Duration>> {
        let (now, mut before) = (Instant::now(), std::mem::take(&mut self.without_record));
        for device in without_record {
            let since = match before.remove(&device) {
                Some(since) => since,
                None => {
                    let link = link::by_index(socket, device)?;
                    link.is_some_and(|link| link.name.starts_with(HOST_VETH_PREFIX)).then_some(now)
                }
            };
            self.without_record.insert(device, since);
        }
        let mut waiting = self.without_record.values().flatten();
        Ok(waiting.any(|since| now.duration_since(*since) < ADD_LIMIT).then_some(CHECK_AGAIN))
    }
}

/// Detaches the programs of an earlier daemon from all devices. The hooks stay: removing them costs packets, and they
/// go with their devices.
pub(super) fn clean(socket: &mut Socket) -> Result<()> {
    let queues = bpf_hook::queues(socket)?;
    for device in queues.into_iter().filter_map(|(device, queues)| queues.hooks.then_some(device)) {
        for hook in Hook::BOTH {
            if bpf_hook::attached(socket, device, hook)? {
                info!("the fast path is detached from device {device}");
                socket.execute(bpf_hook::detach(device, hook))?;
            }
        }
    }
    Ok(())
}
