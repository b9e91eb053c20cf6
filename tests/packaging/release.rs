//! `scripts/release`, as far as it goes before it builds anything, and `scripts/sbom`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::stage::{Directory, fails, root, script, succeeds};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The platform of this machine, and the other one.
const PLATFORMS: [&str; 2] =
    if cfg!(target_arch = "aarch64") { ["linux/arm64", "linux/amd64"] } else { ["linux/amd64", "linux/arm64"] };

/// A checkout with what a release looks at, ready to be released.
struct Checkout(Directory);

impl Checkout {
    fn new() -> Self {
        let checkout = Self(Directory::new());
        let files = succeeds(
            Command::new("git").current_dir(root()).args(["ls-files", "-co", "--exclude-standard", "--"]).args([
                "Cargo.toml",
                "Cargo.lock",
                "Dockerfile",
                "CHANGELOG.md",
                "conf/kubernetes",
                "scripts",
            ]),
        );
        for file in files.lines() {
            let to = checkout.path(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(root().join(file), to).unwrap();
        }
        let changes = fs::read_to_string(checkout.path("CHANGELOG.md")).unwrap();
        let at = changes.find("\n## ").unwrap();
        checkout.write("CHANGELOG.md", &format!("# Changelog\n\n## {VERSION} (2026-01-31)\n{}", &changes[at..]));
        checkout.git(&["init", "--quiet"]);
        checkout.commit();
        checkout
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Replaces a text that is there just once.
    fn change(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{file}: {from}");
        self.write(file, &text.replace(from, to));
    }

    fn git(&self, arguments: &[&str]) {
        let who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.com", "-c", "core.hooksPath=/dev/null"];
        succeeds(Command::new("git").current_dir(self.0.path()).args(who).args(arguments));
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--no-gpg-sign", "--message", "Change"]);
    }

    /// The script of this checkout.
    fn release(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("scripts/release"));
        command.current_dir(self.0.path()).args(arguments);
        command.env("CARGO_TARGET_DIR", self.target());
        command
    }

    /// The target directory: not in the tree, which stays clean.
    fn target(&self) -> PathBuf {
        self.path(".git/target")
    }
}

/// What a dry run for this machine says.
const DRY: [&str; 4] = [VERSION, "--dry-run", "--only-platforms", PLATFORMS[0]];

#[test]
fn a_dry_run_names_the_files_and_makes_none() {
    let checkout = Checkout::new();
    let named = succeeds(&mut checkout.release(&DRY));
    let platform = PLATFORMS[0].replace('/', "-");
    let files = [
        format!("podwire-{VERSION}-{platform}.tar.gz"),
        format!("podwired-{VERSION}-{platform}.oci.tar"),
        format!("test-pods-{VERSION}-{platform}.oci.tar"),
        format!("podwire-{VERSION}.cdx.json"),
        "SHA256SUMS".into(),
    ];
    let output = checkout.target().join(format!("release-{VERSION}"));
    let files: String = files.iter().map(|file| format!("{}\n", output.join(file).display())).collect();
    assert_eq!(named, files);
    assert!(!checkout.target().exists(), "a dry run makes nothing");

    // What is there already is not replaced, and that is said before anything is built.
    fs::create_dir_all(&output).unwrap();
    let said = fails(&mut checkout.release(&[VERSION, "--only-platforms", PLATFORMS[0]]));
    assert!(said.contains(&format!("not built, as --only-platforms says: {}", PLATFORMS[1])), "{said}");
    assert!(said.contains(&format!("{} is there already", output.display())), "{said}");
}

#[test]
fn all_version_mismatches_are_reported_together() {
    let checkout = Checkout::new();
    let other = "9.9.9";
    checkout.change("Cargo.toml", &format!("\nversion = \"{VERSION}\"\n"), &format!("\nversion = \"{other}\"\n"));
    checkout.change(
        "conf/kubernetes/chart/Chart.yaml",
        &format!("\nversion: {VERSION}"),
        &format!("\nversion: {other}"),
    );
    checkout.change(
        "conf/kubernetes/chart/Chart.yaml",
        &format!("appVersion: {VERSION}"),
        &format!("appVersion: {other}"),
    );
    checkout.change("Dockerfile", &format!("podwire/podwired:{VERSION} "), &format!("podwire/podwired:{other} "));
    checkout.change("conf/kubernetes/podwire.yaml", &format!("podwired:{VERSION}\n"), &format!("podwired:{other}\n"));
    checkout.change("CHANGELOG.md", &format!("## {VERSION} (2026-01-31)"), "## Unreleased");
    let lock = fs::read_to_string(checkout.path("Cargo.lock")).unwrap();
    let entry = |version: &str| format!("name = \"podwired\"\nversion = \"{version}\"\n");
    checkout.write("Cargo.lock", &lock.replace(&entry(VERSION), &entry(other)));
    let dirty = fails(&mut checkout.release(&DRY));
    assert!(dirty.contains("the tree is not clean, commit or stash first:\n M CHANGELOG.md\n"), "{dirty}");

    checkout.commit();
    let said = fails(&mut checkout.release(&DRY));
    let mut problems: Vec<_> = said.lines().collect();
    let wrong = [
        format!("Cargo.toml says {other}, and not {VERSION}"),
        format!("Cargo.lock (cargo update --workspace) says {other}, and not {VERSION}"),
        format!("conf/kubernetes/chart/Chart.yaml: version says {other}, and not {VERSION}"),
        format!("conf/kubernetes/chart/Chart.yaml: appVersion says {other}, and not {VERSION}"),
        "conf/kubernetes/podwire.yaml, line ".into(),
        "Dockerfile, line ".into(),
        "the top section of CHANGELOG.md is \"Unreleased\"".into(),
    ];
    for wrong in wrong {
        let told = problems.iter().position(|line| line.starts_with(&format!("scripts/release: {wrong}")));
        problems.remove(told.unwrap_or_else(|| panic!("{wrong} is not told: {said}")));
    }
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_tree_that_is_not_clean_is_not_released() {
    let checkout = Checkout::new();
    checkout.write("forgotten.rs", "");
    let said = fails(&mut checkout.release(&DRY));
    assert!(said.contains("the tree is not clean, commit or stash first:\n?? forgotten.rs"), "{said}");
}

#[test]
fn a_platform_that_cannot_be_built_is_an_error_unless_it_is_left_out() {
    let checkout = Checkout::new();
    // A toolchain without the other machine's target.
    let tools = Directory::new();
    fs::write(tools.path().join("rustc"), "#!/bin/sh\necho /nonexistent\n").unwrap();
    succeeds(Command::new("chmod").arg("755").arg(tools.path().join("rustc")));
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let said = fails(checkout.release(&[VERSION, "--dry-run"]).env("PATH", &path));
    let wanted = format!("{} cannot be built here: Rust's target is missing: rustup target add ", PLATFORMS[1]);
    assert!(said.contains(&wanted) && said.contains("; or leave it out: --only-platforms LIST"), "{said}");
    succeeds(checkout.release(&DRY).env("PATH", &path));
}

#[test]
fn arguments_are_validated_first() {
    let checkout = Checkout::new();
    let cases: [(&[&str], &str); 7] = [
        (&[], "which version? scripts/release VERSION"),
        (&["--dry-run"], "which version? scripts/release VERSION"),
        (&["v0.1.0"], "v0.1.0 is no version: three numbers"),
        (&["0.1"], "0.1 is no version: three numbers"),
        (&["0.1.0", "0.2.0"], "two versions: 0.1.0 and 0.2.0"),
        (&["0.1.0", "--upload"], "unknown option --upload"),
        (&["0.1.0", "--only-platforms"], "--only-platforms wants a value"),
    ];
    for (arguments, wanted) in cases {
        let said = fails(&mut checkout.release(arguments));
        assert!(said.starts_with("scripts/release: ") && said.contains(wanted), "{arguments:?}: {said}");
    }
    let said = fails(&mut checkout.release(&[VERSION, "--dry-run", "--only-platforms=linux/riscv64"]));
    assert!(said.contains("unknown platform linux/riscv64; there are linux/amd64 linux/arm64"), "{said}");
    let help = succeeds(&mut checkout.release(&["--help"]));
    assert!(help.contains("--only-platforms LIST") && help.contains("podwire-VERSION.cdx.json"), "{help}");
}

#[test]
fn the_sbom_lists_what_is_compiled_into_the_programs_and_nothing_else() {
    let sbom = |date: &str| succeeds(script("sbom", Path::new("/")).env("SOURCE_DATE_EPOCH", date));
    let text = sbom("86400");
    assert_eq!(text, sbom("86400"), "two runs differ");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(document["metadata"]["timestamp"], "1970-01-02T00:00:00Z");
    assert_eq!(document["metadata"]["component"]["version"], VERSION);

    let components = document["components"].as_array().unwrap();
    let by_name: BTreeMap<_, _> = components.iter().map(|one| (one["name"].as_str().unwrap(), one)).collect();
    for (name, scope) in [
        ("podwire", "required"),
        ("podwired", "required"),
        ("podwire-kernel", "required"),
        ("tokio", "required"),
        ("netlink-packet-route", "required"),
        ("glibc", "required"),
        ("rust-std", "required"),
        // Runs while the programs are compiled.
        ("serde_derive", "excluded"),
    ] {
        let component = by_name.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(component["scope"], scope, "{name}");
    }
    for name in ["rtnetlink", "proptest", "irc", "ureq", "windows-sys", "podwire-tests"] {
        assert!(!by_name.contains_key(name), "{name} is in neither program");
    }
    for component in components {
        assert!(component["licenses"][0]["expression"].as_str().is_some_and(|text| !text.contains('/')), "{component}");
        assert!(component["version"].as_str().is_some_and(|version| !version.is_empty()), "{component}");
        if let Some(purl) = component["purl"].as_str() {
            assert_eq!(purl, format!("pkg:cargo/{}", component["bom-ref"].as_str().unwrap()));
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
        }
    }
    let from_registry = components.iter().filter(|component| component["purl"].is_string()).count();
    assert!(from_registry + 10 > components.len() && from_registry > 50, "{from_registry} of {}", components.len());

    // Who needs whom: the plugin has no runtime in it.
    let needs: BTreeMap<&str, Vec<&str>> = document["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let on = one["dependsOn"].as_array().unwrap().iter().map(|on| on.as_str().unwrap()).collect();
            (one["ref"].as_str().unwrap(), on)
        })
        .collect();
    let (plugin, daemon) = (format!("podwire@{VERSION}"), format!("podwired@{VERSION}"));
    assert_eq!(needs["release"].iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([&*plugin, &*daemon]));
    let all_of = |program: &str| {
        let (mut found, mut left) = (BTreeSet::new(), vec![program.to_owned()]);
        while let Some(next) = left.pop() {
            if found.insert(next.clone()) {
                left.extend(needs.get(&*next).into_iter().flatten().map(|on| (*on).to_owned()));
            }
        }
        found.into_iter().map(|name| name.split('@').next().unwrap_or_default().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(all_of(&daemon).contains("tokio") && all_of(&daemon).contains("podwire-conf"));
    assert!(all_of(&plugin).contains("podwire-conf") && !all_of(&plugin).contains("tokio"));
}
