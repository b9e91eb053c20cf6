//! The image that runtimes run: Debian's static busybox, and a server that says whom it sees. An OCI image layout in a
//! tar archive (image-spec v1.0, image-layout.md), which containerd and podman import.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::host::Host;

/// Its name.
pub const NAME: &str = "podwire.test/pod:1";

/// A command line of the image's: a web server on [`PORT`] that answers [`ask`]. The image's own command sleeps, as a
/// sandbox should.
pub const SERVER: [&str; 6] = ["/bin/httpd", "-f", "-p", "7777", "-h", "/www"];

/// The port that [`SERVER`] listens on, TCP.
pub const PORT: u16 = 7777;

/// Where the image's busybox is on the machine.
const BUSYBOX: &str = "/bin/busybox";

/// What the image calls busybox by.
const NAMES: [&str; 6] = ["cat", "httpd", "ip", "nc", "sh", "sleep"];

/// Answers with the query and the address that it came from.
const SCRIPT: &str = "#!/bin/sh\necho\necho \"$QUERY_STRING $REMOTE_ADDR\"\n";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// The archive.
///
/// # Errors
/// When the machine has no busybox.
pub fn archive() -> io::Result<Vec<u8>> {
    oci(NAME, &layer()?, &json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "infinity"]}))
}

/// An image of one layer, as an archive: its name, the layer as a tar archive, and what is executed in it, in the words of
/// image-spec (config.md).
///
/// # Errors
/// None that a buffer in memory has.
pub fn oci(name: &str, layer: &[u8], executed: &Value) -> io::Result<Vec<u8>> {
    let mut layout = tar::Builder::new(Vec::new());
    append(&mut layout, "oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    let configuration = json!({
        // What image-spec calls a machine of this kind, in Go's words.
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": executed,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    let layer = blob(&mut layout, "application/vnd.oci.image.layer.v1.tar", layer)?;
    let configuration =
        blob(&mut layout, "application/vnd.oci.image.config.v1+json", configuration.to_string().as_bytes())?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": configuration, "layers": [layer]});
    let mut manifest = blob(&mut layout, manifest_type, manifest.to_string().as_bytes())?;
    manifest["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    append(&mut layout, "index.json", 0o644, index.to_string().as_bytes())?;
    layout.into_inner()
}

/// The file system, as a tar archive.
fn layer() -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = std::fs::read(BUSYBOX)
        .map_err(|error| io::Error::new(error.kind(), format!("{BUSYBOX}, of the package busybox-static: {error}")))?;
    append(&mut layer, "bin/busybox", 0o755, &busybox)?;
    for name in NAMES {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    append(&mut layer, "www/cgi-bin/seen", 0o755, SCRIPT.as_bytes())?;
    append(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    layer.into_inner()
}

/// Adds a file to an archive in memory.
///
/// # Errors
/// When the path is too long for the format.
pub fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, content)
}

/// Adds a blob; its descriptor.
fn blob(layout: &mut tar::Builder<Vec<u8>>, media_type: &str, content: &[u8]) -> io::Result<Value> {
    let digest = digest(content);
    append(layout, &format!("blobs/{}", digest.replace(':', "/")), 0o644, content)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Asks the server of a container at an address, port [`PORT`], with a token; the address that it saw.
///
/// # Errors
/// A sentence that says how far it came.
pub fn ask(from: &Host, to: IpAddr) -> Result<IpAddr, String> {
    ask_at(from, (to, PORT).into())
}

/// Asks the server of a container at an address and a port; the address that it saw.
///
/// # Errors
/// A sentence that says how far it came.
pub fn ask_at(from: &Host, to: SocketAddr) -> Result<IpAddr, String> {
    let attempt = || -> io::Result<IpAddr> {
        let token = super::exchange::token()?;
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET /cgi-bin/seen?{token} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let seen = answer.trim_end().lines().last().and_then(|line| line.strip_prefix(&token)?.strip_prefix(" ["));
        let seen = seen.and_then(|seen| seen.strip_suffix(']')?.parse::<IpAddr>().ok());
        let seen = seen.ok_or_else(|| io::Error::other(format!("sent {token}, got {answer:?} back")))?;
        Ok(seen.to_canonical())
    };
    from.enter(attempt).map_err(|error| format!("from {} to {to}: {error}", from.name))
}
