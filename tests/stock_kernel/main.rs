//! What only a kernel as distributions ship it can show, on Debian's in a virtual machine (`podwire-stock`): limits of the
//! whole machine, modules that are loaded when they are needed, another release than the one of whoever tests. Any other
//! scene can be played there too.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

mod limits;
mod machine;
mod node;
