//! The files of a policy directory: which of its entries count, and the objects in all of them, or everything that is wrong with
//! them.
//!
//! What may not live here: when they are read (`policy_directory`), and what an object may be (`policy::documents`).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwire_attachment::regular_file;
use thiserror::Error;

use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::documents;
use crate::policy::namespace::Namespace;
use crate::policy::network_policy::NetworkPolicy;
use crate::policy::pod::Pod;
use crate::policy::rejected::Rejected;
use crate::sources::policy_objects::Read;
use crate::sources::stamp::{RESTLESS, Stamp};

/// How the names of files end that count. A hidden one is an editor's, or what a mounted ConfigMap is swapped by.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

/// The most entries of the directory that are looked at, and the most files among them that count.
const ENTRIES: usize = 10_000;
const FILES: usize = 1_000;

/// The most bytes of one file, and of all: forty thousand pods.
const LARGEST: u64 = 8 << 20;
const TOTAL: usize = 16 << 20;

/// The most objects of all files.
const OBJECTS: usize = 100_000;

/// How many objects of a file are named that are wrong.
const NAMED: usize = 3;

/// The files that count, by their names: the state of each, or the kind of the error where it has none.
pub(super) type Files = BTreeMap<OsString, Result<Stamp, ErrorKind>>;

/// Objects by their keys.
type Found<T> = BTreeMap<String, Read<T>>;

/// What is in the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) pods: Found<Pod>,
    pub(super) namespaces: Found<Namespace>,
    pub(super) policies: Found<NetworkPolicy>,
    pub(super) cluster_policies: Found<ClusterPolicy>,
}

/// Why the files of the directory cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Unusable {
    /// The directory cannot be read.
    #[error("read the policy directory {}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// There is more in it than is read.
    #[error("the policy directory {} has more than {most} {of}: split the cluster's policies, or take away what is not needed", path.display())]
    TooMuch {
        /// The directory.
        path: PathBuf,
        /// The bound.
        most: usize,
        /// Of what.
        of: &'static str,
    },
    /// Its files keep changing.
    #[error(
        "the files of the policy directory {} have been changing for {RESTLESS:?}, and are read only when all of them rest: \
         replace them by a rename", path.display()
    )]
    Restless {
        /// The directory.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("read the policy file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A file has objects that are wrong.
    #[error("policy file {}: {}", path.display(), Listed(.rejected))]
    Rejected {
        /// The file.
        path: PathBuf,
        /// The objects.
        rejected: Vec<Rejected>,
    },
    /// A file has an object that another one has.
    #[error("policy file {}: {object} is in {} as well: leave one of the two", path.display(), other.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// Kind and name of the object.
        object: String,
        /// The other file.
        other: PathBuf,
    },
}

impl Unusable {
    /// What it is about.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. }
            | Self::TooMuch { path, .. }
            | Self::Restless { path }
            | Self::File { path, .. }
            | Self::Rejected { path, .. }
            | Self::Twice { path, .. } => path,
        }
    }

    /// Whether the same files may be read later.
    pub(super) fn is_passing(&self) -> bool {
        use ErrorKind::{FileTooLarge, InvalidData};
        match self {
            Self::Directory { .. } | Self::Restless { .. } => true,
            Self::File { error, .. } => !matches!(error.kind(), FileTooLarge | InvalidData | regular_file::NOT_REGULAR),
            Self::TooMuch { .. } | Self::Rejected { .. } | Self::Twice { .. } => false,
        }
    }
}

/// Objects that are wrong, as a sentence.
struct Listed<'a>(&'a [Rejected]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, rejected) in self.0.iter().take(NAMED).enumerate() {
            write!(f, "{}{rejected}", if place == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more objects"),
        }
    }
}

/// The files of a directory that count. Those in directories below it do not.
///
/// # Errors
/// When the directory cannot be read, or has too many entries.
pub(super) fn list(directory: &Path) -> Result<Files, Unusable> {
    let unreadable = |error| Unusable::Directory { path: directory.into(), error };
    let too_much = |most, of| Unusable::TooMuch { path: directory.into(), most, of };
    let mut files = Files::new();
    for (place, entry) in std::fs::read_dir(directory).map_err(unreadable)?.enumerate() {
        let name = entry.map_err(unreadable)?.file_name();
        if place >= ENTRIES {
            return Err(too_much(ENTRIES, "entries"));
        }
        let path = directory.join(&name);
        let counts = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if counts && !name.as_encoded_bytes().starts_with(b".") {
            let stamp = Stamp::of(&path).map_err(|error| error.kind());
            files.insert(name, stamp);
        }
        if files.len() > FILES {
            return Err(too_much(FILES, "files"));
        }
    }
    Ok(files)
}

/// Reads all files.
///
/// # Errors
/// Everything that is wrong, file by file.
pub(super) fn read(directory: &Path, files: &Files) -> Result<Content, Vec<Unusable>> {
    let mut reader = Reader::default();
    let mut bytes = 0;
    for name in files.keys() {
        let path = directory.join(name);
        match regular_file::read_text(&path, LARGEST) {
            Err(error) => reader.wrong.push(Unusable::File { path, error }),
            Ok(text) => {
                bytes += text.len();
                reader.text(path, &text);
            }
        }
        let too_much = [(bytes, TOTAL, "bytes in its files"), (reader.count(), OBJECTS, "objects in its files")];
        if let Some((_, most, of)) = too_much.into_iter().find(|(found, most, _)| found > most) {
            reader.wrong.push(Unusable::TooMuch { path: directory.into(), most, of });
            break;
        }
    }
    if reader.wrong.is_empty() { Ok(reader.content) } else { Err(reader.wrong) }
}

/// Reads one file after another.
#[derive(Default)]
struct Reader {
    content: Content,
    wrong: Vec<Unusable>,
    /// The files that there have been.
    paths: Vec<PathBuf>,
    /// The file that an object is in, by its kind and key.
    places: HashMap<(&'static str, String), usize>,
}

impl Reader {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn text(&mut self, path: PathBuf, text: &str) {
        let objects = match documents::Objects::read(text) {
            Ok(objects) => objects,
            Err(rejected) => return self.wrong.push(Unusable::Rejected { path, rejected }),
        };
        self.paths.push(path);
        for pod in objects.pods {
            let key = format!("{}/{}", pod.namespace, pod.name);
            self.place("Pod", &key);
            self.content.pods.insert(key, Ok(Arc::new(pod)));
        }
        for namespace in objects.namespaces {
            let key = namespace.name.to_string();
            self.place("Namespace", &key);
            self.content.namespaces.insert(key, Ok(Arc::new(namespace)));
        }
        for policy in objects.policies {
            let key = policy.name.to_string();
            self.place("NetworkPolicy", &key);
            self.content.policies.insert(key, Ok(Arc::new(policy)));
        }
        for policy in objects.cluster_policies {
            let key = policy.name.to_string();
            self.place("ClusterNetworkPolicy", &key);
            self.content.cluster_policies.insert(key, Ok(Arc::new(policy)));
        }
    }

    /// Notes that an object is in the newest file: it may be in no other.
    fn place(&mut self, kind: &'static str, key: &str) {
        let newest = self.paths.len() - 1;
        if let Some(before) = self.places.insert((kind, key.to_owned()), newest) {
            let [path, other] = [newest, before].map(|place| self.paths[place].clone());
            self.wrong.push(Unusable::Twice { path, object: format!("{kind} {key}"), other });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {}\n";

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("podwire-policies-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// What is wrong, with the directory's name taken away.
    fn wrong(directory: &Path) -> Vec<String> {
        let wrong = match list(directory) {
            Ok(files) => read(directory, &files).err().unwrap_or_default(),
            Err(unusable) => vec![unusable],
        };
        let place = format!("{}/", directory.display());
        wrong.iter().map(|unusable| unusable.to_string().replace(&place, "")).collect()
    }

    #[test]
    fn the_objects_of_all_files_that_count_are_read_and_nothing_else() {
        let place = directory("read");
        fs::write(place.join("policy.yaml"), POLICY).unwrap();
        fs::write(place.join("pods.json"), r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#)
            .unwrap();
        fs::write(place.join("shop.yml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n").unwrap();
        for other in [".hidden.yaml", "policy.yaml~", "README", "yaml"] {
            fs::write(place.join(other), "{").unwrap();
        }
        fs::create_dir(place.join("below")).unwrap();
        fs::write(place.join("below/policy.yaml"), "{").unwrap();
        let content = read(&place, &list(&place).unwrap()).unwrap();
        let keys = content.pods.keys().chain(content.namespaces.keys()).chain(content.policies.keys());
        assert_eq!(keys.collect::<Vec<_>>(), ["default/a", "shop", "default/deny"]);
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn every_file_that_cannot_be_used_is_named_and_one_object_is_in_one_file() {
        let place = directory("wrong");
        fs::write(place.join("a.yaml"), POLICY).unwrap();
        fs::write(place.join("b.yaml"), POLICY).unwrap();
        fs::write(place.join("c.yaml"), POLICY.replace("spec: {}", "spec: {podSelektor: {}}")).unwrap();
        fs::write(place.join("d.yaml"), "kind: [").unwrap();
        nix::unistd::mkfifo(&place.join("e.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place.join("f.yaml")).unwrap();
        fs::create_dir(place.join("g.yaml")).unwrap();
        fs::File::create(place.join("h.yaml")).unwrap().set_len(LARGEST + 1).unwrap();
        let four = "kind: A\n---\nkind: B\n---\nkind: C\n---\nkind: D\n";
        fs::write(place.join("i.yaml"), four).unwrap();
        let found = wrong(&place);
        assert_eq!(
            found[0],
            "policy file b.yaml: NetworkPolicy default/deny is in a.yaml as well: leave one of the two"
        );
        assert!(
            found[1].starts_with("policy file c.yaml: NetworkPolicy deny: spec.podSelektor: is not known"),
            "{found:?}"
        );
        assert!(found[2].starts_with("policy file d.yaml: ") && !found[2].contains(": :"), "{found:?}");
        for (place, name) in ["e", "f", "g"].into_iter().enumerate() {
            assert_eq!(found[3 + place], format!("read the policy file {name}.yaml: it is not a regular file"));
        }
        assert_eq!(found[6], "read the policy file h.yaml: it has 8388609 bytes, and at most 8388608 are read");
        assert!(found[7].starts_with("policy file i.yaml: A (object 1 of the text): "), "{found:?}");
        assert!(found[7].ends_with("; and 1 more objects"), "{found:?}");
        assert_eq!(found.len(), 8);
        fs::remove_dir_all(&place).unwrap();
        let gone = wrong(&place);
        assert!(gone[0].ends_with(": No such file or directory (os error 2)"), "{gone:?}");
    }

    #[test]
    fn a_directory_with_too_much_in_it_is_not_read() {
        let place = directory("bounds");
        let end = |text: &str| wrong(&place).pop().is_some_and(|why| why.contains(text));
        for number in 0..FILES {
            fs::write(place.join(format!("{number}.yaml")), "").unwrap();
        }
        assert_eq!(wrong(&place), Vec::<String>::new());
        fs::write(place.join("one-more.yaml"), "").unwrap();
        assert!(end("has more than 1000 files: "), "{:?}", wrong(&place));
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        let comment = "#".repeat(6 << 20);
        for name in ["a", "b", "c"] {
            fs::write(place.join(name).with_extension("yaml"), &comment).unwrap();
        }
        assert!(end("has more than 16777216 bytes in its files: "), "{:?}", wrong(&place));
        fs::remove_dir_all(&place).unwrap();
    }
}
