//! `ctr run --cni`: containerd's own client, which calls plugins by itself. It looks for them in /opt/cni/bin and for
//! the first conflist in /etc/cni/net.d, and names a container `<namespace>-<name>`.

use podwire_tests::lab::runtime::{Call, configuration};
use podwire_tests::lab::scene::{check, field, json as look, state};
use podwire_tests::lab::{SOON, eventually, image, node::CONFLISTS};

use crate::stage::{answers, as_before, containerd, held, pod_devices};

#[test]
fn ctr_a_foreground_container_has_an_address_and_releases_it() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let cgroup = format!("{}/one", containerd.machine.cgroup());
        let run = ["--namespace", "k8s.io", "run", "--rm", "--cni", "--cgroup", &cgroup, image::NAME, "one"];
        let mut ctr = containerd.machine.start("ctr", "ctr", &[&run[..], &image::SERVER].concat())?;
        let addresses = ["10.244.1.2".parse().unwrap(), "fd00:10:244:1::2".parse().unwrap()];
        answers(&host, |_| None, &addresses).map_err(|why| format!("{why}\nctr has said {:?}", ctr.said()))?;
        let exec = ["tasks", "exec", "--exec-id", "look", "one", "ip", "address", "show", "eth0"];
        let inside = containerd.ctr(&exec)?;
        for address in ["inet 10.244.1.2/32 ", "inet6 fd00:10:244:1::2/128 "] {
            check(inside.contains(address), || format!("no {address}in the container: {inside}"))?;
        }
        // The end of the container is ctr's moment for DEL: with an empty CNI_NETNS.
        containerd.ctr(&["tasks", "kill", "--signal", "KILL", "one"])?;
        eventually(SOON, || as_before(&before, &host))
            .map_err(|why| format!("{why}\nctr has said {:?}", ctr.said()))?;
        ctr.kill()
    });
}

#[test]
fn ctr_a_detached_container_can_be_deleted_later() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let cgroup = format!("{}/one", containerd.machine.cgroup());
        let run = ["run", "--detach", "--cni", "--cgroup", &cgroup, image::NAME, "one"];
        containerd.ctr(&[&run[..], &image::SERVER].concat())?;
        answers(&host, |_| None, &["10.244.1.2".parse().unwrap(), "fd00:10:244:1::2".parse().unwrap()])?;
        // Without a pod's name the container's id says whose the device is.
        let devices = pod_devices(&host)?;
        check(devices.len() == 1 && devices[0]["ifalias"] == "podwire: k8s.io-one", || format!("{devices:?}"))?;
        containerd.ctr(&["tasks", "kill", "--signal", "KILL", "one"])?;
        eventually(SOON, || containerd.ctr(&["tasks", "delete", "one"]))?;
        containerd.ctr(&["containers", "delete", "one"])?;
        // The device went with the container's namespace. ctr calls no DEL for a container that it has left alone: what
        // is held is released when somebody else does.
        eventually(SOON, || {
            let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
            check(!links.iter().any(|name| name.starts_with("pw") && name.len() == 15), || format!("{links:?}"))
        })?;
        check(held(&host).len() == 3, || format!("held: {:?}", held(&host)))?;
        let del = Call::new("DEL", "k8s.io-one", "/proc/0/ns/net".as_ref(), &configuration(&host, CONFLISTS)?);
        del.execute(&host)?.result()?;
        as_before(&before, &host)
    });
}
