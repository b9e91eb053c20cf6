//! What the plugin asks the daemon, and how the answer reads: one line each over the status socket.
//!
//! What may not live here: the socket itself, and the questions of people, which only the daemon's own commands ask.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How the question begins whether the policies of an attachment's addresses are in force; the addresses stand behind it.
pub const ATTACHED: &str = "attached";

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Whether they are in force, or none are to be.
    pub in_force: bool,
    /// Why they are not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The question about these addresses.
pub fn attached(addresses: &[IpAddr]) -> String {
    addresses.iter().fold(ATTACHED.to_owned(), |question, address| format!("{question} {address}"))
}

/// The addresses of the question; `None` where it is another one, or has none.
pub fn addresses(question: &str) -> Option<Vec<IpAddr>> {
    let addresses = question.strip_prefix(ATTACHED)?.strip_prefix(' ')?;
    addresses.split(' ').map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_reads_what_the_plugin_asks_and_nothing_else() {
        let both: [IpAddr; 2] = ["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(addresses(&attached(&both)).as_deref(), Some(&both[..]));
        for other in
            ["status", "attached", "attached ", "attached 10.244.1", "attached 10.0.0.1 ", "attachedx 10.0.0.1"]
        {
            assert_eq!(addresses(other), None, "{other}");
        }
    }

    #[test]
    fn an_answer_of_another_version_is_not_taken_for_in_force() {
        let read = |text| serde_json::from_str::<Answer>(text).unwrap();
        assert!(!read("{}").in_force && !read("{\"error\":\"no question\"}").in_force);
        let refused = Answer { in_force: false, refused: Some("they are being changed".into()) };
        assert_eq!(read(&serde_json::to_string(&refused).unwrap()), refused);
    }
}
