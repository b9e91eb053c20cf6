//! Files of the repository, YAML as values, scripts as processes, directories that go with their test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of it.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The documents of one kind.
pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

/// The only document of a kind.
pub(crate) fn the<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(documents, kind);
    assert_eq!(found.len(), 1, "documents of kind {kind}");
    found[0]
}

/// Every manifest that is shipped as one: path and documents.
pub(crate) fn manifests() -> Vec<(String, Vec<Value>)> {
    let paths = ["conf/kubernetes", "conf/kubernetes/examples", "conf/kind"].into_iter().flat_map(|directory| {
        let entries = fs::read_dir(root().join(directory)).unwrap();
        entries.map(move |entry| format!("{directory}/{}", entry.unwrap().file_name().into_string().unwrap()))
    });
    let mut paths: Vec<_> = paths.filter(|path| path.ends_with(".yaml")).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), documents(&text(&path)))).collect()
}

/// The pod of a workload.
pub(crate) fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

/// Its containers, those that come first among them.
pub(crate) fn containers(workload: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"].map(|list| pod(workload)[list].as_array());
    lists.into_iter().flatten().flatten().collect()
}

/// Every workload that is shipped: path and document.
pub(crate) fn workloads() -> Vec<(String, Value)> {
    let with_pods = |document: &Value| !pod(document).is_null();
    let all = manifests().into_iter().flat_map(|(path, documents)| {
        documents.into_iter().filter(with_pods).map(move |document| (path.clone(), document)).collect::<Vec<_>>()
    });
    all.collect()
}

/// Texts of a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|text| text.as_str().unwrap_or_else(|| panic!("no text: {text}")).to_owned()).collect()
}

/// A directory that goes when the test ends.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("podwire-shipped-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A script of the repository, to be started elsewhere.
pub(crate) fn script(name: &str, from: &Path) -> Command {
    let mut command = Command::new(root().join("scripts").join(name));
    command.current_dir(from).env_remove("DESTDIR");
    command
}

/// What a process has said, all of it.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// Runs a process that has to succeed; its standard output.
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a process that has to fail; all that it has said.
pub(crate) fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}
