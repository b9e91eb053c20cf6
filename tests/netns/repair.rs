//! Scenes in which somebody breaks what podwire has made, or leaves something behind: it comes back, it goes, and what is
//! others' is left alone. What may not live here: what only a killed call leaves (`tests/fault_injection`).

mod garbage;
mod glance;
mod links;
mod notices;
mod overlay;
mod pods;
