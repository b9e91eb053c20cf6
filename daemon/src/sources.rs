//! Where the membership comes from: a file that all nodes share, or the Nodes of the Kubernetes API; the checkpoint of what
//! was published last; the channel by which it travels, with what has changed in it; where the objects come from that policies
//! follow from: the API, or files; and the settings file.
//!
//! What may not live here: what a membership means for this node (`cluster`), and the kernel.

pub mod kubernetes;

pub(crate) mod channel;
pub(crate) mod checkpoint;
pub(crate) mod file;
pub(crate) mod kept;
pub(crate) mod policy_directory;
pub(crate) mod policy_objects;
pub(crate) mod settings_file;

mod policy_files;
mod stamp;
