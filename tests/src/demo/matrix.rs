//! Who reaches whom: every pod every pod, in both families, by a token over TCP whose source is looked at.

use std::net::IpAddr;
use std::time::Duration;

use podwire_tests::lab::exchange::exchange;
use podwire_tests::lab::host::Host;

use crate::screen::{Ink, Screen, short};

/// One end of the exchanges.
pub(crate) struct End<'a> {
    pub(crate) host: &'a Host,
    /// Its addresses, IPv4 first.
    pub(crate) addresses: &'a [IpAddr],
}

/// The exchanges of one family: a row for each sender.
pub(crate) struct Matrix {
    rows: Vec<Vec<Result<Duration, String>>>,
}

impl Matrix {
    /// Exchanges a token from every end to every end over their addresses of one family. The source that is seen has to
    /// be the sender's own address: nothing is translated.
    pub(crate) fn measure(ends: &[End<'_>], family: usize) -> Self {
        let cell = |from: &End<'_>, to: &End<'_>| reach(from.host, from.addresses[family], to.addresses[family]);
        Self { rows: ends.iter().map(|from| ends.iter().map(|to| cell(from, to)).collect()).collect() }
    }

    /// How many exchanges there were.
    pub(crate) fn count(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    /// What did not work.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.rows.iter().flatten().filter_map(|cell| cell.as_ref().err().cloned()).collect()
    }

    /// The table: round-trip times.
    pub(crate) fn draw(&self, screen: &Screen, names: &[&str]) -> String {
        let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
        let cell = |text: &str| format!("{text:>widest$}");
        let header = names.iter().map(|name| cell(name)).collect::<Vec<_>>().join("  ");
        let mut lines = vec![screen.paint(Ink::Quiet, &format!("  {:widest$}  {header}", "from \\ to"))];
        for (name, row) in names.iter().zip(&self.rows) {
            let cells = row.iter().map(|outcome| match outcome {
                Ok(time) => screen.paint(Ink::Good, &cell(&short(*time))),
                Err(_) => screen.paint(Ink::Bad, &cell("FAILED")),
            });
            lines.push(format!("  {name:widest$}  {}", cells.collect::<Vec<_>>().join("  ")));
        }
        lines.join("\n")
    }
}

/// Exchanges a token, and checks that the other side saw `source`.
pub(crate) fn reach(from: &Host, source: IpAddr, to: IpAddr) -> Result<Duration, String> {
    let exchange = exchange(from, to)?;
    if exchange.seen == source {
        return Ok(exchange.round_trip);
    }
    Err(format!("from {} to {to}: the other side saw {}, not {source}", from.name, exchange.seen))
}
