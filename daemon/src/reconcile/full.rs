//! A full sync: each step observes, compares and applies its difference, in an order in which no packet goes astray.
//!
//! What may not live here: what a step does (`datapath`), when a sync is due (`reconcile`), and the few changed peers that
//! are applied by themselves (`incremental`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podwire_conf::defaults;
use tracing::info;

use crate::args::Run;
use crate::cluster::settings::Settings;
use crate::cluster::view::View;
use crate::datapath::fast_path::FastPath;
use crate::datapath::fast_path::forgetting::Forgetting;
use crate::datapath::firewall::Firewall;
use crate::datapath::inputs::Inputs;
use crate::datapath::overlay::desired;
use crate::datapath::overlay::step::Overlay;
use crate::datapath::pods::Pods;
use crate::datapath::transactions::Transactions;
use crate::node::conflist;
use crate::node::plugin_binary::Plugin;
use crate::report::change_kind::ChangeKind;
use crate::report::outcome::{Mtu, Outcome};
use crate::report::probes::NarrowPaths;
use crate::report::problem::{Problem, ProblemKind};

/// The steps of a sync, each with its socket, and the files of the node.
pub(crate) struct Reconciler {
    pub(super) overlay: Overlay,
    pub(super) firewall: Firewall,
    pods: Pods,
    pub(super) fast_path: FastPath,
    pub(super) settings: Settings,
    /// The narrow paths that the last full sync has followed.
    pub(super) narrow: Arc<NarrowPaths>,
    conflist_directory: PathBuf,
    /// Where the plugin is kept, and, once it has been found, the plugin.
    plugin: Option<(PathBuf, Option<Plugin>)>,
    stop: Arc<AtomicBool>,
}

impl Reconciler {
    /// Once `stop` is set, a full sync ends where it would make its next list.
    ///
    /// # Errors
    /// When there are no sockets to be had, or the kernel lacks what the overlay needs.
    pub(crate) fn new(
        settings: Settings,
        run: &Run,
        stop: Arc<AtomicBool>,
        transactions: Transactions,
    ) -> io::Result<Self> {
        Ok(Self {
            overlay: Overlay::new(run.interface.clone(), stop.clone())?,
            firewall: Firewall::new(transactions).map_err(io::Error::other)?,
            pods: Pods::new(stop.clone()).map_err(io::Error::other)?,
            fast_path: FastPath::open(settings.fast_path, stop.clone()).map_err(io::Error::other)?,
            settings,
            narrow: Arc::default(),
            conflist_directory: run.conflist_directory.clone(),
            plugin: run.plugin_directory.clone().map(|directory| (directory, None)),
            stop,
        })
    }

    /// The ports that it changes routes and devices by, and nftables.
    pub(crate) fn ports(&self) -> ([u32; 3], u32) {
        ([self.overlay.port(), self.pods.port(), self.fast_path.port()], self.firewall.port())
    }

    /// Has the next full sync follow these narrow paths.
    pub(crate) fn follow(&mut self, narrow: &Arc<NarrowPaths>) {
        self.narrow = narrow.clone();
    }

    /// The narrow paths that the last full sync has followed.
    pub(crate) fn narrow(&self) -> &Arc<NarrowPaths> {
        &self.narrow
    }

    /// A full sync.
    pub(crate) fn sync(&mut self, view: &View) -> Outcome {
        let mut outcome = Outcome::default();
        let settled = self.overlay.take_settled();
        self.steps(view, &mut outcome);
        if outcome.changes > 0 {
            self.fast_path.forget();
        }
        if self.stop.load(Ordering::Relaxed) && !outcome.problems.is_empty() {
            outcome.problems.clear();
            outcome.stopped = true;
            if outcome.changes == 0 {
                self.overlay.put_back(settled);
            }
        } else if !outcome.problems.is_empty() {
            self.overlay.put_back(None);
        }
        outcome
    }

    fn steps(&mut self, view: &View, outcome: &mut Outcome) {
        // Before the conflist: a runtime that sees a network expects its plugin.
        if let Err(error) = self.install_plugin(outcome) {
            let directory = self.plugin.as_ref().map(|(directory, _)| directory.display().to_string());
            let (kind, text) = (ProblemKind::PluginNotInstalled, error.to_string());
            outcome.problem(Problem { kind, subject: directory, text });
        }
        let inputs = inputs(view, &self.settings, &self.fast_path, &self.narrow);
        self.firewall.look_for_services(view, outcome);
        let underlay = self.overlay.look(&inputs, outcome);
        self.firewall.follow(underlay.as_ref());
        // Before the device takes anything in, unless it is known to be guarded: then a peer gets its route first.
        let guarded = self.firewall.is_known();
        if !guarded {
            self.firewall.step(&inputs, outcome);
        }
        self.overlay.step(&inputs, underlay, outcome);
        if outcome.overlay_is_up && guarded {
            self.firewall.step(&inputs, outcome);
        }
        if outcome.overlay_is_up && outcome.problems.is_empty() {
            self.write_conflist(view, outcome);
        }
        // After the conflist: a pod that cannot be repaired is no reason to accept no others.
        self.step_pods(view, outcome);
    }

    /// What pods have on the host, and the fast path between them.
    fn step_pods(&mut self, view: &View, outcome: &mut Outcome) {
        let inputs = inputs(view, &self.settings, &self.fast_path, &self.narrow);
        outcome.devices.overlay = self.overlay.device_index();
        self.pods.step(&inputs, outcome);
        self.fast_path.step(&inputs, outcome);
    }

    /// What has the fast path forget, where it is on.
    pub(super) fn forgetting(&self) -> Option<Forgetting> {
        self.fast_path.forgetting()
    }

    /// When the pods are to be looked at again, where that is soon.
    pub(crate) fn pods_again(&self) -> Option<Duration> {
        self.fast_path.again()
    }

    /// Looks at the pods again, after the sync that has left this view and these sizes.
    pub(crate) fn sync_pods(&mut self, view: &View, mtu: Option<Mtu>) -> Outcome {
        let mut outcome = Outcome { mtu, ..Outcome::default() };
        self.step_pods(view, &mut outcome);
        outcome
    }

    /// The conflist, once the overlay is up: a runtime that finds it may attach pods.
    fn write_conflist(&mut self, view: &View, outcome: &mut Outcome) {
        let Some(Mtu { overlay: mtu, .. }) = outcome.mtu else { return };
        let network = desired::network(view, mtu, self.fast_path.is_on(), self.settings.policies_of_new_pods());
        match conflist::write(&self.conflist_directory, &network) {
            Ok(false) => {}
            Ok(true) => {
                outcome.wrote = true;
                outcome.made.add(ChangeKind::Conflist);
                info!(mtu, "set the conflist");
            }
            Err(error) => {
                let path = self.conflist_directory.join(defaults::CONFLIST).display().to_string();
                outcome.problem(Problem::new(ProblemKind::ConflistNotWritten, path, error.to_string()));
            }
        }
    }

    /// The plugin in its place, where it is kept.
    fn install_plugin(&mut self, outcome: &mut Outcome) -> io::Result<()> {
        let Some((directory, found)) = &mut self.plugin else { return Ok(()) };
        let plugin = match found {
            Some(plugin) => plugin,
            None => found.insert(Plugin::open(None, directory)?),
        };
        if plugin.install()? {
            outcome.changes += 1;
            outcome.wrote = true;
            outcome.made.add(ChangeKind::Other);
            info!("set the plugin {}", plugin.place().display());
        }
        Ok(())
    }
}

/// What the steps are given for this view.
pub(super) fn inputs<'a>(
    view: &'a View,
    settings: &'a Settings,
    fast_path: &FastPath,
    narrow: &'a NarrowPaths,
) -> Inputs<'a> {
    Inputs { view, settings, state_directory: Path::new(defaults::RUN_DIRECTORY), fast_path: fast_path.is_on(), narrow }
}
