//! Control groups: each node has a group of its own in every hierarchy, which is the root of all groups for whoever is on
//! it. They are the one thing that no namespace keeps: the groups outlive the world, and are removed from outside of it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where the machine's hierarchies are.
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// A hierarchy of version 1: its controllers, as one word.
fn hierarchies() -> Result<Vec<String>, String> {
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    // `9:name=systemd:/` (cgroups(7)); version 2 has no controllers there.
    let of_line = |line: &str| line.split(':').nth(1).filter(|controllers| !controllers.is_empty()).map(str::to_owned);
    Ok(groups.lines().filter_map(of_line).collect())
}

/// Where a hierarchy is mounted.
fn directory(controllers: &str) -> PathBuf {
    Path::new(HIERARCHIES).join(controllers.trim_start_matches("name="))
}

/// Moves this process into a group, makes it the root of groups for what this process starts, and mounts the hierarchies
/// as they are from there. /sys has to be the machine's still, and is the node's own afterwards.
pub(crate) fn enter(group: &str) -> Result<(), String> {
    let hierarchies = hierarchies()?;
    if hierarchies.is_empty() {
        return Err("this machine has control groups of version 2 only, which the nodes are not made for yet".into());
    }
    for controllers in &hierarchies {
        let (root, own) = (directory(controllers), directory(controllers).join(group));
        let step = |error: io::Error| format!("{}: {error}", own.display());
        fs::create_dir_all(&own).map_err(step)?;
        // What was there before a power cut is not there after it; kubelet would ask for each of these containers for seconds.
        list(&own).iter().for_each(|below| remove_below(below));
        // A group of cpuset without processors or memory takes no process in (cgroups v1, cpusets).
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|_| controllers == "cpuset") {
            let mut below = root.clone();
            for part in Path::new(group) {
                let inherited = fs::read_to_string(below.join(file)).map_err(step)?;
                below.push(part);
                fs::write(below.join(file), inherited.trim()).map_err(step)?;
            }
        }
        fs::write(own.join("cgroup.procs"), "0").map_err(step)?;
    }
    unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| format!("make {group} the root of control groups: {errno}"))?;
    let attach = |kind: &str, place: &Path, data: Option<&str>| {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        fs::create_dir_all(place).map_err(|error| format!("create {}: {error}", place.display()))?;
        mount(Some(kind), place, Some(kind), flags, data)
            .map_err(|errno| format!("mount {kind} on {}: {errno}", place.display()))
    };
    attach("sysfs", Path::new("/sys"), None)?;
    attach("tmpfs", Path::new(HIERARCHIES), Some("mode=755"))?;
    for controllers in &hierarchies {
        let named = format!("none,{controllers}");
        let data = if controllers.starts_with("name=") { &named } else { controllers };
        attach("cgroup", &directory(controllers), Some(data))?;
    }
    Ok(())
}

/// Removes a group and all below it from every hierarchy, as far as no process is in it; which are left.
pub(crate) fn remove(group: &str) -> Vec<PathBuf> {
    let roots: Vec<_> = fs::read_dir(HIERARCHIES).into_iter().flatten().filter_map(Result::ok).collect();
    let groups = roots.iter().map(|root| root.path().join(group)).filter(|group| group.is_dir());
    groups
        .filter(|group| {
            remove_below(group);
            group.is_dir()
        })
        .collect()
}

/// The groups directly below one.
fn list(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_below(group: &Path) {
    list(group).iter().for_each(|below| remove_below(below));
    // One that a process is in stays; the caller looks.
    let _ = fs::remove_dir(group);
}
