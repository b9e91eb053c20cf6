//! What the terminal shows of a run with policies, and its picture.

use super::Report;
use super::cut::Whose;
use super::packets::InForce;
use crate::chart::{Bar, Panel, Part, picture};
use crate::statistics::Summary;
use crate::table::{figures, grid, head, verdicts, warnings};

impl Report {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let machine = &self.machine;
        let mut text = head(machine);
        text += &format!("podwired {} ({})\n", machine.podwire, machine.revision);
        text += &warnings(machine, self.quick);
        if !self.cold.is_empty() {
            text += "\nPolicies from nothing: 100 pods of this node, ten pods of the cluster to a policy\n";
            text += &self.cold_table();
        }
        if let Some(change) = &self.change {
            text += &format!(
                "\nOne pod beside {} policies and {} pods: event to in force, ms\n",
                change.policies, change.pods
            );
            let rows = [
                ("it comes, its labels are known", change.known),
                ("it comes, its labels are new", change.new),
                ("it goes", change.gone),
            ];
            text += &summaries(&rows);
        }
        for cut in &self.cut {
            let whose = match cut.whose {
                Whose::Others => "connections of other pods",
                Whose::Refused => "connections that it refuses",
            };
            text += &format!("\nA policy that refuses, beside {} tracked {whose}: from the event, ms\n", cut.flows);
            let rows = [
                ("the last packet of a connection that exists", cut.existing),
                ("the last packet of a new connection", cut.new),
                ("a pod that comes right behind, in force", cut.next),
            ];
            text += &summaries(&rows);
            let [existing, new, next] = cut.slowest_ms.map(figures);
            text += &format!("  slowest: {existing} / {new} / {next}\n");
        }
        if !self.packets.is_empty() {
            text += "\nPackets between two pods of a node that policies allow\n";
            text += &self.packets_table();
        }
        if let Some(attach) = &self.attach {
            text += &format!("\nADD beside {} policies, ms\n", attach.policies);
            let rows =
                [("it does not ask", attach.without), ("it returns once its policies are in force", attach.with)];
            text += &summaries(&rows);
        }
        text += "\nWhat must be\n";
        text + &verdicts(&self.verdicts)
    }

    fn cold_table(&self) -> String {
        let title = ["policies", "pods", "nodes", "in force, s", "elements", "RSS, MB", "peak, MB", "the kernel's, MB"];
        let row = |one: &super::Cold| {
            vec![
                one.policies.to_string(),
                one.pods.to_string(),
                one.nodes.to_string(),
                format!("{:.3}", one.cold_s),
                one.elements.to_string(),
                figures(one.resident_mb),
                figures(one.peak_mb),
                figures(one.kernel_mb),
            ]
        };
        let rows: Vec<_> = [title.map(str::to_owned).to_vec()].into_iter().chain(self.cold.iter().map(row)).collect();
        grid(&rows)
    }

    fn packets_table(&self) -> String {
        let title = ["policies", "fast path", "round trip, µs", "Gbit/s", "connections/s"];
        let row = |one: &super::Packets| {
            let in_force = match one.in_force {
                InForce::None => "none",
                InForce::One => "one",
                InForce::Many => "all",
            };
            let fast_path = if one.fast_path { "on" } else { "off" };
            vec![
                in_force.to_owned(),
                fast_path.to_owned(),
                figures(one.round_trip_us),
                figures(one.gigabits),
                figures(one.connections),
            ]
        };
        let rows = [title.map(str::to_owned).to_vec()].into_iter().chain(self.packets.iter().map(row));
        grid(&rows.collect::<Vec<_>>())
    }

    /// The picture.
    pub(crate) fn chart(&self) -> String {
        let bar = |name: String, value| Bar { name, part: Part::Ours, value: Ok(value), multiple: None };
        let mut panels = Vec::new();
        if !self.cold.is_empty() {
            let bars = self.cold.iter().map(|one| bar(format!("{} policies", one.policies), one.cold_s)).collect();
            panels.push(Panel {
                title: "From the last object to policies in force: shorter is better".into(),
                unit: "s",
                bars,
            });
        }
        if let Some(change) = &self.change {
            let bars = vec![
                bar("labels that are known".into(), change.known.p99_ms),
                bar("labels that are new".into(), change.new.p99_ms),
                bar("it goes".into(), change.gone.p99_ms),
            ];
            panels.push(Panel { title: "One pod, event to in force, p99: shorter is better".into(), unit: "ms", bars });
        }
        let machine = &self.machine;
        let quick = if self.quick { "a quick run that means little · " } else { "" };
        let notes = [
            format!("{quick}podwired {}", machine.podwire),
            format!("Linux {}, {} cores, {}", machine.kernel, machine.cores, machine.date),
        ];
        picture("NetworkPolicies in podwired", &panels, notes)
    }
}

fn summaries(rows: &[(&str, Summary)]) -> String {
    let title = ["", "p50", "p99", "calls"].map(str::to_owned).to_vec();
    let row = |(name, summary): &(&str, Summary)| {
        vec![(*name).to_owned(), figures(summary.p50_ms), figures(summary.p99_ms), summary.calls.to_string()]
    };
    grid(&[title].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>())
}
