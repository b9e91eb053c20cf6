//! What pods tell one another, as values: whom one has seen, and a row of the matrix. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::arguments::Serve;

/// The answer to a question: who answers, and whom it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The name of the pod that answers.
    pub(crate) pod: String,
    /// Its node.
    pub(crate) node: String,
    /// The source address of the question.
    pub(crate) seen: IpAddr,
}

/// What a pod has seen in its last round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The pod's name.
    pub(crate) pod: String,
    /// Its node.
    pub(crate) node: String,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Why there is no whole row: the fellows are not known. Empty where they are.
    pub(crate) trouble: String,
    /// One for each address of a fellow, its own among them, in their order.
    pub(crate) cells: Vec<Cell>,
}

/// What has become of one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Whom it went to.
    pub(crate) address: IpAddr,
    /// Who answered: pod and node; empty where nobody did.
    pub(crate) pod: String,
    pub(crate) node: String,
    /// From the question to the answer, the connection standing, in microseconds.
    pub(crate) microseconds: u64,
    /// What is wrong; empty where nothing is.
    pub(crate) trouble: String,
}

impl Row {
    /// Before the first round.
    pub(crate) fn first(serve: &Serve) -> Self {
        let (pod, node, addresses) = (serve.pod.clone(), serve.node.clone(), serve.addresses.clone());
        Self { pod, node, addresses, trouble: "the first round is not over".into(), cells: Vec::new() }
    }

    /// What is wrong, in sentences; nothing where all fellows were reached, and this pod is one of them.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let from = |trouble: &String| format!("{} ({}): {trouble}", self.pod, self.node);
        let known = |address: &&IpAddr| !self.cells.iter().any(|cell| cell.address == **address);
        let missing = self.addresses.iter().filter(known).map(|address| format!("nobody finds its address {address}"));
        let whole = self.trouble.is_empty();
        let said = (!whole).then(|| self.trouble.clone()).into_iter().chain(missing.filter(|_| whole));
        let cells = self.cells.iter().map(|cell| &cell.trouble).filter(|trouble| !trouble.is_empty());
        said.chain(cells.cloned()).map(|trouble| from(&trouble)).collect()
    }
}

impl Cell {
    /// What an answer means: the fellow has to have seen the address that this pod has in that family.
    pub(crate) fn answered(address: IpAddr, own: &[IpAddr], seen: &Seen, microseconds: u64) -> Self {
        let trouble = match own.contains(&seen.seen) {
            true => String::new(),
            false => format!("{} ({address}) saw {}, which is not this pod's address", seen.pod, seen.seen),
        };
        Self { address, pod: seen.pod.clone(), node: seen.node.clone(), microseconds, trouble }
    }

    /// A question without an answer.
    pub(crate) fn unanswered(address: IpAddr, why: &str) -> Self {
        let trouble = format!("{address}: {why}");
        Self { address, pod: String::new(), node: String::new(), microseconds: 0, trouble }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(address: &str) -> Seen {
        Seen { pod: "b".into(), node: "n".into(), seen: address.parse().unwrap() }
    }

    #[test]
    fn an_answer_to_another_address_than_the_pods_own_is_trouble() {
        let (own, to) = (["10.244.1.2".parse().unwrap()], "10.244.2.2".parse().unwrap());
        assert_eq!(Cell::answered(to, &own, &seen("10.244.1.2"), 7).trouble, "");
        let trouble = Cell::answered(to, &own, &seen("192.168.50.1"), 7).trouble;
        assert_eq!(trouble, "b (10.244.2.2) saw 192.168.50.1, which is not this pod's address");
    }

    #[test]
    fn a_pod_that_nobody_finds_and_a_row_that_is_not_whole_are_trouble() {
        let own: IpAddr = "10.244.1.2".parse().unwrap();
        let cell = Cell::answered(own, &[own], &seen("10.244.1.2"), 7);
        let mut row =
            Row { pod: "a".into(), node: "n".into(), addresses: vec![own], trouble: String::new(), cells: vec![cell] };
        assert_eq!(row.troubles(), Vec::<String>::new());
        row.addresses.push("fd00::2".parse().unwrap());
        assert_eq!(row.troubles(), ["a (n): nobody finds its address fd00::2"]);
        row.cells.push(Cell::unanswered("10.244.3.9".parse().unwrap(), "no route"));
        assert_eq!(row.troubles()[1], "a (n): 10.244.3.9: no route");
        row.trouble = "resolve fellows: no answer".into();
        assert_eq!(row.troubles()[0], "a (n): resolve fellows: no answer");
    }
}
