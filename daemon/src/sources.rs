//! Where the membership comes from: a file that all nodes share, or the Nodes of the Kubernetes API; and the checkpoint of
//! what was accepted last; and the settings file.
//!
//! What may not live here: what a membership means for this node (`cluster`), and the kernel.

pub mod kubernetes;

pub(crate) mod checkpoint;
pub(crate) mod file;
pub(crate) mod settings_file;
