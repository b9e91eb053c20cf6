//! The pods' step of a reconcile: the host side of each attachment on the plugin's ledger, and its repair. A repair
//! takes the attachment lock; a pod that is being attached or detached is left to the plugin.
//!
//! What may not live here: what the kernel has (`observed`), and what differs (`repair`, pure).

mod observed;
mod repair;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podwire_attachment::error::Error;
use podwire_attachment::host_side::{HostSide, Loopback};
use podwire_attachment::ledger::{Ledger, Record};
use podwire_kernel::link;
use podwire_kernel::link::settings::DeviceSettings;
use podwire_kernel::netlink::message::Message;
use podwire_kernel::tc::{bpf_hook, loopback_filter};
use podwire_kernel::{Request, Result, Socket};
use tracing::info;

use self::observed::Observed;
use self::repair::Repair;
use crate::datapath::inputs::Inputs;
use crate::report::change_kind::ChangeKind;
use crate::report::outcome::Outcome;
use crate::report::problem::{Problem, ProblemKind};

/// An attachment of this node.
struct Pod {
    ledger: Ledger,
    record: Record,
    host_side: HostSide,
}

/// The host sides of pods, and the socket that repairs them.
pub(crate) struct Pods {
    socket: Socket,
}

impl Pods {
    /// Once `stop` is set, a step ends before its next dump.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Result<Self> {
        let mut socket = Socket::route()?;
        socket.stop_by(stop);
        Ok(Self { socket })
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Repairs the host sides of pods, and reports their devices. When they are not known, there is a problem.
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) {
        outcome.devices.pods = repair_all(&mut self.socket, inputs.state_directory, outcome);
    }
}

fn repair_all(socket: &mut Socket, state: &Path, outcome: &mut Outcome) -> Option<Vec<u32>> {
    let pods = match pods(state) {
        Ok(pods) => pods,
        Err(failure) => {
            outcome.problem(unreadable(&failure));
            return None;
        }
    };
    if pods.is_empty() {
        return Some(Vec::new());
    }
    let observed = match Observed::read(socket, pods.iter().map(|pod| &pod.host_side)) {
        Ok(observed) => observed,
        Err(error) => {
            outcome.problem(error);
            return None;
        }
    };
    for pod in pods {
        // A pod whose device is gone is dead.
        let Some(device) = observed.devices.get(&pod.host_side.name) else { continue };
        let mut repair = Repair::of(&pod.host_side, device, &observed);
        let unfiltered = pod.host_side.loopback_ports && !observed.filtered.contains(&device.link.index);
        if !unfiltered && repair.sysctls.is_empty() && repair.requests.is_empty() {
            continue;
        }
        match lock_unchanged(socket, &pod, device) {
            Ok(None) => {}
            Ok(Some(_lock)) => {
                if unfiltered {
                    repair.requests.extend(filter(socket, &pod.host_side, device, outcome));
                }
                apply(socket, repair, outcome);
            }
            Err(failure) => outcome.problem(unreadable(&failure)),
        }
    }
    Some(observed.devices.values().map(|device| device.link.index).collect())
}

fn unreadable(failure: &Error) -> Problem {
    Problem::general(ProblemKind::LedgerUnreadable, failure.to_string())
}

/// The attachments whose ADD has completed.
fn pods(state: &Path) -> std::result::Result<Vec<Pod>, Error> {
    let mut pods = Vec::new();
    for ledger in Ledger::all_of_this_boot(state)? {
        for record in ledger.attachments()? {
            let host_side = HostSide::of(&ledger.with_own_addresses(record.clone())?);
            pods.push(Pod { ledger: ledger.clone(), record, host_side });
        }
    }
    Ok(pods)
}

/// Takes the attachment lock, if it is free and the pod is unchanged.
fn lock_unchanged(
    socket: &mut Socket,
    pod: &Pod,
    device: &DeviceSettings,
) -> std::result::Result<Option<podwire_attachment::ledger::AttachmentLock>, Error> {
    let lock = pod.ledger.try_lock_attachment(&pod.record.attachment)?;
    let same = pod.ledger.find(&pod.record.attachment)? == Some((pod.record.clone(), true))
        && link::by_name(socket, &pod.host_side.name)?.is_some_and(|link| link.index == device.link.index);
    Ok(lock.filter(|_| same))
}

/// Attaches the filter of 127.0.0.0/8 to a pod's device. Returns the request that has the device accept 127.0.0.1 again, or
/// none where there is no filter.
fn filter(
    socket: &mut Socket,
    host_side: &HostSide,
    device: &DeviceSettings,
    outcome: &mut Outcome,
) -> Option<Request<Message>> {
    let index = device.link.index;
    let attach = |socket: &mut Socket| {
        let queues = bpf_hook::queues(socket)?.remove(&index).unwrap_or_default();
        if !queues.hooks && !queues.ingress {
            socket.execute(bpf_hook::add_hooks(index))?;
        }
        socket.execute(loopback_filter::attach(index))
    };
    match attach(socket) {
        Ok(()) => {
            outcome.changes += 1;
            outcome.made.add(ChangeKind::Other);
            info!("attached the filter of 127.0.0.0/8 to {}", host_side.name);
            Some(link::set_ipv4(index, &host_side.name, &host_side.ipv4_settings(Loopback::Filtered)))
        }
        Err(error) if error.is_gone() => None,
        Err(error) => {
            let text = format!("{error}: host ports of {} are not reached at 127.0.0.1 of the node", host_side.name);
            outcome.problem(Problem::new(ProblemKind::KernelRefused, error.operation(), text));
            None
        }
    }
}

fn apply(socket: &mut Socket, repair: Repair, outcome: &mut Outcome) {
    for setting in repair.sysctls {
        match setting.set_if_there() {
            Ok(()) => {
                outcome.changes += 1;
                outcome.made.add(ChangeKind::Sysctl);
                info!("set sysctl {} to {}", setting.path, setting.value);
            }
            Err(error) => outcome.problem(Problem::new(ProblemKind::SysctlRefused, &setting.path, error.to_string())),
        }
    }
    let operations: Vec<_> =
        repair.requests.iter().map(|request| (request.operation.clone(), request.message.subject())).collect();
    let mut refused: BTreeMap<_, _> = socket.execute_all(repair.requests).into_iter().collect();
    for (place, (operation, subject)) in operations.into_iter().enumerate() {
        match refused.remove(&place) {
            None => {
                outcome.changes += 1;
                outcome.made.add(subject.into());
                info!("{operation}");
            }
            // The pod is gone meanwhile.
            Some(error) if error.is_gone() => {}
            Some(error) if error.already_there() => {
                let text = format!("{error}: it is foreign and is not replaced: the pod is cut off");
                outcome.problem(Problem::new(ProblemKind::ForeignObject, error.operation(), text));
            }
            Some(error) => outcome.problem(error),
        }
    }
}
