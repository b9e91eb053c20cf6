//! podwired as it runs on a host of the bench. It says a line for each change, of which there are very many: only those
//! that the bench asks for are kept.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::{Host, SHARED};

use super::plan;

/// How long the daemon may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the kept lines contain.
const KEPT: [&str; 7] = [
    " starts",
    "ready: ",
    "the membership has changed",
    "the policies are in force",
    "ingress-subjects4 +",
    "WARN",
    "ERROR",
];

/// The length of a tick of `/proc/PID/stat`: 100 a second on every architecture that counts.
const TICK: Duration = Duration::from_millis(10);

/// A running daemon; it ends with this.
#[derive(Debug)]
pub(crate) struct Podwired {
    child: Child,
    lines: Receiver<(Instant, String)>,
    /// When its process was asked for.
    pub(crate) begun: Instant,
}

/// The memory of a process, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// Now.
    pub(crate) now: u64,
    /// At its peak.
    pub(crate) peak: u64,
}

impl Podwired {
    /// Starts it on a host, as the node with this number.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub(crate) fn start(program: &Path, host: &Host, number: u32) -> Result<Self, String> {
        Self::start_with(program, host, number, "")
    }

    /// Starts it so, with the text of a settings file.
    ///
    /// # Errors
    /// As with [`Podwired::start`], and when the file cannot be written.
    pub(crate) fn start_with(program: &Path, host: &Host, number: u32, settings: &str) -> Result<Self, String> {
        let nodes: PathBuf = [SHARED, plan::FILE].iter().collect();
        Self::launch(program, host, &plan::name(number), settings, |command| command.arg("--nodes").arg(nodes))
    }

    /// Starts it as a node that follows an API.
    ///
    /// # Errors
    /// As with [`Podwired::start_with`].
    pub(crate) fn start_following(
        program: &Path,
        host: &Host,
        node: &str,
        settings: &str,
        kubeconfig: &str,
    ) -> Result<Self, String> {
        let follow = ["--kubernetes", "--kubeconfig", kubeconfig, "--state-directory", "/run/state"];
        Self::launch(program, host, node, settings, |command| command.args(follow))
    }

    fn launch(
        program: &Path,
        host: &Host,
        node: &str,
        settings: &str,
        source: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self, String> {
        const SETTINGS: &str = "/run/settings.toml";
        host.enter(|| fs::write(SETTINGS, settings)).map_err(|error| format!("write {SETTINGS}: {error}"))?;
        let mut command = Command::new(program);
        command.args(["run", "--settings", SETTINGS, "--node-name", node]);
        source(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child =
            host.enter(|| command.spawn()).map_err(|error| format!("start {}: {error}", program.display()))?;
        let stream = child.stderr.take().ok_or("podwired has no standard error")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::with_capacity(256 * 1024, stream).lines().map_while(Result::ok) {
                let kept = KEPT.iter().any(|kept| line.contains(kept));
                // Nobody listens any more: it is read on, or the daemon would wait.
                let _ = kept.then(|| sender.send((Instant::now(), line)));
            }
        });
        Ok(Self { child, lines, begun })
    }

    /// Waits for a kept line that contains `text`: when it was heard, and the line.
    ///
    /// # Errors
    /// When it does not come, with what came instead.
    pub(crate) fn wait_for(&self, text: &str) -> Result<(Instant, String), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut instead = Vec::new();
        while let Ok((when, line)) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return Ok((when, line));
            }
            instead.push(line);
        }
        Err(format!("podwired did not say {text:?}; it said:\n{}", instead.join("\n")))
    }

    /// The kept lines since the last look.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.try_iter().map(|(_, line)| line).collect()
    }

    /// Its memory: `VmRSS` and `VmHWM` of proc(5).
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn weight(&self) -> Result<Weight, String> {
        let status = self.proc("status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let weight = || Some(Weight { now: field("VmRSS:")?, peak: field("VmHWM:")? });
        weight().ok_or_else(|| format!("no memory in {status}"))
    }

    /// The processor time that it has taken so far, threads that have ended included.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn processor_time(&self) -> Result<Duration, String> {
        let stat = self.proc("stat")?;
        // Behind the name, which may contain anything: the state is field 3, and utime and stime are 14 and 15 (proc(5)).
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).ok_or("no fields in stat")?;
        let ticks: Vec<u32> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        Ok(TICK * ticks.iter().sum::<u32>())
    }

    fn proc(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))
    }
}

impl Drop for Podwired {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
