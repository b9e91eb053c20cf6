//! `podwire-isolate PROGRAM [ARGUMENT …]` runs a program in a world of its own: user (where needed), network, mount and
//! process namespaces, with an empty /run. When the program or this process ends, whatever way, everything that was
//! started in that world ends with it. Works as root, and without root where user namespaces are allowed.
//!
//! With `--outlive-parent` before PROGRAM the world stays when whoever started it ends. In the world the machine's own
//! /proc is at /run/machine/proc, so that a program can tell a human its process id outside.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getegid, geteuid, setsid};

/// Set in the world, to `user` where it has a user namespace of its own, else to `root`.
const INSIDE: &str = "PODWIRE_ISOLATED";

/// The process that started the world, as the machine knows it. One that died before its child could bind itself to it is
/// noticed by this.
const PARENT: &str = "PODWIRE_ISOLATED_BY";

/// Where the machine's own /proc is in the world.
const MACHINE_PROC: &str = "/run/machine/proc";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let outlive = arguments.first().is_some_and(|argument| argument == "--outlive-parent");
    let Some((program, arguments)) = arguments[usize::from(outlive)..].split_first() else {
        eprintln!("usage: podwire-isolate [--outlive-parent] PROGRAM [ARGUMENT …]");
        return ExitCode::from(2);
    };
    let outcome = match env::var_os(INSIDE) {
        Some(_) => inside(program, arguments),
        None => outside(program, arguments, outlive),
    };
    outcome.unwrap_or_else(|why| {
        eprintln!("podwire-isolate: {why}");
        ExitCode::FAILURE
    })
}

/// Leaves the machine's namespaces, and starts this program again as the first process of the new ones.
fn outside(program: &OsString, arguments: &[OsString], outlive: bool) -> Result<ExitCode, String> {
    if !outlive {
        with_parent()?;
    }
    // Whoever started this may hold Ctrl-C back from itself; it is here that it ends the world.
    SigSet::all().thread_unblock().map_err(|errno| format!("let signals through: {errno}"))?;
    if outlive {
        // The end of the terminal is not the end of the world.
        setsid().map_err(|errno| format!("leave the terminal's session: {errno}"))?;
    }
    let world = separate()?;
    let own = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut command = Command::new(own);
    command.arg(program).args(arguments).env(INSIDE, world).env(PARENT, std::process::id().to_string());
    let mut child = command.spawn().map_err(|error| format!("start {}: {error}", program.display()))?;
    if outlive {
        // A reader of this process's output must not wait for the end of the world.
        let nothing =
            fs::File::options().write(true).open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
        nix::unistd::dup2_stdin(&nothing).map_err(|errno| format!("leave the input: {errno}"))?;
        nix::unistd::dup2_stdout(&nothing).map_err(|errno| format!("leave the output: {errno}"))?;
        nix::unistd::dup2_stderr(&nothing).map_err(|errno| format!("leave the output: {errno}"))?;
    }
    let status = child.wait().map_err(|error| format!("wait for {}: {error}", program.display()))?;
    // A program that was ended by a signal answers as it would to a shell.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Dies when the parent does, so that nothing is left behind even by a killed parent.
fn with_parent() -> Result<(), String> {
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| format!("bind this process to its parent: {errno}"))
}

/// The parent's process id as the machine has it: this process's own /proc is still the machine's.
fn parent() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix("PPid:")?.trim().to_owned()))
}

/// Whose the new namespaces are: root's or a user namespace's.
fn separate() -> Result<&'static str, String> {
    let world = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if geteuid().is_root() && unshare(world).is_ok() {
        return Ok("root");
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | world).map_err(|errno| match errno {
        Errno::EPERM | Errno::ENOSPC | Errno::EINVAL => format!(
            "this machine allows namespaces neither as this user nor by user namespaces ({errno}): run it as root, or \
             allow them with `sysctl -w user.max_user_namespaces=1000 kernel.unprivileged_userns_clone=1` (on Ubuntu \
             `kernel.apparmor_restrict_unprivileged_userns=0`)"
        ),
        _ => format!("leave the machine's namespaces: {errno}"),
    })?;
    let map =
        |file: &str, line: String| fs::write(file, &line).map_err(|error| format!("write {line:?} to {file}: {error}"));
    map("/proc/self/setgroups", "deny".into())?;
    map("/proc/self/uid_map", format!("0 {user} 1"))?;
    map("/proc/self/gid_map", format!("0 {group} 1"))?;
    Ok("user")
}

/// Furnishes the world, and becomes the program.
fn inside(program: &OsString, arguments: &[OsString]) -> Result<ExitCode, String> {
    if std::process::id() != 1 {
        return Err(format!("{INSIDE} is set, and this is not the first process of a world: unset it"));
    }
    with_parent()?;
    if parent() != env::var(PARENT).ok() {
        return Err("ended while it was started".into());
    }
    let none = None::<&str>;
    let attach = |kind: &str, place: &str, flags: MsFlags| {
        mount(Some(kind), place, Some(kind), flags, none).map_err(|errno| format!("mount {kind} on {place}: {errno}"))
    };
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| format!("make the mounts private: {errno}"))?;
    attach("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    fs::create_dir_all(MACHINE_PROC).map_err(|error| format!("create {MACHINE_PROC}: {error}"))?;
    mount(Some("/proc"), MACHINE_PROC, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(|errno| format!("keep the machine's /proc: {errno}"))?;
    attach("proc", "/proc", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC)?;
    let error: io::Error = Command::new(Path::new(program)).args(arguments).exec();
    Err(format!("start {}: {error}", program.display()))
}
