//! The status as a table for people. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use podwire_conf::shown;
use serde_json::Value;

use crate::observe::status::document::{NetworkPolicy, PeerState, PeerStatus, Reach, RefusedPod, Runtime, Status};
use crate::report::named::Documented;

/// How words are marked: on a terminal by colours, elsewhere not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    /// What is as it should be.
    pub fn good(self, text: &str) -> String {
        self.in_colour(text, "32")
    }

    /// What is not.
    pub fn bad(self, text: &str) -> String {
        self.in_colour(text, "31")
    }

    /// What stands above a table.
    pub fn head(self, text: &str) -> String {
        self.in_colour(text, "1")
    }

    fn in_colour(self, text: &str, code: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

/// The widest cell, in characters: two pod CIDRs of IPv4 and IPv6 fit in.
const WIDEST: usize = 64;

/// The pods that are listed of which policies have refused packets.
const REFUSED_PODS: usize = 10;

fn network_policy(policies: &NetworkPolicy, paint: Paint) -> String {
    let state = if policies.in_force { paint.good("in force") } else { paint.bad("not in force as they are") };
    let refused = |packets: Option<u64>| packets.map_or("?".into(), |packets| packets.to_string());
    let (from, to) = (refused(policies.refused_from_pods), refused(policies.refused_to_pods));
    let (count, pods) = (policies.policies, policies.isolated_pods);
    let of_cluster = match policies.cluster_policies {
        0 => String::new(),
        count => format!(" and {count} of the cluster"),
    };
    format!(
        "{state}: {count} in the cluster{of_cluster}, {pods} pods isolated here; refused {from} packets from pods, {to} to pods"
    )
}

/// The pods that most was refused of.
fn refused_pods(text: &mut String, what: &str, pods: &[RefusedPod], paint: Paint) {
    let rows = pods.iter().take(REFUSED_PODS).map(|refused| {
        let address = || refused.addresses.first().map(ToString::to_string).unwrap_or_default();
        let pod = match (&refused.namespace, &refused.pod) {
            (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
            _ => address(),
        };
        [pod, refused.from_pod.to_string(), refused.to_pod.to_string()].map(Cell::plain).into()
    });
    table(text, &[what, "packets from it", "packets to it"], rows.collect(), paint);
    if pods.len() > REFUSED_PODS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "and {} more pods", pods.len() - REFUSED_PODS);
    }
}

/// The whole of it. Texts are expected to be shown as they are.
pub fn render(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let address = status.address.map_or("not joined".into(), |address| address.to_string());
    let line = |text: &mut String, name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line(&mut text, "node", format!("{}  {address}  podwired {}", paint.head(&status.node), status.version));
    line(&mut text, "pods", joined(&status.pod_cidrs));
    let size = |mtu: Option<u32>| mtu.map_or("unknown".into(), |mtu| mtu.to_string());
    let (mtu, underlay) = (size(status.mtu), size(status.underlay_mtu));
    let overlay =
        format!("{}, VNI {}, UDP port {}, MTU {mtu} (underlay {underlay})", status.mode, status.vni, status.port);
    line(&mut text, "overlay", overlay);
    if !status.fast_path.is_empty() {
        line(&mut text, "fast path", status.fast_path.clone());
    }
    if let Some(policies) = &status.network_policy {
        line(&mut text, "policies", network_policy(policies, paint));
    }
    if let Some(socket) = &status.runtime.socket {
        line(&mut text, "runtime", runtime(socket, &status.runtime));
    }
    let membership = &status.membership;
    let since = duration(membership.age_seconds);
    line(&mut text, "membership", format!("{}: {} nodes, unchanged for {since}", membership.source, membership.nodes));
    let converged = match status.converged {
        true => paint.good("converged"),
        false => paint.bad("not converged"),
    };
    let daemon = &status.daemon;
    let last = daemon.last_pass_age_seconds.map_or("no reconcile yet".into(), |age| {
        format!("last reconcile {age:.1} s ago, took {:.1} ms", daemon.last_pass_seconds * 1e3)
    });
    line(&mut text, "state", format!("{converged}; {last}"));
    let (changes, repairs): (u64, u64) = (daemon.changes.values().sum(), daemon.repairs.values().sum());
    let since = duration(daemon.age_seconds);
    line(
        &mut text,
        "daemon",
        format!("uptime {since}: {} reconciles, {changes} changes, {repairs} repairs", daemon.passes),
    );

    let rows = status.peers.iter().map(|peer| row(peer, paint)).collect();
    table(
        &mut text,
        &["peer", "address", "pod CIDRs", "route", "probes", "round trip", "loss", "path MTU"],
        rows,
        paint,
    );
    let rows = status
        .ranges
        .iter()
        .map(|range| [range.range.to_string(), range.used.to_string(), left(range.free)].map(Cell::plain).into());
    table(&mut text, &["range", "used", "free"], rows.collect(), paint);
    let rows =
        status.guards.iter().map(|(name, packets)| vec![Cell::plain(name.clone()), Cell::plain(packets.to_string())]);
    table(&mut text, &["guard", "packets dropped"], rows.collect(), paint);
    if let Some(policies) = &status.network_policy {
        refused_pods(&mut text, "policies refused", &policies.refused_pods, paint);
        refused_pods(&mut text, "audit would refuse", &policies.audited_pods, paint);
    }
    let rows = status.refused.iter().map(|rejected| {
        let node = if rejected.node.is_empty() { "(the cluster)" } else { &rejected.node };
        vec![Cell::plain(node.into()), Cell::last(rejected.why.clone())]
    });
    table(&mut text, &["rejected", "reason"], rows.collect(), paint);

    text.push('\n');
    match (status.is_ok(), status.wrong.as_slice()) {
        (true, _) => line(&mut text, &paint.good("OK"), "  nothing is wrong".into()),
        (false, []) => line(&mut text, &paint.bad("wrong"), "  waiting for the first full sync".into()),
        (false, wrong) => {
            for sentence in wrong {
                let _ = writeln!(text, "{}  {sentence}", paint.bad("wrong"));
            }
        }
    }
    text
}

fn runtime(socket: &Path, runtime: &Runtime) -> String {
    let name = if runtime.name.is_empty() { String::new() } else { format!("{} at ", runtime.name) };
    let answer = match (&runtime.failure, runtime.sandboxes) {
        (Some(failure), _) => failure.clone(),
        (None, sandboxes) => format!("{} sandboxes", sandboxes.unwrap_or_default()),
    };
    format!("{name}{} ({}): {answer}", socket.display(), runtime.why)
}

/// A word, and how it looks where there are colours.
pub(crate) struct Cell {
    text: String,
    painted: String,
}

impl Cell {
    /// A cell among others: of a long text the beginning, or one row would push all others out of sight.
    pub(crate) fn plain(text: String) -> Self {
        let text = shown::bounded(&text, WIDEST);
        Self { painted: text.clone(), text }
    }

    /// The last cell of a row.
    pub(crate) fn last(text: String) -> Self {
        Self { painted: text.clone(), text }
    }
}

fn row(peer: &PeerStatus, paint: Paint) -> Vec<Cell> {
    let state = |text: &str, painted| Cell { text: text.into(), painted };
    let state = match &peer.state {
        Documented::Known(PeerState::Answers) => state("answers", paint.good("answers")),
        Documented::Known(PeerState::Silent) => state("silent", paint.bad("silent")),
        Documented::Known(PeerState::Unknown) => state("unknown", "unknown".into()),
        Documented::Unknown(newer) => Cell::plain(as_written(newer)),
    };
    let slowest = peer.probes.iter().filter_map(|probe| probe.round_trip_microseconds).max();
    let loss = peer.probes.iter().map(|probe| probe.loss_percent).max();
    vec![
        Cell::plain(peer.name.clone()),
        Cell::plain(peer.address.to_string()),
        Cell::plain(joined(&peer.pod_cidrs)),
        Cell::plain(routes(peer)),
        state,
        Cell::plain(slowest.map_or("-".into(), |took| format!("{}.{:02} ms", took / 1000, took % 1000 / 10))),
        Cell::plain(loss.map_or("-".into(), |loss| format!("{loss} %"))),
        Cell::plain(peer.path_mtu.map_or("-".into(), |mtu| mtu.to_string())),
    ]
}

/// A kind of a newer podwired.
fn as_written(kind: &Value) -> String {
    kind.as_str().map_or_else(|| kind.to_string(), str::to_owned)
}

fn way(reach: &Documented<Reach>) -> String {
    match reach {
        Documented::Known(reach) => reach.to_string(),
        Documented::Unknown(newer) => as_written(newer),
    }
}

/// By what a peer is reached; where that is not the same for both families, by what each.
fn routes(peer: &PeerStatus) -> String {
    let by: BTreeSet<_> = peer.routes.iter().map(|route| way(&route.by)).collect();
    if by.len() < 2 {
        return by.first().map_or("-".into(), ToString::to_string);
    }
    let each: BTreeSet<_> = peer.routes.iter().map(|route| (!route.pod_cidr.is_ipv4(), way(&route.by))).collect();
    let each = each.into_iter().map(|(six, by)| format!("{} {by}", if six { "IPv6" } else { "IPv4" }));
    each.collect::<Vec<_>>().join(", ")
}

/// Rows below their heads; nothing where there are none.
pub(crate) fn table(text: &mut String, heads: &[&str], rows: Vec<Vec<Cell>>, paint: Paint) {
    if rows.is_empty() {
        return;
    }
    let heads = heads.iter().map(|head| Cell { text: (*head).into(), painted: paint.head(head) }).collect();
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.text.chars().count()));
    }
    text.push('\n');
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padding = " ".repeat(width + 2 - cell.text.chars().count());
            line.push_str(&cell.painted);
            line.push_str(&padding);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn joined<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Seconds in the unit that people use.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number of addresses; what is left of an IPv6 range is not worth counting.
fn left(addresses: u64) -> String {
    if addresses > 1_000_000_000 { "plenty".into() } else { addresses.to_string() }
}
