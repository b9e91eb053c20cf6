//! The way into the world, and onto a node of it, for programs that were started outside.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, setns};
use podwire_tests::lab::kube::{Place, read};

/// Runs a program in the world, or on a node, in the directory that this one is in; its exit code.
pub(crate) fn enter(place: &Place, node: Option<&str>, mut command: Command) -> Result<ExitCode, String> {
    let directory = std::env::current_dir().map_err(|error| format!("this directory: {error}"))?;
    let world = read(&place.world()).map_err(|why| format!("no cluster is up ({why}): scripts/kube up"))?;
    join(&world, &["ipc", "uts", "net", "pid", "mnt"])?;
    if let Some(node) = node {
        join(&place.process_id(node, "init")?.to_string(), &["cgroup", "ipc", "uts", "net", "pid", "mnt"])?;
    }
    // A host has an /etc and a /run of its own: what is there cannot be a program's directory.
    std::env::set_current_dir(&directory)
        .or_else(|_| std::env::set_current_dir("/"))
        .map_err(|error| format!("change the directory: {error}"))?;
    let program = command.get_program().display().to_string();
    let status = command.status().map_err(|error| format!("start {program}: {error}"))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Joins namespaces of a process; the mounts come last, because they are what makes the others be found.
fn join(process: &str, namespaces: &[&str]) -> Result<(), String> {
    let open = |name: &&str| {
        let path = Path::new("/proc").join(process).join("ns").join(name);
        File::open(&path).map_err(|error| format!("the cluster is not up any more: {}: {error}", path.display()))
    };
    let files: Vec<File> = namespaces.iter().map(open).collect::<Result<_, _>>()?;
    let join = |file: File| setns(file, CloneFlags::empty()).map_err(|errno| format!("enter the world: {errno}"));
    files.into_iter().try_for_each(join)
}
