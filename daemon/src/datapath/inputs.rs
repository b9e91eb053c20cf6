//! What every step of a reconcile is given. Values only: each step owns the socket that it changes the kernel by.

use std::path::Path;

use crate::cluster::settings::Settings;
use crate::cluster::view::View;

/// What is to be brought about, and where this node keeps its state.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The cluster as this node accepts it.
    pub(crate) view: &'a View,
    /// What was decided about the network.
    pub(crate) settings: &'a Settings,
    /// Where the plugin's ledgers are.
    pub(crate) state_directory: &'a Path,
    /// Whether packets take the fast path, so that the firewall marks those that may, and pods' devices are made for it.
    pub(crate) fast_path: bool,
}
