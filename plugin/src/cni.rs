//! The CNI protocol: environment and stdin become a [`Request`], a [`Success`] or a [`Failure`] becomes the answer.
//!
//! The only module that names `CNI_*` variables and keys of a result (CNI specification 1.1.0, sections 2 to 5).
//!
//! What may not live here: anything that touches the kernel or the disk. This file itself only names the parts.

mod arguments;
mod failure;
mod read;
mod request;
mod result;
mod validate;
mod versions;

pub use failure::{Code, Failure};
pub use read::read;
pub use request::{Add, Check, Del, Delegate, Gc, Request, Status};
pub use result::{Previous, Success};
pub use versions::{VERSIONS, is_single, render_versions};

#[cfg(test)]
mod tests;
