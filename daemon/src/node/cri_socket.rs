//! Which socket of a container runtime is asked for its sandboxes, and why that one: the command line says so, or kubelet's
//! own configuration, or it is found in one of the usual places. What is asked there is in `cri`.

use std::fmt;
use std::path::{Path, PathBuf};

use podwire_attachment::regular_file;

/// The sockets of runtimes: containerd, CRI-O, the containerd of k3s, Docker's shim.
const USUAL: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
];

/// What kubeadm gives kubelet as flags, which count before its file, and that file (KubeletConfiguration, v1beta1).
const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const KUBELET_FILE: &str = "/var/lib/kubelet/config.yaml";

/// The most bytes of these files that are read.
const LONGEST: u64 = 1024 * 1024;

/// A socket, and why it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CriSocket {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Why it is this one.
    pub(crate) why: Why,
}

/// Why a socket is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// The command line names it.
    Set,
    /// This file of kubelet's names it.
    Kubelet(PathBuf),
    /// It is there.
    Found,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set => f.write_str("as --cri-socket says"),
            Self::Kubelet(file) => write!(f, "as kubelet's {} says", file.display()),
            Self::Found => f.write_str("found, since neither --cri-socket nor kubelet's configuration names one"),
        }
    }
}

impl fmt::Display for CriSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.why)
    }
}

/// The sockets that may be asked, the likeliest first: exactly one where it is named.
pub(crate) fn candidates(set: Option<&Path>) -> Vec<CriSocket> {
    below(Path::new("/"), set)
}

fn below(root: &Path, set: Option<&Path>) -> Vec<CriSocket> {
    if let Some(path) = set {
        return vec![CriSocket { path: path.into(), why: Why::Set }];
    }
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for (file, endpoint) in [(KUBELET_FLAGS, of_flags as fn(&str) -> Option<PathBuf>), (KUBELET_FILE, of_file)] {
        // A file that is not there or cannot be read names no socket.
        let text = regular_file::read_text(&inside(file), LONGEST);
        if let Some(path) = text.ok().and_then(|text| endpoint(&text)) {
            return vec![CriSocket { path, why: Why::Kubelet(file.into()) }];
        }
    }
    let found = USUAL.into_iter().map(inside).filter(|path| path.exists());
    found.map(|path| CriSocket { path, why: Why::Found }).collect()
}

/// The endpoint among kubelet's flags, the last one as kubelet takes it.
fn of_flags(text: &str) -> Option<PathBuf> {
    const FLAG: &str = "--container-runtime-endpoint";
    let words: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|letter: char| letter.is_whitespace() || letter == '"' || letter == '\''))
        .collect();
    let mut endpoint = None;
    for (place, word) in words.iter().enumerate() {
        // The first word of the line has the variable's name and the quote before it.
        let word = word.rfind(FLAG).map_or("", |start| &word[start + FLAG.len()..]);
        endpoint = match word.strip_prefix('=') {
            Some(value) => Some(value),
            None if words[place].ends_with(FLAG) => words.get(place + 1).copied(),
            None => endpoint,
        };
    }
    socket(endpoint?)
}

/// The endpoint of kubelet's file: a key of its topmost level.
fn of_file(text: &str) -> Option<PathBuf> {
    let value = text.lines().find_map(|line| line.strip_prefix("containerRuntimeEndpoint:"))?;
    let value = value.split(" #").next().unwrap_or_default();
    socket(value.trim().trim_matches(['"', '\'']))
}

/// The path of an endpoint on a Unix socket.
fn socket(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_endpoint_is_read_from_kubelets_flags_and_from_its_file() {
        let crio = Some(PathBuf::from("/run/crio/crio.sock"));
        for line in [
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/crio/crio.sock --pod-infra-container-image=p\"\n",
            "# --container-runtime-endpoint=/no\nKUBELET_KUBEADM_ARGS=\"--v=2 --container-runtime-endpoint /run/crio/crio.sock\"",
            "A='--container-runtime-endpoint=/first --container-runtime-endpoint=/run/crio/crio.sock'",
        ] {
            assert_eq!(of_flags(line), crio, "{line}");
        }
        for other in [
            "",
            "KUBELET_KUBEADM_ARGS=\"\"",
            "A=--container-runtime-endpoint",
            "A=--container-runtime-endpoint=tcp://h:1",
        ] {
            assert_eq!(of_flags(other), None, "{other}");
        }
        for value in ["unix:///run/crio/crio.sock", "\"unix:///run/crio/crio.sock\"  # CRI-O", "'/run/crio/crio.sock'"]
        {
            assert_eq!(of_file(&format!("kind: KubeletConfiguration\ncontainerRuntimeEndpoint: {value}\n")), crio);
        }
        for other in ["", "kind: A\n", "containerRuntimeEndpoint: \"\"\n", "a:\n  containerRuntimeEndpoint: /b\n"] {
            assert_eq!(of_file(other), None, "{other}");
        }
    }

    #[test]
    fn the_command_line_comes_before_kubelet_and_kubelet_before_what_is_found() {
        let root = std::env::temp_dir().join(format!("podwired-cri-socket-{}", std::process::id()));
        let paths = |set: Option<&str>| -> Vec<_> {
            below(&root, set.map(Path::new)).into_iter().map(|socket| (socket.path, socket.why)).collect()
        };
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(paths(None), []);
        write("run/crio/crio.sock", "");
        write("run/containerd/containerd.sock", "");
        let found = ["run/containerd/containerd.sock", "run/crio/crio.sock"].map(|path| (root.join(path), Why::Found));
        assert_eq!(paths(None), found);
        write(&KUBELET_FILE[1..], "containerRuntimeEndpoint: /of-file\n");
        assert_eq!(paths(None), [("/of-file".into(), Why::Kubelet(KUBELET_FILE.into()))]);
        write(&KUBELET_FLAGS[1..], "A=\"--container-runtime-endpoint=unix:///of-flags\"\n");
        assert_eq!(paths(None), [("/of-flags".into(), Why::Kubelet(KUBELET_FLAGS.into()))]);
        assert_eq!(paths(Some("/set")), [("/set".into(), Why::Set)]);
        fs::remove_dir_all(root).unwrap();
    }
}
