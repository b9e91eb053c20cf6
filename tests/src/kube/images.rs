//! The images that every cluster has, as archives: the sandbox's, which is also a small tool box, and the DNS server's.

use std::fs;
use std::path::Path;

use podwire_tests::lab::image;
use podwire_tests::lab::kube::Place;
use serde_json::json;

/// The name of the DNS server's image.
pub(crate) const DNS: &str = "podwire.test/coredns:1";

/// Writes them, and copies of those of podwire, to where the nodes look for them.
pub(crate) fn make(place: &Place, others: &[std::path::PathBuf]) -> Result<(), String> {
    let directory = place.images();
    let step = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(step)?;
    let pod = image::archive().map_err(|error| format!("the image of the sandboxes: {error}"))?;
    fs::write(directory.join("pod.tar"), pod).map_err(step)?;
    let dns = dns(&place.program("coredns")).map_err(|error| format!("the image of the DNS server: {error}"))?;
    fs::write(directory.join("dns.tar"), dns).map_err(step)?;
    for archive in others {
        let name = archive.file_name().unwrap_or_default();
        fs::copy(archive, directory.join(name)).map_err(|error| format!("{}: {error}", archive.display()))?;
    }
    Ok(())
}

fn dns(program: &Path) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    image::append(&mut layer, "coredns", 0o755, &fs::read(program)?)?;
    image::oci(DNS, &layer.into_inner()?, &json!({"Entrypoint": ["/coredns"]}))
}
