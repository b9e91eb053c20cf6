//! The rows of all pods as one table: who reaches whom.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ask;
use crate::row::{Cell, Row};

/// The rows of all pods that could be asked, ordered by node and pod, and what is wrong beside what they say.
pub(crate) struct Matrix {
    rows: Vec<Row>,
    unasked: Vec<String>,
}

impl Matrix {
    /// Asks each fellow that has answered in the last round for its row.
    pub(crate) async fn gather(own: Row, port: u16) -> Self {
        let mut fellows: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
        for cell in own.cells.iter().filter(|cell| !cell.pod.is_empty() && cell.pod != own.pod) {
            fellows.entry(&cell.pod).or_default().push(SocketAddr::new(cell.address, port));
        }
        let mut questions = JoinSet::new();
        for (pod, addresses) in fellows {
            questions.spawn(row_of(pod.to_owned(), addresses));
        }
        let mut matrix = Self { rows: vec![own], unasked: Vec::new() };
        for answer in questions.join_all().await {
            match answer {
                Ok(row) => matrix.rows.push(row),
                Err(why) => matrix.unasked.push(why),
            }
        }
        matrix.sort();
        matrix
    }

    fn sort(&mut self) {
        self.rows.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
        self.unasked.sort();
    }

    /// What is wrong, in sentences.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.unasked.iter().cloned().chain(self.rows.iter().flat_map(Row::troubles)).collect()
    }

    /// The cell from one pod to another's address of one family.
    fn cell(from: &Row, to: &Row, ipv4: bool) -> Option<Cell> {
        let address = to.addresses.iter().find(|address| address.is_ipv4() == ipv4)?;
        let asked = from.cells.iter().find(|cell| cell.address == *address).cloned();
        Some(asked.unwrap_or_else(|| Cell::unanswered(*address, "it was not asked")))
    }

    /// The table of each family, and what is wrong.
    pub(crate) fn draw(&self) -> String {
        let mut text = String::new();
        let widest = self.rows.iter().flat_map(|row| [row.pod.chars().count(), row.node.chars().count()]).max();
        let widest = widest.unwrap_or(0).max(9);
        for (ipv4, family) in [(true, "IPv4"), (false, "IPv6")] {
            if !self.rows.iter().flat_map(|row| &row.addresses).any(|address| address.is_ipv4() == ipv4) {
                continue;
            }
            let heads: String = self.rows.iter().map(|row| format!("  {:>widest$}", row.pod)).collect();
            let nodes: String = self.rows.iter().map(|row| format!("  {:>widest$}", row.node)).collect();
            text += &format!("{family}: a question over TCP and its answer\n");
            text += &format!("  {:widest$}{nodes}\n  {:widest$}{heads}\n", "", "from \\ to");
            let (mut good, mut all) = (0, 0);
            for from in &self.rows {
                text += &format!("  {:widest$}", from.pod);
                for to in &self.rows {
                    let said = match Self::cell(from, to, ipv4) {
                        None => "-".into(),
                        Some(cell) => {
                            all += 1;
                            good += usize::from(cell.trouble.is_empty());
                            if cell.trouble.is_empty() { format!("{} µs", cell.microseconds) } else { "FAILED".into() }
                        }
                    };
                    text += &format!("  {said:>widest$}");
                }
                text += "\n";
            }
            text += &format!("  {good} of {all}\n\n");
        }
        let troubles = self.troubles();
        text += &match troubles.as_slice() {
            [] => {
                format!("ok: each of {} pods reaches all, and is seen under its own address: no NAT\n", self.rows.len())
            }
            some => some.iter().map(|trouble| format!("FAILED {trouble}\n")).collect(),
        };
        text
    }

    /// The same for programs.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn json(&self) -> io::Result<String> {
        let troubles = self.troubles();
        let document =
            json!({"ok": troubles.is_empty(), "pods": self.rows.len(), "troubles": troubles, "rows": self.rows});
        Ok(serde_json::to_string(&document)?)
    }

    /// What a change is told by: all but the times.
    fn gist(&self) -> (Vec<(String, Vec<IpAddr>)>, Vec<String>) {
        (self.rows.iter().map(|row| (row.pod.clone(), row.addresses.clone())).collect(), self.troubles())
    }
}

/// Asks a fellow for its row, by whichever of its addresses answers.
async fn row_of(pod: String, addresses: Vec<SocketAddr>) -> Result<Row, String> {
    let mut why = String::new();
    for address in addresses {
        let answer = ask::get(address, "/row", ask::PATIENCE).await;
        match answer.and_then(|(_, body)| serde_json::from_slice(&body).map_err(|error| error.to_string())) {
            Ok(row) => return Ok(row),
            Err(error) => why = format!("{pod}: ask {address} for its row: {error}"),
        }
    }
    Err(why)
}

/// Writes the matrix to standard output whenever it says something else.
pub(crate) async fn tell_changes(mut row: watch::Receiver<Row>, port: u16) -> Infallible {
    let mut told = None;
    loop {
        if row.changed().await.is_err() {
            // Whoever has the rounds made has ended, and so does the program.
            return std::future::pending().await;
        }
        let own = row.borrow_and_update().clone();
        let matrix = Matrix::gather(own, port).await;
        let gist = matrix.gist();
        if told.as_ref() != Some(&gist) {
            // When standard output is closed there are still the pages.
            let _ = io::stdout().lock().write_all(format!("{}\n", matrix.draw()).as_bytes());
            told = Some(gist);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Seen;

    /// A pod's row: it reaches the addresses given, and sees itself as the first one.
    fn row(pod: &str, own: &str, reached: &[&str]) -> Row {
        let own: IpAddr = own.parse().unwrap();
        let answered = |address: &&str| {
            let seen = Seen { pod: "x".into(), node: "n".into(), seen: own };
            Cell::answered(address.parse().unwrap(), &[own], &seen, 42)
        };
        let cells = reached.iter().map(answered).collect();
        Row { pod: pod.into(), node: format!("node-{pod}"), addresses: vec![own], trouble: String::new(), cells }
    }

    #[test]
    fn a_matrix_in_which_all_reach_all_says_so() {
        let both = ["10.0.1.2", "10.0.2.2"];
        let mut matrix = Matrix { rows: vec![row("b", both[1], &both), row("a", both[0], &both)], unasked: Vec::new() };
        matrix.sort();
        let text = matrix.draw();
        assert!(text.contains("4 of 4") && text.contains("ok: each of 2 pods reaches all"), "{text}");
        assert!(!text.contains("IPv6") && !text.contains("FAILED"), "{text}");
        let rows: Vec<_> = text.lines().filter(|line| line.contains("42 µs")).collect();
        assert!(rows[0].starts_with("  a") && rows[1].starts_with("  b"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&matrix.json().unwrap()).unwrap()["ok"], true);
    }

    #[test]
    fn whoever_is_not_asked_or_does_not_answer_is_a_failure() {
        let mut one = row("a", "10.0.1.2", &["10.0.1.2"]);
        one.cells.push(Cell::unanswered("10.0.2.2".parse().unwrap(), "no answer within 4 s"));
        let other = row("b", "10.0.2.2", &["10.0.2.2"]);
        let matrix = Matrix { rows: vec![one, other], unasked: vec!["c: ask 10.0.3.2:8080 for its row: no".into()] };
        let text = matrix.draw();
        assert!(text.contains("2 of 4"), "{text}");
        assert!(text.contains("FAILED a (node-a): 10.0.2.2: no answer within 4 s"), "{text}");
        assert!(text.contains("FAILED c: ask 10.0.3.2:8080 for its row: no"), "{text}");
        assert_eq!(text.matches("  FAILED").count(), 2, "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&matrix.json().unwrap()).unwrap()["ok"], false);
    }
}
