//! A program that runs for ever: started again whenever it has ended, as systemd would, save while somebody holds it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use podwire_tests::lab::kube::Place;

/// How long after a start the next one may be.
const PAUSE: Duration = Duration::from_secs(1);

/// How often is looked who has ended, and who is held.
const LOOK: Duration = Duration::from_millis(50);

/// How a program is started whose words go to a log; its id.
type Start = dyn FnMut(File) -> Result<u32, String>;

/// The program.
pub(crate) struct Service {
    name: String,
    start: Box<Start>,
    log: PathBuf,
    process: PathBuf,
    held: PathBuf,
    running: Option<Pid>,
    started: Option<Instant>,
}

impl Service {
    /// A program that does not run yet; `owner` is the node that it is of, or the control plane.
    pub(crate) fn new(
        place: &Place,
        owner: &str,
        name: &str,
        start: impl FnMut(File) -> Result<u32, String> + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            start: Box::new(start),
            log: place.log(owner, name),
            process: place.process(owner, name),
            held: place.held(owner, name),
            running: None,
            started: None,
        }
    }

    /// A program that is started by the same command each time.
    pub(crate) fn of_command(place: &Place, owner: &str, mut command: Command) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
        Self::new(place, owner, &name, move |log| spawn(&mut command, log))
    }

    /// Starts it if it should run and does not.
    pub(crate) fn keep(&mut self) {
        let due = self.started.is_none_or(|started| started.elapsed() >= PAUSE);
        if self.running.is_some() || !due || self.held.exists() {
            return;
        }
        self.started = Some(Instant::now());
        if let Err(why) = self.try_start() {
            eprintln!("{}: {why}", self.name);
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(&self.log);
        let id = (self.start)(log.map_err(|error| format!("{}: {error}", self.log.display()))?)?;
        self.running = Some(Pid::from_raw(id.cast_signed()));
        write(&self.process, &id.to_string())
    }

    fn ended(&mut self, process: Pid) -> bool {
        if self.running != Some(process) {
            return false;
        }
        self.running = None;
        // Whoever asks who runs is told that nobody does; and it may be gone with its directory.
        let _ = fs::remove_file(&self.process);
        true
    }
}

/// Starts a program where the calling thread is.
pub(crate) fn spawn(command: &mut Command, log: File) -> Result<u32, String> {
    let other = log.try_clone().map_err(|error| error.to_string())?;
    let child = command.stdin(Stdio::null()).stdout(log).stderr(other).spawn();
    child.map(|child| child.id()).map_err(|error| format!("start {}: {error}", command.get_program().display()))
}

/// Keeps the programs running, and takes note of every process whose end nobody else waits for: this is the first process
/// of its namespace. It is never over.
pub(crate) fn keep_all(mut services: Vec<Service>) -> ! {
    loop {
        services.iter_mut().for_each(Service::keep);
        loop {
            let (process, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(process, code)) => (process, format!("exit code {code}")),
                Ok(WaitStatus::Signaled(process, signal, _)) => (process, signal.to_string()),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                _ => continue,
            };
            for service in &mut services {
                if service.ended(process) {
                    eprintln!("{} has ended: {how}", service.name);
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Writes a small file in one step.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    let beside = path.with_extension("new");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| format!("write {}: {error}", path.display()))
}
