//! The network that the container runtime takes: the first file of its directory by name.

use std::path::Path;

use podwire_conf::defaults;

use super::{Finding, Node};

/// What runtimes read (libcni: `ConfFiles`).
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

pub(super) fn look(node: &Node) -> Result<Vec<Finding>, String> {
    let entries = match std::fs::read_dir(&node.conflists) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Ok(vec![no_directory(&node.conflists)]);
        }
        entries => entries.map_err(|error| format!("list {}: {error}", node.conflists.display()))?,
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(judge(&node.conflists, names.collect()))
}

/// What is said of something else in the place of the directory.
pub(super) const NO_DIRECTORY: &str = "is not a directory";

fn no_directory(place: &Path) -> Finding {
    let place = place.display();
    let cause = format!("{place} {NO_DIRECTORY}: the container runtime finds no network");
    Finding::new("conflist", cause, format!("mv {place} {place}.was && mkdir {place}"))
}

fn judge(directory: &Path, mut names: Vec<String>) -> Vec<Finding> {
    names.sort_unstable();
    let read =
        |name: &String| Path::new(name).extension().is_some_and(|ending| ENDINGS.iter().any(|one| ending == *one));
    let first = names.iter().filter(|name| read(name)).take_while(|name| name.as_str() < defaults::CONFLIST);
    let finding = |name: &String| {
        let path = directory.join(name);
        let cause = format!(
            "{} sorts before {}, so the container runtime takes that network and not podwire's",
            path.display(),
            defaults::CONFLIST
        );
        Finding::new("conflist", cause, format!("mv {0} {0}.disabled", path.display()))
    };
    first.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pain15_only_what_a_runtime_reads_and_takes_first_is_in_the_way() {
        let names = ["99-loopback.conf", "10-podwire.conflist", "05-cilium.conflist", "00-notes.txt", ".10-a.conflist"];
        let found = judge(Path::new("/etc/cni/net.d"), names.map(str::to_owned).to_vec());
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
