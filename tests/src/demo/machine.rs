//! The part of the demo that stays on the machine: it starts the world, and sees to it that the machine is afterwards as
//! it was before.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, process};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, geteuid};
use podwire_tests::lab::{self, program};

use crate::leftovers::{self, Facts};
use crate::screen::Screen;
use crate::show;

/// How long a kept world may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the show; with `keep`, returns while the world goes on.
pub(crate) fn run(screen: &Screen, keep: bool) -> Result<(), String> {
    let directory = Directory::create()?;
    let before = facts()?;
    fs::write(directory.file("before"), lines(&before)).map_err(|error| format!("note what is there: {error}"))?;
    let mut command = Command::new(program("podwire-isolate").map_err(|error| error.to_string())?);
    if keep {
        command.arg("--outlive-parent");
    }
    command.arg(env::current_exe().map_err(|error| format!("find this program: {error}"))?);
    command.arg("--inside").arg(&directory.path);
    if keep {
        command.arg("--keep");
    }
    // Held back before there is another thread, and before the world is there.
    let mut ends = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        ends.add(signal);
    }
    ends.thread_block().map_err(|errno| format!("hold back Ctrl-C: {errno}"))?;
    let mut world = command.spawn().map_err(|error| format!("start podwire-isolate: {error}"))?;
    end_world_on(ends, world.id());
    if keep && wait_kept(&mut world, &directory)? {
        return Ok(());
    }
    let status = world.wait().map_err(|error| format!("wait for the world: {error}"))?;
    directory.remove()?;
    // A world that was ended takes a moment to go.
    let as_before = || lab::eventually(PATIENCE, || leftovers::compare("this machine", &before, &facts()?));
    if status.success() {
        return screen.step("this machine is as it was before", as_before);
    }
    as_before()?;
    // What was wrong has been said.
    process_exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Ends the world when this process is told to end; it stays itself, to see what is left.
fn end_world_on(ends: SigSet, world: u32) {
    std::thread::spawn(move || {
        let id = i32::try_from(world).map(Pid::from_raw);
        if let (Ok(signal), Ok(id)) = (ends.wait(), id) {
            // It may have ended by itself meanwhile, by the same Ctrl-C.
            let _ = kill(id, signal);
        }
    });
}

/// Ends a world that was kept.
pub(crate) fn take_down(screen: &Screen) -> Result<(), String> {
    let directory = Directory::find()?;
    let read = |name| fs::read_to_string(directory.file(name));
    let (Ok(keeper), Ok(before)) = (read("keeper"), read("before")) else {
        directory.remove()?;
        return Err("the last `scripts/demo --keep` did not come to its end: there is nothing to take down".into());
    };
    let keeper = Keeper::parse(&keeper).ok_or_else(|| format!("{} is damaged", directory.file("keeper").display()))?;
    let end = || {
        if keeper.lives() {
            kill(Pid::from_raw(keeper.id), Signal::SIGTERM).map_err(|errno| format!("end {}: {errno}", keeper.id))?;
        }
        lab::eventually(
            PATIENCE,
            || if keeper.lives() { Err(format!("process {} goes on", keeper.id)) } else { Ok(()) },
        )
    };
    screen.step("the cluster is taken down", end)?;
    let result = read("result");
    directory.remove()?;
    match result.as_deref() {
        Ok("ok") => {}
        Ok(why) => return Err(why.to_owned()),
        Err(_) => screen.line("  the cluster had ended by itself"),
    }
    let before = before.lines().map(str::to_owned).collect();
    let as_before = || lab::eventually(PATIENCE, || leftovers::compare("this machine", &before, &facts()?));
    screen.step("this machine is as it was before", as_before)
}

/// Waits until the world is ready to be left alone; `false` when it ended instead.
fn wait_kept(world: &mut Child, directory: &Directory) -> Result<bool, String> {
    loop {
        if directory.file("keeper").exists() {
            return Ok(true);
        }
        if world.try_wait().map_err(|error| format!("wait for the world: {error}"))?.is_some() {
            return Ok(false);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What this machine has of the things that the demo makes, by the names that it gives them: devices, mounts, files,
/// and this user's processes of this build. What others do on the machine meanwhile is no business of the demo's.
fn facts() -> Result<Facts, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"));
    let mut facts = Facts::new();
    for line in read("/proc/self/net/dev")?.lines() {
        let device = line.split(':').next().unwrap_or_default().trim();
        if ["pw", "podwire", "to-", "underlay"].iter().any(|ours| device.starts_with(ours)) {
            facts.insert(format!("device {device}"));
        }
    }
    for line in read("/proc/self/mountinfo")?.lines() {
        let place = line.split_whitespace().nth(4).unwrap_or_default();
        if ["/run/lab", "/run/machine", "/run/netns/"].iter().any(|ours| place.starts_with(ours)) {
            facts.insert(format!("mount {place}"));
        }
    }
    let ours =
        ["/run/lab", "/run/machine", "/run/podwire", "/etc/cni/net.d/10-podwire.conflist", "/opt/cni/bin/podwire"];
    let netns = show::PODS.into_iter().flatten().map(|name| format!("/run/netns/{name}"));
    let files = ours.iter().map(|path| (*path).to_owned()).chain(netns);
    facts.extend(files.filter(|path| Path::new(path).exists()));
    let own = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let processes = fs::read_dir("/proc").map_err(|error| format!("list /proc: {error}"))?;
    for entry in processes.filter_map(Result::ok).filter(|entry| entry.file_name() != *process::id().to_string()) {
        // A process that ends while it is looked at, or is another user's, has no link that can be read.
        let Ok(program) = fs::read_link(entry.path().join("exe")) else { continue };
        let this_users = entry.metadata().is_ok_and(|data| data.uid() == geteuid().as_raw());
        if this_users && program.parent() == own.parent() {
            facts.insert(format!("process {} {}", entry.file_name().display(), program.display()));
        }
    }
    Ok(facts)
}

fn lines(facts: &Facts) -> String {
    facts.iter().map(|fact| format!("{fact}\n")).collect()
}

/// The directory in which the world and this process leave word for one another. Of one user it is used by one at a
/// time.
struct Directory {
    path: PathBuf,
    _used: Flock<File>,
}

impl Directory {
    fn place() -> PathBuf {
        // The world has a /run of its own, from which it could not leave word in this one.
        let temporary = fs::canonicalize(env::temp_dir()).ok().filter(|path| !path.starts_with("/run"));
        temporary.unwrap_or_else(|| "/tmp".into()).join(format!("podwire-demo-{}", geteuid()))
    }

    /// Makes the directory, or takes over what a demo that was killed has left. One that is up is in the way.
    fn create() -> Result<Self, String> {
        let path = Self::place();
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(format!("create {}: {error}", path.display()));
            }
            _ => {}
        }
        let directory = Self::hold(path)?;
        let keeper = fs::read_to_string(directory.file("keeper")).ok();
        if keeper.as_deref().and_then(Keeper::parse).is_some_and(|keeper| keeper.lives()) {
            return Err("a cluster is up already: `scripts/demo --down` takes it down".into());
        }
        for name in ["keeper", "before", "result"] {
            match fs::remove_file(directory.file(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(format!("remove {name}: {error}")),
                _ => {}
            }
        }
        Ok(directory)
    }

    fn find() -> Result<Self, String> {
        let path = Self::place();
        match path.is_dir() {
            true => Self::hold(path),
            false => Err("no cluster is up: `scripts/demo --keep` makes one".into()),
        }
    }

    /// Nobody but this user may have a say in what is read here, and nobody else uses it meanwhile.
    fn hold(path: PathBuf) -> Result<Self, String> {
        let metadata = fs::symlink_metadata(&path).map_err(|error| format!("look at {}: {error}", path.display()))?;
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            return Err(format!("{} is in the way, and is not this user's: remove it", path.display()));
        }
        let file = File::open(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(used) => Ok(Self { path, _used: used }),
            Err(_) => Err("another demo of this user is being played: wait for its end".into()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn remove(&self) -> Result<(), String> {
        fs::remove_dir_all(&self.path).map_err(|error| format!("remove {}: {error}", self.path.display()))
    }
}

/// The first process of a kept world: its id, and when it was started, so that another with the same id is not taken
/// for it.
struct Keeper {
    id: i32,
    started: String,
}

impl Keeper {
    fn parse(text: &str) -> Option<Self> {
        let id = text.trim().split_once(' ')?;
        Some(Self { id: id.0.parse().ok()?, started: id.1.into() })
    }

    fn lives(&self) -> bool {
        started(u32::try_from(self.id).unwrap_or_default()).is_some_and(|started| started == self.started)
    }
}

/// When a process was started, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)); the name before it is in
/// parentheses and may contain anything.
pub(crate) fn started(id: u32) -> Option<String> {
    started_at(&PathBuf::from("/proc").join(id.to_string()))
}

/// As [`started`], of a process's directory; `None` as well for one that has ended and is not yet buried.
pub(crate) fn started_at(directory: &Path) -> Option<String> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") { None } else { fields.get(19).map(|field| (*field).to_owned()) }
}

#[expect(clippy::exit, reason = "the world's own exit code is this program's")]
fn process_exit(code: i32) -> ! {
    process::exit(code)
}
