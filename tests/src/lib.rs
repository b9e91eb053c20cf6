//! The lab: nodes, pods and the world outside of them as namespaces of one machine, which is left as it was found.
//!
//! The scenes (`netns/`, `apiserver/`, …) and the demo are played in it; tests/README.md has it in five minutes. `irc` is the
//! IRC user of scenes and of the demo. What may not live here: assertions about podwire (they are the scenes' own), and
//! podwire's own netlink code: the lab is built with another, so that an error in ours shows.

pub mod irc;
pub mod lab;
