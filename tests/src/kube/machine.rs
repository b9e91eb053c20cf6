//! The first process of a node: it furnishes the node's mounts, and keeps containerd, kubelet and kube-proxy running.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;
use podwire_tests::lab::kube::{self, DNS, PODS, Place};
use podwire_tests::lab::{eventually, image};
use serde_json::json;

use crate::control_groups;
use crate::service::{self, Service, write};

/// containerd's socket.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where the programs' configuration is.
const CONFIGURATION: &str = "/run/kube";

/// Where Debian's package has the reference plugins, of which containerd wants the loopback.
const LOOPBACK: &str = "/usr/lib/cni/loopback";

/// What lasts on a node's disk.
const DISK: [&str; 4] = ["/var/lib", "/var/log", "/opt", "/etc/cni"];

/// Settings of the whole machine that kubelet insists on. It finds them as it wants them, and the machine's stay as they are.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// How long containerd may take to start, beside two others.
const START: Duration = Duration::from_secs(120);

/// Never ends by itself.
pub(crate) fn machine(place: &Place, name: &str) -> Result<ExitCode, String> {
    if std::process::id() != 1 {
        return Err("this is the first process of a node, which `podwire-kube up` starts".into());
    }
    furnish(place, name)?;
    let number: u16 =
        kube::read(&place.number(name))?.parse().map_err(|error| format!("the node's number: {error}"))?;
    configure(place, name)?;
    let mut containerd = Service::of_command(place, name, containerd());
    containerd.keep();
    eventually(START, || UnixStream::connect(SOCKET).map(drop).map_err(|error| format!("containerd: {error}")))?;
    import(place)?;
    let services = vec![
        containerd,
        Service::of_command(place, name, kubelet(place, name, number)),
        Service::of_command(place, name, kube_proxy(place, name)),
    ];
    eprintln!("{name} is furnished");
    service::keep_all(services)
}

/// A name, control groups, processes and a disk of the node's own.
fn furnish(place: &Place, name: &str) -> Result<(), String> {
    let apart = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(apart).map_err(|errno| format!("leave the world: {errno}"))?;
    sethostname(name).map_err(|errno| format!("be called {name}: {errno}"))?;
    control_groups::enter(&format!("{}/{name}", place.control_group()?))?;
    let none = None::<&str>;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(|errno| format!("mount proc: {errno}"))?;
    for directory in DISK {
        let on_disk = place.disk(name).join(directory.trim_start_matches('/').replace('/', "-"));
        bind(&on_disk, Path::new(directory))?;
    }
    for (setting, value) in SETTINGS {
        let (as_wanted, path) =
            (Path::new(CONFIGURATION).join("settings").join(setting), Path::new("/proc/sys").join(setting));
        let parent = as_wanted.parent().unwrap_or(Path::new("/"));
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&as_wanted, value));
        written.map_err(|error| format!("{}: {error}", as_wanted.display()))?;
        mount(Some(&as_wanted), &path, none, MsFlags::MS_BIND, none)
            .map_err(|errno| format!("bind {}: {errno}", path.display()))?;
    }
    // What a pod's mount brings, the node has too, and the other way round: kubelet and volumes rely on it.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)
        .map_err(|errno| format!("share the mounts: {errno}"))
}

fn bind(source: &Path, place: &Path) -> Result<(), String> {
    let step = |error: std::io::Error| format!("{} on {}: {error}", source.display(), place.display());
    fs::create_dir_all(source).map_err(step)?;
    fs::create_dir_all(place).map_err(step)?;
    mount(Some(source), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| step(errno.into()))
}

/// The configurations of the programs, and what has to be there before them.
fn configure(place: &Place, name: &str) -> Result<(), String> {
    let plugins = Path::new("/opt/cni/bin");
    let copied = fs::create_dir_all(plugins).and_then(|()| fs::copy(LOOPBACK, plugins.join("loopback")));
    copied.map_err(|error| format!("{LOOPBACK}, of the package containernetworking-plugins: {error}"))?;
    fs::create_dir_all("/etc/cni/net.d").map_err(|error| format!("/etc/cni/net.d: {error}"))?;
    // Nobody answers there: the DNS of the cluster knows the cluster, and no more.
    write(Path::new("/etc/resolv.conf"), "nameserver 192.0.2.53\n")?;
    // This machine's root may lack CAP_SYS_RESOURCE, without which no process may be made dearer than its parent.
    let containerd = format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         restrict_oom_score_adj = true\ndisable_apparmor = true\nsandbox_image = \"{}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/opt/cni/bin\"\nconf_dir = \"/etc/cni/net.d\"\n",
        image::NAME,
    );
    write(&configuration("containerd.toml"), &containerd)?;
    let kubelet = json!({
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs", "failCgroupV1": false, "failSwapOn": false, "oomScoreAdj": 0,
        "clusterDomain": "cluster.local", "clusterDNS": [DNS], "resolvConf": "/etc/resolv.conf",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": place.credentials().join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        // All nodes have the machine's one disk, whoever else has filled it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "maxPods": 130,
    });
    write(&configuration("kubelet.json"), &kubelet.to_string())?;
    // The settings of connection tracking are the machine's, save one that belongs to a network: it has kube-proxy's default, which
    // Kubernetes' own tests look for.
    let kube_proxy = json!({
        "kind": "KubeProxyConfiguration", "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "nftables", "hostnameOverride": name, "clusterCIDR": PODS, "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": place.kubeconfig("kube-proxy")},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "1h"},
    });
    write(&configuration("kube-proxy.json"), &kube_proxy.to_string())
}

fn configuration(name: &str) -> PathBuf {
    Path::new(CONFIGURATION).join(name)
}

/// Every image that lies ready and is not there yet.
fn import(place: &Place) -> Result<(), String> {
    let images = fs::read_dir(place.images()).map_err(|error| format!("{}: {error}", place.images().display()))?;
    for image in images.filter_map(Result::ok) {
        let imported = Path::new("/var/lib/imported").join(image.file_name());
        if imported.exists() {
            continue;
        }
        let output = Command::new("ctr").args(["--namespace=k8s.io", "images", "import"]).arg(image.path()).output();
        let output = output.map_err(|error| format!("ctr: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("import {}: {said}", image.path().display()));
        }
        let noted = fs::create_dir_all("/var/lib/imported").and_then(|()| fs::write(&imported, ""));
        noted.map_err(|error| format!("{}: {error}", imported.display()))?;
    }
    Ok(())
}

fn containerd() -> Command {
    let mut containerd = Command::new("containerd");
    containerd.arg("--config").arg(configuration("containerd.toml"));
    containerd
}

fn kubelet(place: &Place, name: &str, number: u16) -> Command {
    let mut kubelet = Command::new(place.program("kubelet"));
    let addresses = kube::addresses(number).map(|address| address.ip().to_string()).join(",");
    kubelet.arg(format!("--config={}", configuration("kubelet.json").display()));
    kubelet.arg(format!("--kubeconfig={}", place.kubeconfig(name).display()));
    kubelet.args([format!("--hostname-override={name}"), format!("--node-ip={addresses}")]);
    kubelet
}

fn kube_proxy(place: &Place, _name: &str) -> Command {
    let mut kube_proxy = Command::new(place.program("kube-proxy"));
    kube_proxy.arg(format!("--config={}", configuration("kube-proxy.json").display()));
    kube_proxy
}
