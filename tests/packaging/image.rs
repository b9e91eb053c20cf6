//! `scripts/image`: the archive that it makes out of programs, as whoever imports it reads it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::stage::{Directory, fails, script, succeeds, text};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What an image's configuration calls a machine of this kind.
const OWN: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const DAEMON: [&str; 2] = ["podwire", "podwired"];
const TEST_PODS: [&str; 6] =
    ["irc-server", "irc-user", "reachability", "wait-for-name", "weather-bot", "weather-service"];

/// A directory with programs that do nothing, static ones unless said otherwise.
fn programs(names: &[&str], more: &[&str]) -> Directory {
    let directory = Directory::new();
    let source = directory.path().join("program.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let first = directory.path().join(names[0]);
    succeeds(Command::new("cc").arg(&source).arg("-o").arg(&first).args(more));
    names[1..].iter().for_each(|name| _ = fs::copy(&first, directory.path().join(name)).unwrap());
    directory
}

/// The command that makes an image of these programs.
fn image(name: &str, programs: &Directory, output: &Path) -> Command {
    let mut command = script("image", programs.path());
    command.arg(name).arg("--from").arg(programs.path()).arg("--output").arg(output);
    command
}

/// The files of a tar archive: what it says of each, and the content.
fn files(archive: &[u8]) -> BTreeMap<PathBuf, (tar::Header, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let (path, header) = (entry.path().unwrap().into_owned(), entry.header().clone());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, (header, content))
    });
    entries.collect()
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// What gunzip(1) makes of it.
fn unpacked(content: &[u8]) -> Vec<u8> {
    let directory = Directory::new();
    let file = directory.path().join("layer.tar.gz");
    fs::write(&file, content).unwrap();
    let output = Command::new("gzip").args(["--decompress", "--stdout"]).arg(&file).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// An image as a runtime takes it in: index, manifest, configuration, the layer's files.
struct Imported {
    index: Value,
    configuration: Value,
    layer: BTreeMap<PathBuf, (tar::Header, Vec<u8>)>,
}

/// Follows every descriptor from the index, and checks its digest and its size.
fn imported(archive: &Path) -> Imported {
    let layout = files(&fs::read(archive).unwrap());
    let read = |path: &str| layout[Path::new(path)].1.clone();
    let blob = |descriptor: &Value| {
        let (digest_said, size) = (descriptor["digest"].as_str().unwrap(), descriptor["size"].as_u64().unwrap());
        let content = read(&format!("blobs/{}", digest_said.replace(':', "/")));
        assert_eq!((digest(&content).as_str(), content.len() as u64), (digest_said, size));
        content
    };
    let json = |content: &[u8]| serde_json::from_slice::<Value>(content).unwrap();
    assert_eq!(json(&read("oci-layout")), json!({"imageLayoutVersion": "1.0.0"}));
    let index = json(&read("index.json"));
    let manifest = json(&blob(&index["manifests"][0]));
    let configuration = json(&blob(&manifest["config"]));
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    let layer = unpacked(&blob(&layers[0]));
    assert_eq!(configuration["rootfs"]["diff_ids"], json!([digest(&layer)]));
    let docker = json(&read("manifest.json"));
    let path = |descriptor: &Value| format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
    assert_eq!(
        (docker[0]["Config"].as_str(), docker[0]["Layers"][0].as_str()),
        (Some(path(&manifest["config"]).as_str()), Some(path(&layers[0]).as_str()))
    );
    Imported { index, configuration, layer: files(&layer) }
}

#[test]
fn the_archive_is_an_image_with_the_name_that_the_manifests_use() {
    for (name, programs_of, repository, user, entrypoint) in [
        ("daemon", DAEMON.as_slice(), "podwired", "0:0", json!(["/bin/podwired"])),
        ("test-pods", TEST_PODS.as_slice(), "test-pods", "65534:65534", Value::Null),
    ] {
        let programs = programs(programs_of, &["-static"]);
        let output = programs.path().join("image.tar");
        let printed = succeeds(&mut image(name, &programs, &output));
        assert_eq!(printed.trim_end(), output.to_str().unwrap(), "the path alone is on standard output");
        let Imported { index, configuration, layer } = imported(&output);
        let reference = format!("docker.io/podwire/{repository}:{VERSION}");
        for key in ["io.containerd.image.name", "org.opencontainers.image.ref.name"] {
            assert_eq!(index["manifests"][0]["annotations"][key], reference.as_str());
        }
        assert_eq!(configuration["config"]["User"], user);
        assert_eq!(configuration["config"]["Entrypoint"], entrypoint);
        assert_eq!(configuration["config"]["Env"], json!(["PATH=/bin"]));
        assert_eq!((&configuration["os"], &configuration["architecture"]), (&json!("linux"), &json!(OWN)));
        let mut packed: Vec<_> = layer.iter().filter(|(_, (header, _))| header.entry_type().is_file()).collect();
        packed.retain(|(path, _)| path.starts_with("bin"));
        assert_eq!(
            packed.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(),
            programs_of
        );
        for (path, (header, content)) in &layer {
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0), "{path:?}");
            let mode = header.mode().unwrap() & 0o7777;
            let wanted = if header.entry_type().is_dir() || path.starts_with("bin") { 0o755 } else { 0o644 };
            assert_eq!(mode, wanted, "{path:?}");
            assert!(!content.starts_with(b"\x7fELF") || path.starts_with("bin"), "{path:?}");
        }
        // localhost is in the pod's own file, and nothing else says so to a static program.
        assert_eq!(layer[Path::new("etc/nsswitch.conf")].1, b"hosts: files dns\n");
    }
}

#[test]
fn docker_builds_the_same_image() {
    let file = text("Dockerfile");
    let stages: Vec<_> = file.split("\nFROM ").collect();
    for (name, programs, more) in [
        ("podwired", DAEMON.as_slice(), "ENTRYPOINT [\"/bin/podwired\"]"),
        ("test-pods", TEST_PODS.as_slice(), "USER 65534:65534"),
    ] {
        let stage = |from: &str| *stages.iter().find(|stage| stage.starts_with(from)).unwrap();
        let built = stage(&format!("source AS {name}-built\n"));
        let line = built.lines().find_map(|line| line.strip_prefix("RUN scripts/build ")).unwrap();
        let mut words: Vec<_> = line.trim_end_matches(" \\").split(' ').collect();
        words.sort_unstable();
        assert_eq!(words, programs);
        assert!(
            built.contains("strip /image/bin/*")
                && built.contains("echo \"hosts: files dns\" > /image/etc/nsswitch.conf")
        );
        let shipped = stage(&format!("scratch AS {name}\n"));
        for line in [&format!("COPY --from={name}-built /image /"), "ENV PATH=/bin", more] {
            assert!(shipped.lines().any(|found| found == line), "{shipped}");
        }
    }
    // What is made where no stage is named.
    assert!(stages.last().unwrap().starts_with("scratch AS podwired\n"));
    let toolchain = text("rust-toolchain.toml");
    let release = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")).unwrap();
    let (release, _) = release.rsplit_once('.').unwrap();
    assert!(file.contains(&format!("\nFROM docker.io/library/rust:{release}-bookworm AS source\n")), "{release}");
    assert!(file.contains(&format!("podwire/podwired:{VERSION} ")) && file.contains(&format!("test-pods:{VERSION} ")));
}

#[test]
fn the_image_build_is_reproducible_and_does_not_change_the_programs() {
    let programs = programs(&DAEMON, &["-static", "-g"]);
    let before = fs::read(programs.path().join("podwired")).unwrap();
    let [one, other] = ["one.tar", "other.tar"].map(|name| programs.path().join(name));
    succeeds(&mut image("daemon", &programs, &one));
    let now = fs::File::open(programs.path().join("podwire")).unwrap();
    now.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(86_400)).unwrap();
    let mut again = image("daemon", &programs, &other);
    succeeds(again.env("TZ", "Asia/Tokyo").env("LC_ALL", "C.UTF-8"));
    assert!(fs::read(one).unwrap() == fs::read(&other).unwrap(), "two runs differ");
    assert!(fs::read(programs.path().join("podwired")).unwrap() == before, "line tables are lost");
    let packed = &imported(&other).layer[Path::new("bin/podwired")].1;
    assert!(packed.len() < before.len(), "what is shipped is stripped");
}

#[test]
fn a_dynamic_a_too_large_and_a_missing_program_are_rejected() {
    let output = Directory::new();
    let file = output.path().join("image.tar");
    let dynamic = programs(&DAEMON, &[]);
    let said = fails(&mut image("daemon", &dynamic, &file));
    assert!(said.contains("podwire is not static"), "{said}");
    let said = fails(&mut image("test-pods", &dynamic, &file));
    assert!(said.contains("there is no program irc-server in "), "{said}");

    // What cannot be made smaller.
    let noise = output.path().join("noise");
    let mut random = fs::File::open("/dev/urandom").unwrap().take(16_000_000);
    std::io::copy(&mut random, &mut fs::File::create(&noise).unwrap()).unwrap();
    let source = output.path().join("noise.s");
    fs::write(&source, format!(".data\n.globl noise\nnoise: .incbin \"{}\"\n", noise.display())).unwrap();
    let large = programs(&DAEMON, &["-static", source.to_str().unwrap()]);
    let said = fails(&mut image("daemon", &large, &file));
    assert!(said.contains("more than the 15000000 that are shipped"), "{said}");
    assert!(!file.exists(), "it is left for somebody to ship");
}

#[test]
fn a_platform_that_cannot_be_built_for_is_reported_with_what_is_missing() {
    let directory = Directory::new();
    let said = fails(script("image", directory.path()).args(["--platform", "linux/riscv64"]));
    assert!(said.contains("what is the platform linux/riscv64?"), "{said}");
    // A toolchain without the other machine's target.
    fs::write(directory.path().join("rustc"), "#!/bin/sh\necho /nonexistent\n").unwrap();
    succeeds(Command::new("chmod").arg("755").arg(directory.path().join("rustc")));
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let other = if cfg!(target_arch = "x86_64") { ("linux/arm64", "aarch64") } else { ("linux/amd64", "x86_64") };
    let said = fails(script("image", directory.path()).env("PATH", path).args(["--platform", other.0]));
    let wanted = format!("{} cannot be built here: Rust's target is missing: rustup target add {}", other.0, other.1);
    assert!(said.contains(&wanted), "{said}");
    for wrong in [&["--output"][..], &["--what"], &["everything"]] {
        fails(script("image", directory.path()).args(wrong));
    }
    assert!(succeeds(script("image", directory.path()).arg("--help")).contains("scripts/image test-pods"));
}
