//! Scenes of whoever operates a node: status, metrics, doctor, installation, restarts, and the rights of the daemon. What
//! may not live here: what packets do (`overlay`), and files that no program is started for (`tests/packaging`).

mod doctor;
mod dropped;
mod endless;
mod forward_policies;
mod hardening;
mod hostile_names;
mod install;
mod installer;
pub(crate) mod metrics;
mod probes;
mod restart;
mod restart_streams;
mod settings_mistakes;
mod starved;
mod status;
mod uninstall;
mod unusable_files;
