//! Whether an attachment is dead: judged by its device, by what the container runtime lists, and by what this very runtime has
//! listed before. Pure.
//!
//! Nothing is dead whose state is not known. A pod with a device may be alive whatever a list says: the runtime that was asked
//! may be another one than the pod's, may have lost its state, or may still be reading it.

use std::time::Duration;

use podwire_attachment::release::Attached;

use crate::node::cri::Listing;
use crate::node::cri_socket::CriSocket;
use crate::node::listed_sandboxes::ListedSandboxes;

/// A pod with a device may be one that the runtime is still starting: it is on the runtime's list only when its sandbox
/// runs. kubelet gives up on that after four minutes, so such a pod has to look dead this many times longer: five
/// minutes by default.
const LONGER_WITH_DEVICE: u32 = 5;

/// What is known of the container runtime.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Runtime {
    /// There is no runtime with a CRI: the pod's device decides.
    Absent,
    /// The runtime does not reply.
    Silent(CriSocket, String),
    /// What it lists.
    Lists(CriSocket, Listing),
}

/// Whether an attachment is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not, or that is not known.
    Alive,
    /// It looks dead, and is once it has looked so for long enough.
    Dead { why: &'static str, for_at_least: Duration },
    /// It has a device, and is a sandbox that the runtime does not list and has never listed, or of a runtime whose list has
    /// none of the node's pods. It is kept, and reported once that has lasted so long.
    Unlisted { for_at_least: Duration },
}

/// How many of the node's pods, which are attachments of sandboxes with a device, a runtime lists, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pods {
    pub(super) listed: usize,
    pub(super) all: usize,
}

impl Pods {
    pub(super) fn count(attached: &[Attached], listing: &Listing) -> Self {
        let pods = || attached.iter().filter(|attached| attached.has_device && attached.record.sandbox);
        let listed = pods().filter(|pod| listing.sandboxes.contains(&pod.record.attachment.container)).count();
        Self { listed, all: pods().count() }
    }

    /// Whether the runtime lists none of them though there are some: another runtime's list, or one that lost its state.
    pub(super) fn are_unknown(self) -> bool {
        self.listed == 0 && self.all > 0
    }
}

/// Judges an attachment, one among `pods`.
pub(super) fn judge(
    attached: &Attached,
    runtime: &Runtime,
    before: &ListedSandboxes,
    pods: Pods,
    after: Duration,
) -> Verdict {
    let Attached { record, has_device } = attached;
    let container = &record.attachment.container;
    let dead = |why, for_at_least| Verdict::Dead { why, for_at_least };
    match runtime {
        Runtime::Silent(..) => Verdict::Alive,
        // Stopped or running, the runtime will call DEL when it removes it.
        Runtime::Lists(_, listing) if listing.sandboxes.contains(container) => Verdict::Alive,
        // No packet reaches it.
        _ if !has_device => dead("its device is gone", after),
        Runtime::Lists(socket, listing) if record.sandbox => {
            let for_at_least = after * LONGER_WITH_DEVICE;
            match before.has(&socket.path, &listing.name, container) && !pods.are_unknown() {
                true => dead("the container runtime has forgotten it", for_at_least),
                false => Verdict::Unlisted { for_at_least },
            }
        }
        // Podman's, or of a manual call of the plugin: it lives as long as its device.
        _ => Verdict::Alive,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use podwire_attachment::ledger::Record;

    use super::*;
    use crate::node::cri_socket::Why;

    const AFTER: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(300);

    fn attached(container: &str, sandbox: bool, has_device: bool) -> Attached {
        let record = serde_json::json!({
            "attachment": {"network": "podwire", "container": container, "interface": "eth0"},
            "addresses": [{"address": "10.244.1.2", "set": "0"}],
            "sandbox": sandbox,
        });
        Attached { record: serde_json::from_value::<Record>(record).unwrap(), has_device }
    }

    fn runtime(path: &str, name: &str, sandboxes: &[&str]) -> (CriSocket, Listing) {
        let sandboxes = sandboxes.iter().map(|id| (*id).to_owned()).collect();
        (CriSocket { path: path.into(), why: Why::Found }, Listing { name: name.into(), sandboxes })
    }

    /// The verdict on "pod", a sandbox with a device or what is said, on a node with another pod, `other`.
    fn verdict(sandbox: bool, has_device: bool, listed: &[&str], before: (&str, &str, &[&str])) -> Verdict {
        let (path, name, sandboxes) = before;
        let (socket, listing) = runtime(path, name, sandboxes);
        let mut remembered = ListedSandboxes::default();
        remembered.enter(&socket.path, &listing, &HashSet::from(["pod", "other"]));
        let (socket, listing) = runtime("/a", "containerd", listed);
        let pod = attached("pod", sandbox, has_device);
        let pods = Pods::count(&[pod.clone(), attached("other", true, true)], &listing);
        judge(&pod, &Runtime::Lists(socket, listing), &remembered, pods, AFTER)
    }

    const FORGOTTEN: Verdict = Verdict::Dead { why: "the container runtime has forgotten it", for_at_least: LONG };
    const UNLISTED: Verdict = Verdict::Unlisted { for_at_least: LONG };
    const GONE: Verdict = Verdict::Dead { why: "its device is gone", for_at_least: AFTER };

    #[test]
    fn a_pod_with_a_device_is_dead_only_when_the_runtime_that_listed_it_has_forgotten_it() {
        let once = ("/a", "containerd", ["pod"].as_slice());
        assert_eq!(verdict(true, true, &["pod"], once), Verdict::Alive);
        assert_eq!(verdict(true, true, &["other"], once), FORGOTTEN);
        // Another runtime has listed it: at another socket, of another name, or none has.
        assert_eq!(verdict(true, true, &["other"], ("/b", "containerd", &["pod"])), UNLISTED);
        assert_eq!(verdict(true, true, &["other"], ("/a", "cri-o", &["pod"])), UNLISTED);
        assert_eq!(verdict(true, true, &["other"], ("/a", "containerd", &["other"])), UNLISTED);
        // A list without any of the node's pods proves nothing, whatever else is on it.
        for list in [[].as_slice(), &["of-the-host"]] {
            assert_eq!(verdict(true, true, list, once), UNLISTED);
        }
    }

    #[test]
    fn a_pod_without_a_device_is_dead_and_one_that_is_no_sandbox_lives_as_long_as_its_device() {
        let once = ("/a", "containerd", ["pod"].as_slice());
        for list in [[].as_slice(), &["other"]] {
            assert_eq!(verdict(true, false, list, once), GONE);
            assert_eq!(verdict(false, false, list, once), GONE);
            assert_eq!(verdict(false, true, list, once), Verdict::Alive);
        }
        assert_eq!(verdict(true, false, &["pod"], once), Verdict::Alive);
        let (socket, _) = runtime("/a", "containerd", &[]);
        let none = Pods { listed: 0, all: 0 };
        for device in [true, false] {
            let pod = attached("pod", true, device);
            let judge = |runtime| judge(&pod, &runtime, &ListedSandboxes::default(), none, AFTER);
            assert_eq!(judge(Runtime::Silent(socket.clone(), "why".into())), Verdict::Alive);
            assert_eq!(judge(Runtime::Absent), if device { Verdict::Alive } else { GONE });
        }
    }
}
