//! The network that the container runtime takes: the first file of its directory by name.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use podwire_conf::defaults;

use super::error::{Error, Result};
use super::examined::Examined;
use super::finding::{Finding, FindingKind};
use super::fix::command;

/// What runtimes read (libcni: `ConfFiles`).
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

pub(super) fn look(node: &Examined) -> Result<Vec<Finding>> {
    let entries = match std::fs::read_dir(&node.conflists) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Ok(vec![no_directory(&node.conflists)]);
        }
        entries => entries.map_err(|error| Error::Directory { path: node.conflists.clone(), error })?,
    };
    let names = entries.filter_map(std::result::Result::ok).map(|entry| entry.file_name());
    Ok(judge(&node.conflists, names.collect()))
}

fn no_directory(place: &Path) -> Finding {
    let fix = command!("mv {0} {0}.was && mkdir {0}", place);
    let place = place.display();
    let cause = format!("{place} is not a directory: the container runtime finds no network");
    Finding::new(FindingKind::ConflistNoDirectory, place.to_string(), cause, fix)
}

fn judge(directory: &Path, mut names: Vec<OsString>) -> Vec<Finding> {
    names.sort_unstable();
    let read =
        |name: &OsString| Path::new(name).extension().is_some_and(|ending| ENDINGS.iter().any(|one| ending == *one));
    let first =
        names.iter().filter(|name| read(name)).take_while(|name| name.as_os_str() < OsStr::new(defaults::CONFLIST));
    let finding = |name: &OsString| {
        let path = directory.join(name);
        let fix = command!("mv {0} {0}.disabled", path);
        let path = path.display().to_string();
        let cause = format!(
            "{path} sorts before {}, so the container runtime takes that network and not podwire's",
            defaults::CONFLIST
        );
        Finding::new(FindingKind::ConflistOutranked, &path, cause, fix)
    };
    first.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_conflist_that_a_runtime_prefers_is_in_the_way() {
        let names = ["99-loopback.conf", "10-podwire.conflist", "05-cilium.conflist", "00-notes.txt", ".10-a.conflist"];
        let found = judge(Path::new("/etc/cni/net.d"), names.map(OsString::from).to_vec());
        let fixes: Vec<_> = found.iter().map(|finding| finding.fix.as_str()).collect();
        assert_eq!(
            fixes,
            [
                "mv /etc/cni/net.d/.10-a.conflist /etc/cni/net.d/.10-a.conflist.disabled",
                "mv /etc/cni/net.d/05-cilium.conflist /etc/cni/net.d/05-cilium.conflist.disabled"
            ]
        );
        assert!(judge(Path::new("/"), vec!["10-podwire.conflist".into(), "10-podwire.conf.new".into()]).is_empty());
    }
}
