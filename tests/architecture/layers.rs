//! The layer table: which crates there are and what each imports, and how the daemon's folders stand above each other.
//!
//! A new import against it is a question of design, not an exception to be added here.

/// The crates of the programs: name, folder of its sources, and the crates of ours that it may import.
pub(crate) const CRATES: [(&str, &str, &[&str]); 5] = [
    ("podwire_kernel", "kernel/src", &[]),
    ("podwire_conf", "conf/src", &["podwire_kernel"]),
    ("podwire_attachment", "plugin/attachment/src", &["podwire_conf", "podwire_kernel"]),
    ("podwire", "plugin/src", &["podwire_attachment", "podwire_conf", "podwire_kernel"]),
    ("podwired", "daemon/src", &["podwire_attachment", "podwire_conf", "podwire_kernel"]),
];

/// What the plugin, and what it is made of, may not depend on.
pub(crate) const NOT_LINKED: [(&str, &[&str]); 4] =
    [("kernel", DAEMONS), ("conf", DAEMONS), ("plugin/attachment", DAEMONS), ("plugin", DAEMONS)];
const DAEMONS: &[&str] = &["tokio", "clap", "kube", "tracing", "tracing-subscriber", "h2", "toml"];

/// The daemon's folders and the files beside them, from the top. One imports what stands below it, and nothing beside it.
pub(crate) const DAEMON: [&[&str]; 9] = [
    &["main"],
    &["lib"],
    &["commands"],
    &["doctor"],
    &["reconcile", "observe"],
    &["datapath", "sources", "node"],
    &["report"],
    &["cluster", "policy"],
    &["args", "logging"],
];

/// What is pure, what it may therefore not name, and why.
pub(crate) const PURE: [(&str, &[&str], &str); 11] = [
    ("podwired::cluster", IMPURE, "the cluster is values: no kernel socket, no clock, no log"),
    ("podwired::policy", IMPURE, "what policies mean follows from the objects alone"),
    ("podwired::datapath::overlay::desired", IMPURE, "what is desired follows from the view alone"),
    ("podwired::datapath::overlay::diff", IMPURE, "a difference is computed; step applies it"),
    ("podwired::datapath::overlay::state", IMPURE, "a state is a value"),
    ("podwired::reconcile::backoff", IMPURE, "how long to wait is computed from what is given"),
    ("podwire::plan", IMPURE, "a plan follows from the request alone"),
    ("podwire_attachment::host_side", IMPURE, "the host side follows from the record alone"),
    ("podwire_attachment::ipam", IMPURE, "addresses are computed; the ledger reads and writes"),
    ("podwire_attachment::names", IMPURE, "names follow from the attachment alone"),
    ("podwire_conf", IMPURE, "no file is opened and no kernel is asked in this crate"),
];
const IMPURE: &[&str] = &[
    "podwire_kernel::Socket",
    "podwire_kernel::netlink::socket::Socket",
    "std::fs",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tracing",
];

/// The folder of the daemon that a file is in; of one beside the folders, its own name.
pub(crate) fn folder(file: &str) -> String {
    let inside = file.strip_prefix("daemon/src/").unwrap_or(file);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs").into()
}

/// The layer that a folder stands in, counted from the top.
pub(crate) fn layer(folder: &str) -> Option<usize> {
    DAEMON.iter().position(|layer| layer.contains(&folder))
}

/// What a layer may import, for a complaint.
pub(crate) fn below(layer: usize) -> String {
    let below: Vec<_> = DAEMON.iter().skip(layer + 1).flat_map(|layer| layer.iter().copied()).collect();
    if below.is_empty() { "crates".into() } else { below.join(", ") }
}
