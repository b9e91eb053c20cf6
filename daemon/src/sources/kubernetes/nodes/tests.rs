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

fn entry(text: &str) -> Entry {
    serde_json::from_str::<Node>(text).unwrap().entry
}

#[test]
fn a_node_is_read_and_the_first_internal_address_of_each_family_counts() {
    let node: Node = serde_json::from_str(NODE).unwrap();
    assert_eq!((node.name.as_str(), node.version.as_str()), ("node-1", "1234"));
    let expected = Entry {
        created: 20_261_122_193_343,
        ipv4: Some([192, 168, 50, 1].into()),
        ipv6: Some("fd00:192:168:50::1".parse().unwrap()),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
    };
    assert_eq!(node.entry, expected);
}

#[test]
fn a_node_that_has_nothing_yet_or_something_unheard_of_is_read_as_well() {
    let bare = r#"{"metadata": {"name": "a", "resourceVersion": "1"}}"#;
    assert_eq!(entry(bare), Entry::default());
    let odd = NODE.replace("192.168.50.1", "not an address").replace("10.244.1.0/24", "10.244.1.0/240");
    let odd = entry(&odd);
    assert_eq!((odd.ipv4, odd.pod_cidrs), (Some([172, 16, 0, 1].into()), Vec::new()));
}

#[test]
fn pain33_a_heartbeat_is_the_same_entry() {
    let beat = NODE.replace("1234", "1300").replace(r#""status": "True""#, r#""status": "True", "reason": "later""#);
    assert_eq!(entry(NODE), entry(&beat));
}

#[test]
fn events_of_a_watch_are_read() {
    let line = |kind: &str, object: &str| format!(r#"{{"type":"{kind}","object":{object}}}"#);
    let read = |text: String| serde_json::from_str::<WatchEvent<Node>>(&text).unwrap();
    assert!(matches!(read(line("DELETED", NODE)), WatchEvent::Deleted(node) if node.name == "node-1"));
    let bookmark = r#"{"kind": "Node", "apiVersion": "v1", "metadata": {"resourceVersion": "99"}}"#;
    let bookmark = read(line("BOOKMARK", bookmark));
    assert!(matches!(bookmark, WatchEvent::Bookmark(bookmark) if bookmark.metadata.resource_version == "99"));
    let error = r#"{"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}"#;
    let WatchEvent::Error(status) = read(line("ERROR", error)) else { panic!("no error") };
    assert_eq!(Failure::from(kube::Error::Api(status)).kind, Kind::TooOld);
}

#[test]
fn what_the_api_refuses_names_the_way_out() {
    let answer = |code: u16, message: &str| {
        let status = format!(r#"{{"status": "Failure", "message": "{message}", "code": {code}}}"#);
        Failure::from(kube::Error::Api(serde_json::from_str(&status).unwrap()))
    };
    let unauthorized = answer(401, "Unauthorized");
    assert_eq!(unauthorized.kind, Kind::Refused);
    let said = "list nodes in the Kubernetes API: 401 Unauthorized: it does not accept the token or certificate of this daemon";
    assert_eq!(unauthorized.why, said);
    assert!(
        answer(403, "nodes is forbidden").why.ends_with("nodes is forbidden: allow it to get, list and watch nodes")
    );
    assert_eq!(answer(500, "etcdserver: request timed out").kind, Kind::Away);
}

#[test]
fn an_error_and_what_is_behind_it_are_said_once_each() {
    let inner = std::io::Error::from_raw_os_error(111);
    let outer = std::io::Error::other(inner);
    assert_eq!(words(&outer), "Connection refused (os error 111)");
}

#[test]
fn chance_is_not_always_the_same() {
    assert!((0..8).any(|_| chance() != chance()));
}
