//! The inputs of every step of a reconcile. Values only: each step owns its socket.

use std::path::Path;

use crate::cluster::settings::Settings;
use crate::cluster::view::View;
use crate::report::probes::NarrowPaths;

/// What is desired, and where this node keeps its state.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The cluster as this node accepts it.
    pub(crate) view: &'a View,
    /// The settings of the network.
    pub(crate) settings: &'a Settings,
    /// Where the plugin's ledgers are.
    pub(crate) state_directory: &'a Path,
    /// Whether the fast path is on, so that the firewall marks packets for it, and pods' devices are prepared for it.
    pub(crate) fast_path: bool,
    /// The peers behind a path that takes less than the underlay's MTU.
    pub(crate) narrow: &'a NarrowPaths,
}
