//! The end of a cluster: its world with everything in it, its control groups, its directory.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podwire_tests::lab::eventually;
use podwire_tests::lab::kube::{Place, read};

use crate::control_groups;

/// How long the kernel may take to end some hundred processes.
const END: Duration = Duration::from_secs(60);

/// Leaves nothing; a cluster that is not there is as good.
pub(crate) fn down(place: &Place) -> Result<(), String> {
    if !place.root.exists() {
        eprintln!("No cluster is up.");
        return Ok(());
    }
    // It is removed with all that is in it: nobody else's directory, whatever the environment says.
    if !place.programs().is_symlink() {
        return Err(format!("{} is there, and is not a cluster's: remove it yourself", place.root.display()));
    }
    if let Some(world) = world(place) {
        kill(Pid::from_raw(world), Signal::SIGKILL)
            .map_err(|errno| format!("end the world, process {world}: {errno}"))?;
        let process = Path::new("/proc").join(world.to_string());
        eventually(END, || if process.exists() { Err(format!("process {world} does not end")) } else { Ok(()) })?;
    }
    if let Ok(group) = place.control_group() {
        eventually(END, || match control_groups::remove(&group) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("control groups are left: {left:?}")),
        })?;
    }
    eventually(END, || match fs::remove_dir_all(&place.root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{}: {error}", place.root.display())),
        _ => Ok(()),
    })?;
    eprintln!("The cluster is gone.");
    Ok(())
}

/// The world's first process, if it is the one that has been written down: numbers of processes are given again.
pub(crate) fn world(place: &Place) -> Option<i32> {
    let world = read(&place.world()).ok()?.parse::<i32>().ok()?;
    let command = fs::read(format!("/proc/{world}/cmdline")).ok()?;
    let environment = fs::read(format!("/proc/{world}/environ")).ok()?;
    let words = |bytes: &[u8], word: &[u8]| bytes.split(|byte| *byte == 0).any(|found| found == word);
    let state = format!("PODWIRE_KUBE_STATE={}", place.root.display());
    (words(&command, b"world") && words(&environment, state.as_bytes())).then_some(world)
}
