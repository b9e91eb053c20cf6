//! The fast path's step of a reconcile: the programs of `program`, loaded for this node, attached to the devices of its
//! pods and of the overlay. When the kernel does not support it, or it is switched off, all packets take the normal
//! forwarding path, and programs of an earlier daemon are detached.
//!
//! Adding hooks to a device that is up costs packets: the kernel stops its queues and waits for a grace period, and
//! meanwhile drops what is sent. So a device gets its hooks at creation, from the plugin or from `overlay`; one without
//! hooks is left out.
//!
//! What may not live here: the order of a sync, and which packets may take the fast path (the firewall marks those).
//!
//! The programs keep running without a daemon. Their map goes with them: a new daemon's programs start with an empty
//! one.

mod conntrack;
mod devices;
pub(crate) mod forgetting;
mod program;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use podwire_kernel::family::IpVersion;
use podwire_kernel::{Error, Result, Socket};
use tracing::{info, warn};

use crate::datapath::fast_path::devices::{Devices, Loaded, clean};
use crate::datapath::fast_path::forgetting::Forgetting;
use crate::datapath::inputs::Inputs;
use crate::datapath::{kernel_support, narrow_path};
use crate::report::outcome::{FastPathState, Outcome};

/// The fast path of this node, and the socket that attaches it.
pub(crate) struct FastPath {
    socket: Socket,
    mode: Mode,
    /// When to check the pods again, if soon: the end of an ADD sends no notification.
    again: Option<Duration>,
}

enum Mode {
    /// Attached to its devices.
    On(Box<Loaded>),
    /// Not attached anywhere.
    Off {
        why: String,
        /// Whether programs of an earlier daemon have been detached.
        cleaned: bool,
    },
}

impl FastPath {
    /// Loads the programs, if the fast path is switched on. Once `stop` is set, a step ends before its next dump.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub(crate) fn open(wanted: bool, stop: Arc<AtomicBool>) -> Result<Self> {
        let mut socket = Socket::route()?;
        socket.stop_by(stop);
        Ok(Self { socket, mode: Mode::open(wanted), again: None })
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Whether it is on.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.mode, Mode::On(_))
    }

    /// When the pods are to be checked again, if soon.
    pub(crate) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Invalidates all remembered flows, since some paths have changed.
    pub(crate) fn forget(&mut self) {
        if let Mode::On(loaded) = &self.mode
            && let Err(error) = loaded.forgetting().forget()
        {
            self.give_up(&error);
        }
    }

    /// What has all flows forgotten, where the fast path is on.
    pub(crate) fn forgetting(&self) -> Option<Forgetting> {
        if let Mode::On(loaded) = &self.mode { Some(loaded.forgetting()) } else { None }
    }

    /// Attaches the programs to the devices of pods and of the overlay, which earlier steps have observed.
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) {
        self.again = None;
        if let Some(error) = outcome.devices.hooks_refused.take() {
            self.give_up(&error);
        }
        if let (Some(pods), Some(mtu)) = (outcome.devices.pods.take(), outcome.mtu) {
            let paths = inputs.narrow.iter().filter_map(|(name, largest)| {
                let mtu = narrow_path::through_tunnel(inputs.view, *largest)?;
                Some((inputs.view.peers.get(&**name)?.address, mtu))
            });
            if let Mode::On(loaded) = &mut self.mode
                && let Err(error) = loaded.set_paths(paths.collect())
            {
                self.give_up(&error);
            }
            let version = IpVersion::of(inputs.view.own.address);
            let devices = Devices { tunnel: outcome.devices.overlay, version, mtu: mtu.overlay };
            self.attach_all(devices, &pods, outcome);
            outcome.devices.pods = Some(pods);
        }
        outcome.fast_path = self.state();
    }

    fn attach_all(&mut self, devices: Devices, pods: &[u32], outcome: &mut Outcome) {
        match &mut self.mode {
            Mode::On(loaded) => match loaded.attach_all(&mut self.socket, devices, pods, outcome) {
                Ok(again) => self.again = again,
                // A sync that makes room for another one: nothing is wrong with the fast path.
                Err(error) if error.is_stopped() => outcome.problem(error),
                Err(error) => self.give_up(&error),
            },
            Mode::Off { cleaned: true, .. } => {}
            Mode::Off { cleaned, .. } => match clean(&mut self.socket) {
                Ok(()) => *cleaned = true,
                Err(error) => outcome.problem(error),
            },
        }
    }

    /// Nothing depends on it: off is better than partly on.
    fn give_up(&mut self, error: &Error) {
        warn!("the fast path is switched off: {error}");
        self.mode = Mode::off(&why(error));
    }

    /// Whether it is on, or why it is not.
    fn state(&self) -> FastPathState {
        match &self.mode {
            Mode::On(loaded) => FastPathState::On { devices_left_out: loaded.left_out },
            Mode::Off { why, .. } => FastPathState::Off { why: why.clone() },
        }
    }
}

impl Mode {
    fn open(wanted: bool) -> Self {
        if !wanted {
            return Self::Off { why: "fast_path = false in the settings".into(), cleaned: false };
        }
        // An older kernel loads the programs, but does not give them the local address of a tunnel.
        if kernel_support::is_before(6) {
            return Self::off(
                "this kernel does not give a program the local address of a tunnel: Linux does since 6.0",
            );
        }
        match Loaded::new() {
            Ok(loaded) => Self::On(Box::new(loaded)),
            Err(error) => Self::off(&why(&error)),
        }
    }

    fn off(why: &str) -> Self {
        info!("no fast path, all packets take the normal forwarding path: {why}");
        Self::Off { why: why.into(), cleaned: false }
    }
}

/// What the kernel has refused, with a fix where there is one.
fn why(error: &Error) -> String {
    match error.is_forbidden() {
        true => format!("{error}: podwired needs CAP_BPF for it, and a seccomp profile that allows bpf(2)"),
        false => error.to_string(),
    }
}
