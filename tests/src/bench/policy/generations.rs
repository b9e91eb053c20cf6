//! When a transaction of nftables is committed, by its number. Who listens instead (`commits`) has the kernel make a message for each
//! element, which is part of the transaction's time.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use podwire_kernel::{Socket, nft};
use podwire_tests::lab::host::Host;

/// Between two looks: a thousandth of what is measured would be too much work for one of two cores.
const AGAIN: Duration = Duration::from_micros(20);

/// A thread that sleeps may be woken so much later, in nanoseconds.
const SLACK: u64 = 1_000;

/// How long something may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The transactions of a host, and the last one that was waited for.
pub(crate) struct Generations(Socket, Option<u32>);

impl Generations {
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn of(host: &Host) -> Result<Self, String> {
        prctl::set_timerslack(SLACK).map_err(|error| format!("set the timer slack: {error}"))?;
        let socket = host.enter(Socket::netfilter);
        socket.map(|socket| Self(socket, None)).map_err(|error| format!("ask for nftables on {}: {error}", host.name))
    }

    /// The last one, which is the one that was waited for: a change that comes in two is not in force with the first.
    ///
    /// # Errors
    /// When there was another.
    pub(crate) fn quiet(&mut self) -> Result<u32, String> {
        let last = self.last()?;
        match self.1.is_none_or(|waited_for| waited_for == last) {
            true => Ok(last),
            false => Err(format!("transaction {last} came behind the one that was measured, {:?}", self.1)),
        }
    }

    fn last(&mut self) -> Result<u32, String> {
        nft::current_generation(&mut self.0).map_err(|error| error.to_string())
    }

    /// When it is seen that there was one after this.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn wait_after(&mut self, generation: u32) -> Result<Instant, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.last()?;
            if last != generation {
                self.1 = Some(last);
                return Ok(Instant::now());
            }
            if Instant::now() > deadline {
                return Err(format!("nothing was committed within {PATIENCE:?}"));
            }
            thread::sleep(AGAIN);
        }
    }
}
