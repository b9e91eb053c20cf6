//! A round: who the fellows are, and what each of them answers.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::Serve;
use crate::ask;
use crate::row::{Cell, Row, Seen};

/// One round after the other, for ever.
pub(crate) async fn again_and_again(serve: &Serve, row: &watch::Sender<Row>) -> Infallible {
    let mut ticks = interval(Duration::from_millis(serve.every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (trouble, cells) = match fellows(serve).await {
            Ok(fellows) => (String::new(), all(&fellows, serve).await),
            Err(why) => (why, Vec::new()),
        };
        row.send_modify(|row| (row.trouble, row.cells) = (trouble, cells));
    }
}

/// The addresses that the name resolves to.
async fn fellows(serve: &Serve) -> Result<BTreeSet<SocketAddr>, String> {
    let found = lookup_host((serve.name.as_str(), serve.port)).await;
    let found: BTreeSet<_> = found.map_err(|error| format!("resolve {}: {error}", serve.name))?.collect();
    if found.is_empty() { Err(format!("resolve {}: no address", serve.name)) } else { Ok(found) }
}

/// Asks all of them at once.
async fn all(fellows: &BTreeSet<SocketAddr>, serve: &Serve) -> Vec<Cell> {
    let mut questions = JoinSet::new();
    for fellow in fellows {
        questions.spawn(one(*fellow, serve.addresses.clone()));
    }
    let mut cells = questions.join_all().await;
    cells.sort_by_key(|cell| cell.address);
    cells
}

async fn one(fellow: SocketAddr, own: Vec<IpAddr>) -> Cell {
    let address = fellow.ip();
    let (body, took) = match ask::timed(fellow, "/seen", ask::PATIENCE).await {
        Ok((status, body, took)) if status.is_success() => (body, took),
        Ok((status, ..)) => return Cell::unanswered(address, &format!("it answered with {status}")),
        Err(why) => return Cell::unanswered(address, &why),
    };
    match serde_json::from_slice::<Seen>(&body) {
        Ok(seen) => Cell::answered(address, &own, &seen, took.as_micros().try_into().unwrap_or(u64::MAX)),
        Err(error) => Cell::unanswered(address, &format!("its answer is not a fellow's: {error}")),
    }
}
