//! The part of the demo that stays on the machine: it starts the world, and sees to it that the machine is afterwards as
//! it was before.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, process};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, geteuid};
use podwire_tests::lab::{self, program};

use crate::leftovers::{self, Facts};
use crate::screen::Screen;

/// How long a kept world may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the show; with `keep`, returns while the world goes on.
pub(crate) fn run(screen: &Screen, keep: bool) -> Result<(), String> {
    // Ctrl-C ends the world, which is this process's child; this one stays to look at what is left.
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    interrupt.thread_block().map_err(|errno| format!("hold back Ctrl-C: {errno}"))?;

    let directory = Directory::create()?;
    let before = facts()?;
    fs::write(directory.file("before"), lines(&before)).map_err(|error| format!("note what is there: {error}"))?;
    let mut command = Command::new(program("podwire-isolate").map_err(|error| error.to_string())?);
    if keep {
        command.arg("--outlive-parent");
    }
    command.arg(env::current_exe().map_err(|error| format!("find this program: {error}"))?);
    command.arg("--inside").arg(&directory.0);
    if keep {
        command.arg("--keep");
    }
    let mut world = command.spawn().map_err(|error| format!("start podwire-isolate: {error}"))?;
    if keep && wait_kept(&mut world, &directory)? {
        return Ok(());
    }
    let status = world.wait().map_err(|error| format!("wait for the world: {error}"))?;
    directory.remove()?;
    if let Some(code) = status.code().filter(|code| *code != 0) {
        // What was wrong has been said; the machine is looked at all the same.
        leftovers::compare("this machine", &before, &facts()?)?;
        process_exit(code)
    }
    screen.step("this machine is as it was before", || leftovers::compare("this machine", &before, &facts()?))
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
    screen.step("this machine is as it was before", || leftovers::compare("this machine", &before, &facts()?))
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

/// What this machine has of the kinds of things that the demo makes: devices, mounts, files where podwire's are, and
/// processes of this build.
fn facts() -> Result<Facts, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"));
    let devices = read("/proc/self/net/dev")?;
    let mut facts: Facts = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    let mounts = read("/proc/self/mountinfo")?;
    facts.extend(mounts.lines().filter_map(|line| Some(format!("mount {}", line.split_whitespace().nth(4)?))));
    for directory in ["/run", "/run/netns", "/run/podwire", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"] {
        facts.extend(leftovers::entries(Path::new(directory)));
    }
    let own = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let processes = fs::read_dir("/proc").map_err(|error| format!("list /proc: {error}"))?;
    for entry in processes.filter_map(Result::ok).filter(|entry| entry.file_name() != *process::id().to_string()) {
        // A process that ends while it is looked at, or is another user's, has no link that can be read.
        let Ok(program) = fs::read_link(entry.path().join("exe")) else { continue };
        if program.parent() == own.parent() {
            facts.insert(format!("process {} {}", entry.file_name().display(), program.display()));
        }
    }
    Ok(facts)
}

fn lines(facts: &Facts) -> String {
    facts.iter().map(|fact| format!("{fact}\n")).collect()
}

/// The directory in which the world and this process leave word for one another.
struct Directory(PathBuf);

impl Directory {
    fn path() -> PathBuf {
        // The world has a /run of its own, from which it could not leave word in this one.
        let temporary = Some(env::temp_dir()).filter(|path| !path.starts_with("/run"));
        temporary.unwrap_or_else(|| "/tmp".into()).join(format!("podwire-demo-{}", geteuid()))
    }

    fn create() -> Result<Self, String> {
        let path = Self::path();
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::take_over(path),
            Err(error) => Err(format!("create {}: {error}", path.display())),
        }
    }

    /// A demo that was killed leaves its directory behind; one that is up is in the way.
    fn take_over(path: PathBuf) -> Result<Self, String> {
        let metadata = fs::symlink_metadata(&path).map_err(|error| format!("look at {}: {error}", path.display()))?;
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            return Err(format!("{} is in the way, and is not this user's: remove it", path.display()));
        }
        let keeper = fs::read_to_string(path.join("keeper")).ok();
        if keeper.as_deref().and_then(Keeper::parse).is_some_and(|keeper| keeper.lives()) {
            return Err("a cluster is up already: `scripts/demo --down` takes it down".into());
        }
        Self(path).remove()?;
        Self::create()
    }

    fn find() -> Result<Self, String> {
        let path = Self::path();
        if path.is_dir() { Ok(Self(path)) } else { Err("no cluster is up: `scripts/demo --keep` makes one".into()) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn remove(&self) -> Result<(), String> {
        fs::remove_dir_all(&self.0).map_err(|error| format!("remove {}: {error}", self.0.display()))
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
