//! What is decoded of a Node, and what of it is published.

use super::*;

/// A Node as an API server writes it, cut short where there is more of the same.
const NODE: &str = r#"{
  "kind": "Node", "apiVersion": "v1",
  "metadata": {
    "name": "node-1", "uid": "5f3c2f1c-6f0a-4d51-b1c5-7d1a5bb3f1de", "resourceVersion": "1234",
    "creationTimestamp": "2026-11-22T19:33:43Z",
    "labels": {"kubernetes.io/hostname": "node-1"},
    "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:images": {}}}}]
  },
  "spec": {
    "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
    "taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
  },
  "status": {
    "capacity": {"cpu": "2"},
    "conditions": [{"type": "Ready", "status": "True"}],
    "addresses": [
      {"type": "Hostname", "address": "node-1"},
      {"type": "ExternalIP", "address": "203.0.113.7"},
      {"type": "InternalIP", "address": "192.168.50.1"},
      {"type": "InternalIP", "address": "fd00:192:168:50::1"},
      {"type": "InternalIP", "address": "172.16.0.1"}
    ],
    "images": [{"names": ["registry.example/pause:3.10"], "sizeBytes": 319823}]
  }
}"#;

fn read(text: &str) -> Object<CachedNode> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_node_is_read_and_the_first_internal_address_of_each_family_counts() {
    let node = read(NODE);
    assert_eq!((node.key.as_str(), node.version.as_str()), ("node-1", "1234"));
    let expected = CachedNode {
        created: 20_261_122_193_343,
        ipv4: Some([192, 168, 50, 1].into()),
        ipv6: Some("fd00:192:168:50::1".parse().unwrap()),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
        others: vec![[203, 0, 113, 7].into(), [172, 16, 0, 1].into()],
    };
    assert_eq!(node.kept, expected);
}

#[test]
fn a_node_that_has_nothing_yet_or_something_unheard_of_is_read_as_well() {
    let bare = r#"{"metadata": {"name": "a", "resourceVersion": "1"}}"#;
    assert_eq!(read(bare).kept, CachedNode::default());
    let odd = NODE.replace("192.168.50.1", "not an address").replace("10.244.1.0/24", "10.244.1.0/240");
    let odd = read(&odd).kept;
    assert_eq!((odd.ipv4, odd.pod_cidrs), (Some([172, 16, 0, 1].into()), Vec::new()));
}

#[test]
fn of_a_flood_of_addresses_no_more_are_kept_than_are_needed_to_say_so() {
    let many: Vec<_> = (0..5000)
        .map(|count| format!(r#"{{"type": "InternalIP", "address": "172.16.{}.{}"}}"#, count / 250, count % 250))
        .collect();
    let flood = NODE.replace(r#"{"type": "Hostname", "address": "node-1"}"#, &many.join(", "));
    assert_eq!(read(&flood).kept.others.len(), OTHER_ADDRESSES + 1);
}

#[test]
fn a_heartbeat_changes_nothing_that_is_cached() {
    let beat = NODE.replace("1234", "1300").replace(r#""status": "True""#, r#""status": "True", "reason": "later""#);
    assert_eq!(read(NODE).kept, read(&beat).kept);
}
