//! Who reaches whom: every pod every pod, in both families, by a token over TCP whose source is looked at; and who
//! is not to reach whom.

use std::net::IpAddr;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use podwire_tests::lab::exchange::{exchange, is_dropped};
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
    rows: Vec<Vec<Cell>>,
}

/// What became of one exchange.
enum Cell {
    /// The token came back, after this time.
    Passed(Duration),
    /// Nothing came back, as it should be.
    Refused,
    /// It was otherwise than it should be.
    Failed(String),
}

impl Matrix {
    /// Exchanges a token from every end to every end over their addresses of one family. The source that is seen has to
    /// be the sender's own address: nothing is translated. What is to be refused, by the names of both ends, has to get no answer.
    pub(crate) fn measure(ends: &[End<'_>], family: usize, is_refused: fn(&str, &str) -> bool) -> Self {
        let refused = |from: &End<'_>, to: &End<'_>| is_refused(&from.host.name, &to.host.name);
        // No answer is waited for at once everywhere, since it takes its time; what passes is measured one after another.
        let unanswered: Vec<Vec<Option<Cell>>> = thread::scope(|scope| {
            let wait = |from: &End<'_>, to: &End<'_>| {
                let (host, address) = (from.host.clone(), to.addresses[family]);
                refused(from, to).then(|| {
                    scope.spawn(move || is_dropped(&host, address).map_or_else(Cell::Failed, |()| Cell::Refused))
                })
            };
            let rows: Vec<Vec<_>> = ends.iter().map(|from| ends.iter().map(|to| wait(from, to)).collect()).collect();
            let panicked = |_| Cell::Failed("a thread of the demo has panicked".into());
            let join = |cell: Option<ScopedJoinHandle<'_, Cell>>| cell.map(|cell| cell.join().unwrap_or_else(panicked));
            rows.into_iter().map(|row| row.into_iter().map(join).collect()).collect()
        });
        let exchanged = |from: &End<'_>, to: &End<'_>| {
            let time = reach(from.host, from.addresses[family], to.addresses[family]);
            time.map_or_else(Cell::Failed, Cell::Passed)
        };
        let row = |(from, row): (&End<'_>, Vec<Option<Cell>>)| {
            ends.iter().zip(row).map(|(to, cell)| cell.unwrap_or_else(|| exchanged(from, to))).collect()
        };
        Self { rows: ends.iter().zip(unanswered).map(row).collect() }
    }

    /// How many exchanges there were.
    pub(crate) fn count(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    /// How many of them were refused, as they should be.
    pub(crate) fn refused(&self) -> usize {
        self.rows.iter().flatten().filter(|cell| matches!(cell, Cell::Refused)).count()
    }

    /// What was otherwise than it should be.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |cell: &Cell| match cell {
            Cell::Failed(why) => Some(why.clone()),
            Cell::Passed(_) | Cell::Refused => None,
        };
        self.rows.iter().flatten().filter_map(failed).collect()
    }

    /// The table: round-trip times.
    pub(crate) fn draw(&self, screen: &Screen, names: &[&str]) -> String {
        let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
        let cell = |text: &str| format!("{text:>widest$}");
        let header = names.iter().map(|name| cell(name)).collect::<Vec<_>>().join("  ");
        let mut lines = vec![screen.paint(Ink::Quiet, &format!("  {:widest$}  {header}", "from \\ to"))];
        for (name, row) in names.iter().zip(&self.rows) {
            let cells = row.iter().map(|outcome| match outcome {
                Cell::Passed(time) => screen.paint(Ink::Good, &cell(&short(*time))),
                Cell::Refused => screen.paint(Ink::Strong, &cell("refused")),
                Cell::Failed(_) => screen.paint(Ink::Bad, &cell("FAILED")),
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
