//! A control group of a lab's own, which its containers are below: cgroups are the one thing of the machine that no
//! namespace keeps a runtime from writing to.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

use super::SOON;
use super::process::machine_id;

/// Where the machine's hierarchies are: this one itself, and one for each controller where cgroups are version 1.
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// First letters of the groups' names; the process of the tests follows, as the machine knows it.
const PREFIX: &str = "podwire-test-";

/// A group, as a path from the root of every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    name: String,
}

impl Cgroup {
    /// A name that nobody else has; runtimes make the group. What ended tests have left is removed.
    ///
    /// # Errors
    /// Outside of a world of [`machine_id`]'s.
    pub fn new() -> Result<Self, String> {
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let process = machine_id(std::process::id()).ok_or("this process is not known to the machine")?;
        let roots = hierarchies();
        for group in roots.iter().flat_map(|root| list(root)) {
            let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|owner| !Path::new("/run/machine/proc").join(owner.to_string()).exists()) {
                remove_below(&group);
            }
        }
        Ok(Self { name: format!("{PREFIX}{process}-{}", GROUPS.fetch_add(1, Ordering::Relaxed)) })
    }

    /// Its path in a hierarchy.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What was killed is gone from its group a little later.
        let gone = super::eventually(SOON, || match remove(&self.name) {
            0 => Ok(()),
            left => Err(format!("{left} control groups {} are left", self.name)),
        });
        if let (Err(why), false) = (gone, thread::panicking()) {
            eprintln!("{why}");
        }
    }
}

/// Removes a group and what is below it from every hierarchy, as far as no process is in it; how many are left.
fn remove(name: &str) -> usize {
    let groups: Vec<_> = hierarchies().iter().map(|root| root.join(name)).filter(|group| group.is_dir()).collect();
    groups.iter().for_each(|group| remove_below(group));
    groups.iter().filter(|group| group.is_dir()).count()
}

/// The roots of all hierarchies: of cgroups version 2 there is one, of version 1 one below it for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let below = list(Path::new(HIERARCHIES));
    [PathBuf::from(HIERARCHIES)].into_iter().chain(below).collect()
}

fn remove_below(group: &Path) {
    list(group).iter().for_each(|below| remove_below(below));
    // A group that a process is in stays; the caller looks.
    let _ = fs::remove_dir(group);
}

/// The directories in a directory.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}
