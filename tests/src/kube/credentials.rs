//! Who may do what: an authority for the certificates of the API server, and a token for everybody who asks it.

use std::fs;
use std::process::Command;

use podwire_tests::lab::kube::{self, API_PORT, Place, world_addresses};
use serde_json::json;

use crate::service::write;

/// Certificates, keys, tokens and kubeconfigs.
pub(crate) fn make(place: &Place, nodes: u16) -> Result<(), String> {
    let directory = place.credentials();
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let addresses = world_addresses().map(|address| format!("IP:{}", address.ip()));
    let names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:10.96.0.1,IP:fd00:10:96::1";
    let script = format!(
        "set -e
         key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650'
         openssl req -x509 $key -keyout ca.key -out ca.crt -subj /CN=podwire-kube
         openssl req -x509 $key -CA ca.crt -CAkey ca.key -keyout apiserver.key -out apiserver.crt \
           -subj /CN=kube-apiserver -addext subjectAltName={names},{} -addext basicConstraints=critical,CA:FALSE
         openssl req -x509 $key -CA ca.crt -CAkey ca.key -keyout kubelet-client.key -out kubelet-client.crt \
           -subj /O=system:masters/CN=kube-apiserver -addext extendedKeyUsage=clientAuth \
           -addext basicConstraints=critical,CA:FALSE
         openssl ecparam -genkey -name prime256v1 -noout -out accounts.key",
        addresses.join(",")
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(&directory).output();
    let made = made.map_err(|error| format!("sh: {error}"))?;
    if !made.status.success() {
        return Err(format!("make certificates: {}", String::from_utf8_lossy(&made.stderr)));
    }

    let mut users: Vec<_> = [
        ("administrator", "administrator", "system:masters"),
        ("kube-controller-manager", "system:kube-controller-manager", ""),
        ("kube-scheduler", "system:kube-scheduler", ""),
        ("kube-proxy", "system:kube-proxy", ""),
    ]
    .map(|(file, user, group)| (file.to_owned(), user.to_owned(), group))
    .into();
    users.extend((1..=nodes).map(kube::name).map(|node| {
        let user = format!("system:node:{node}");
        (node, user, "system:nodes")
    }));
    // The cluster is this machine's own, and ends with it: whoever can ask it could do so with a secret token too.
    let tokens: String =
        users.iter().map(|(file, user, group)| format!("{file},{user},{file},\"{group}\"\n")).collect();
    write(&directory.join("tokens.csv"), &tokens)?;
    users.iter().try_for_each(|(file, ..)| write(&place.kubeconfig(file), &kubeconfig(place, file)))
}

/// How to ask the API server with a token.
fn kubeconfig(place: &Place, token: &str) -> String {
    let address = world_addresses()[0].ip();
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "podwire-kube",
        "clusters": [{"name": "podwire-kube", "cluster": {
            "server": format!("https://{address}:{API_PORT}"),
            "certificate-authority": place.credentials().join("ca.crt"),
        }}],
        "users": [{"name": token, "user": {"token": token}}],
        "contexts": [{"name": "podwire-kube", "context": {"cluster": "podwire-kube", "user": token}}],
    })
    .to_string()
}
