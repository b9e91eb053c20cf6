//! The fast path's step of a reconcile: the programs of `program`, made for this node, at the devices of its pods and of the
//! overlay. Where the kernel does not have it, or it is not wanted, all goes the ordinary way, and what an earlier daemon
//! has left of it is taken off.
//!
//! To give hooks to a device that is up costs packets: the kernel stops its queues, and waits for a grace period, while
//! whatever is sent is dropped. So a device gets them as it is made, by the plugin or by `overlay`; one without is left out.
//!
//! What may not live here: the order of a sync, and which packets may take it (the firewall marks those).
//!
//! The programs go on without a daemon. What they remember goes with them: a new daemon's begin with nothing.

mod devices;
mod program;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use podwire_kernel::family::IpVersion;
use podwire_kernel::{Error, Result, Socket};
use tracing::{info, warn};

use crate::datapath::fast_path::devices::{Loaded, Node, clean};
use crate::datapath::inputs::Inputs;
use crate::datapath::kernel_support;
use crate::report::outcome::{FastPathState, Outcome};

/// The fast path of this node, and the socket that it is put at devices by.
pub(crate) struct FastPath {
    socket: Socket,
    mode: Mode,
    /// When to look at the pods again, where that is soon: nobody hears of the end of an ADD.
    again: Option<Duration>,
}

enum Mode {
    /// At its devices.
    On(Box<Loaded>),
    /// Nowhere.
    Off {
        why: String,
        /// Whether what was left by an earlier daemon has been taken off.
        cleaned: bool,
    },
}

impl FastPath {
    /// Asks the kernel for it, where it is wanted. Once `stop` is set, a step ends where it would make its next list.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn open(wanted: bool, stop: Arc<AtomicBool>) -> Result<Self> {
        let mut socket = Socket::route()?;
        socket.stop_by(stop);
        Ok(Self { socket, mode: Mode::open(wanted), again: None })
    }

    /// The port that it changes the kernel by.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Whether packets take it.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.mode, Mode::On(_))
    }

    /// When the pods are to be looked at again, where that is soon.
    pub(crate) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Has all ways forgotten, since some have changed.
    pub(crate) fn forget(&mut self) {
        if let Mode::On(loaded) = &self.mode
            && let Err(error) = loaded.forget()
        {
            self.give_up(&error);
        }
    }

    /// Puts the programs at the devices of pods and of the overlay, which earlier steps have found.
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) {
        self.again = None;
        if let Some(error) = outcome.devices.hooks_refused.take() {
            self.give_up(&error);
        }
        if let (Some(pods), Some(mtu)) = (outcome.devices.pods.take(), outcome.mtu) {
            let version = IpVersion::of(inputs.view.own.address);
            let node = Node { tunnel: outcome.devices.overlay, version, mtu: mtu.overlay };
            self.put_at(node, &pods, outcome);
            outcome.devices.pods = Some(pods);
        }
        outcome.fast_path = self.state();
    }

    fn put_at(&mut self, node: Node, pods: &[u32], outcome: &mut Outcome) {
        match &mut self.mode {
            Mode::On(loaded) => match loaded.put_at(&mut self.socket, node, pods, outcome) {
                Ok(again) => self.again = again,
                Err(error) => self.give_up(&error),
            },
            Mode::Off { cleaned: true, .. } => {}
            Mode::Off { cleaned, .. } => match clean(&mut self.socket) {
                Ok(()) => *cleaned = true,
                Err(error) => outcome.problem(error),
            },
        }
    }

    /// Nothing depends on it: better without than half.
    fn give_up(&mut self, error: &Error) {
        warn!("the fast path is given up: {error}");
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
        // An older one takes the programs in, and then tells them nothing of a tunnel.
        if kernel_support::is_before(6) {
            return Self::off("this kernel does not tell a program the own address of a tunnel: Linux does since 6.0");
        }
        match Loaded::new() {
            Ok(loaded) => Self::On(Box::new(loaded)),
            Err(error) => Self::off(&why(&error)),
        }
    }

    fn off(why: &str) -> Self {
        info!("no fast path, everything goes the ordinary way: {why}");
        Self::Off { why: why.into(), cleaned: false }
    }
}

/// What the kernel has refused, with a way out where there is one.
fn why(error: &Error) -> String {
    match error.is_forbidden() {
        true => format!("{error}: podwired needs CAP_BPF for it, and a seccomp profile that allows bpf(2)"),
        false => error.to_string(),
    }
}
