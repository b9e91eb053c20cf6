//! The control plane: etcd, the API server, the controllers and the scheduler, with what they are told.

use std::path::Path;
use std::process::Command;

use podwire_tests::lab::kube::{API_PORT, PODS, Place, SERVICES, world_addresses};

use crate::service::Service;

/// Whose its logs are.
pub(crate) const OWNER: &str = "control-plane";

/// Its programs, which do not run yet.
pub(crate) fn services(place: &Place) -> Result<Vec<Service>, String> {
    let directory = place.of(OWNER);
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let commands = [etcd(place), api_server(place), controllers(place), scheduler(place)];
    Ok(commands.into_iter().map(|command| Service::of_command(place, OWNER, command)).collect())
}

fn etcd(place: &Place) -> Command {
    let mut etcd = Command::new(place.program("etcd"));
    etcd.arg(flag("data-dir", &place.of(OWNER).join("etcd")));
    etcd.args(["--unsafe-no-fsync", "--log-level=error"]);
    etcd.args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"]);
    etcd
}

fn api_server(place: &Place) -> Command {
    let mut server = Command::new(place.program("kube-apiserver"));
    let credential = |name: &str| place.credentials().join(name);
    server.args(["--etcd-servers=http://127.0.0.1:2379", "--profiling=false", "--allow-privileged=true"]);
    server.args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"]);
    server.arg(format!("--service-cluster-ip-range={SERVICES}"));
    server.arg(format!("--advertise-address={}", world_addresses()[0].ip()));
    server.arg(format!("--secure-port={API_PORT}"));
    server.arg(flag("client-ca-file", &credential("ca.crt")));
    server.arg(flag("tls-cert-file", &credential("apiserver.crt")));
    server.arg(flag("tls-private-key-file", &credential("apiserver.key")));
    server.arg(flag("kubelet-client-certificate", &credential("kubelet-client.crt")));
    server.arg(flag("kubelet-client-key", &credential("kubelet-client.key")));
    server.arg("--kubelet-preferred-address-types=InternalIP");
    server.arg(flag("token-auth-file", &credential("tokens.csv")));
    server.arg("--service-account-issuer=https://kubernetes.default.svc");
    server.arg(flag("service-account-key-file", &credential("accounts.key")));
    server.arg(flag("service-account-signing-key-file", &credential("accounts.key")));
    server
}

fn controllers(place: &Place) -> Command {
    let mut controllers = Command::new(place.program("kube-controller-manager"));
    controllers.arg(flag("kubeconfig", &place.kubeconfig("kube-controller-manager")));
    controllers.args(["--leader-elect=false", "--profiling=false", "--use-service-account-credentials=true"]);
    controllers.arg("--allocate-node-cidrs=true");
    controllers.arg(format!("--cluster-cidr={PODS}"));
    controllers.args(["--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"]);
    controllers.arg(format!("--service-cluster-ip-range={SERVICES}"));
    controllers.arg(flag("root-ca-file", &place.credentials().join("ca.crt")));
    controllers.arg(flag("service-account-private-key-file", &place.credentials().join("accounts.key")));
    controllers
}

fn scheduler(place: &Place) -> Command {
    let mut scheduler = Command::new(place.program("kube-scheduler"));
    scheduler.arg(flag("kubeconfig", &place.kubeconfig("kube-scheduler")));
    scheduler.args(["--leader-elect=false", "--profiling=false"]);
    scheduler
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
