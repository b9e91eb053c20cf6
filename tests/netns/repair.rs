//! Scenes in which somebody breaks what podwire has made, or leaves something behind: it is repaired, it is removed, and
//! foreign objects are kept. What may not live here: leftovers of killed calls (`tests/fault_injection`).

mod garbage;
mod glance;
pub(crate) mod host_ports;
mod links;
mod notifications;
mod overlay;
mod pods;
mod sandboxes;
mod saved_ruleset;
mod storm;
