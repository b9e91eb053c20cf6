//! Objects as they are decoded: defaults, validation, and what is said of what is not accepted.

use crate::policy::documents::Objects;
use crate::policy::network_policy::{Direction, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::port::{Protocol, Which};

fn policy(spec: &str) -> NetworkPolicy {
    read(spec).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

fn read(spec: &str) -> Result<NetworkPolicy, String> {
    let text =
        format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web}}\nspec: {spec}\n");
    let shown = |rejected: Vec<_>| rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Objects::read(&text).map(|objects| objects.policies[0].clone()).map_err(shown)
}

#[test]
fn policy_types_have_the_defaults_of_the_api_server() {
    let isolates = |spec: &str| Direction::BOTH.map(|direction| policy(spec).rules(direction).map(<[_]>::len));
    assert_eq!(isolates("{podSelector: {}}"), [Some(0), None]);
    assert_eq!(isolates("{podSelector: {}, ingress: [], egress: []}"), [Some(0), None]);
    assert_eq!(isolates("{podSelector: {}, egress: [{}]}"), [Some(0), Some(1)]);
    assert_eq!(isolates("{podSelector: {}, ingress: [{}], policyTypes: [Egress]}"), [None, Some(0)]);
    assert_eq!(isolates("{podSelector: {}, policyTypes: []}"), [Some(0), None]);
    assert_eq!(isolates("{podSelector: {}, policyTypes: [Egress, Ingress]}"), [Some(0), Some(0)]);
    assert_eq!(isolates("{podSelector: {}, ingress: null}"), [Some(0), None]);
}

#[test]
fn rules_have_the_defaults_of_the_api_server() {
    let spec = "{podSelector: {}, ingress: [{from: [], ports: []}, {ports: [{}, {port: 80}, {protocol: UDP, port: 53, \
                endPort: 53}, {port: 1, endPort: 9}, {port: http}]}]}";
    let rules = policy(spec).ingress.unwrap();
    assert_eq!((&rules[0].peers, &rules[0].ports), (&None, &None), "empty lists are none");
    let ports: Vec<_> = rules[1].ports.iter().flatten().map(|ports| (ports.protocol, ports.which.clone())).collect();
    let expected = [
        (Protocol::Tcp, Which::ALL),
        (Protocol::Tcp, Which::Number(80)),
        (Protocol::Udp, Which::Number(53)),
        (Protocol::Tcp, Which::Range(1, 9)),
        (Protocol::Tcp, Which::Named("http".into())),
    ];
    assert_eq!(ports, expected);
}

#[test]
fn what_is_wrong_is_named_with_field_value_and_what_is_allowed() {
    let ingress = |rule: &str| read(&format!("{{podSelector: {{}}, ingress: [{rule}]}}")).unwrap_err();
    let port = |port: &str| ingress(&format!("{{ports: [{port}]}}"));
    let peer = |peer: &str| ingress(&format!("{{from: [{peer}]}}"));
    let at = |field: &str, rest: &str| format!("NetworkPolicy default/web: spec.ingress[0].{field}: {rest}");
    let prefix = "is not a prefix; use ADDRESS/LENGTH with at most /32 (IPv4) or /128 (IPv6)";
    for bad in ["10.0.0.0/33", "10.0.0.0", "", "fd00::/129", "10.0.0.0/8 "] {
        let expected = at("from[0].ipBlock.cidr", &format!("\"{bad}\" {prefix}"));
        assert_eq!(peer(&format!("{{ipBlock: {{cidr: '{bad}'}}}}")), expected);
    }
    for bad in ["10.0.0.0/8", "11.0.0.0/16", "0.0.0.0/0", "fd00::/64"] {
        let expected = at(
            "from[0].ipBlock.except[0]",
            &format!("{bad} is not a part of 10.0.0.0/8; use a longer prefix inside of it"),
        );
        assert_eq!(peer(&format!("{{ipBlock: {{cidr: 10.0.0.0/8, except: ['{bad}']}}}}")), expected);
    }
    let block = "{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}";
    let expected = "cannot be used: a peer with an ipBlock has no podSelector and no namespaceSelector";
    assert_eq!(peer(block), at("from[0].ipBlock", expected));
    assert_eq!(peer("{}"), at("from[0]", "is missing: a peer has podSelector, namespaceSelector or ipBlock"));
    for bad in [0, 65_536, -1] {
        assert_eq!(
            port(&format!("{{port: {bad}}}")),
            at("ports[0].port", &format!("{bad} is no port; use 1 to 65535"))
        );
    }
    let end = "cannot be used: endPort needs a port that is a number, the first of the range";
    assert_eq!(port("{port: http, endPort: 80}"), at("ports[0].endPort", end));
    assert_eq!(port("{endPort: 80}"), at("ports[0].endPort", end));
    let before = "79 is less than port 80; use 80 to 65535";
    assert_eq!(port("{port: 80, endPort: 79}"), at("ports[0].endPort", before));
    assert_eq!(port("{protocol: ICMP}"), at("ports[0].protocol", "\"ICMP\" is not valid: TCP, UDP or SCTP"));
    assert!(port("{port: HTTP}").starts_with(&at("ports[0].port", "\"HTTP\" is not valid: a number from 1 to 65535,")));
    let operator = "{podSelector: {matchExpressions: [{key: a, operator: Equals}]}}";
    let expected = "\"Equals\" is not valid: In, NotIn, Exists or DoesNotExist";
    assert_eq!(peer(operator), at("from[0].podSelector.matchExpressions[0].operator", expected));
    let values = |rest: &str| peer(&format!("{{podSelector: {{matchExpressions: [{{key: a, {rest}}}]}}}}"));
    let field = "from[0].podSelector.matchExpressions[0].values";
    assert_eq!(values("operator: In, values: []"), at(field, "is missing: In and NotIn need a value at least"));
    assert_eq!(
        values("operator: Exists, values: [b]"),
        at(field, "cannot be used: Exists and DoesNotExist have no values")
    );
    assert!(
        peer("{podSelector: {matchLabels: {'a b': c}}}").starts_with(&at("from[0].podSelector.matchLabels", "\"a b\""))
    );
    assert!(peer("{podSelector: {matchLabels: {a: b/c}}}").contains("matchLabels[a]: \"b/c\" is not valid: "));
    let types = read("{podSelector: {}, policyTypes: [Both]}").unwrap_err();
    assert_eq!(types, "NetworkPolicy default/web: spec.policyTypes[0]: \"Both\" is not valid: Ingress or Egress");
}

#[test]
fn a_misspelt_field_or_another_type_is_an_error_and_all_of_them_are_named() {
    let error =
        read("{podSelectr: {}, ingress: [{from: {}, ports: [{port: true, endport: 1}]}], policyTypes: Ingress}");
    let error = error.unwrap_err();
    for part in [
        "spec.podSelectr: is not known; there is podSelector, policyTypes, ingress, egress",
        "spec.ingress[0].from: {} is not a list",
        "spec.ingress[0].ports[0].port: true is not a number or a name",
        "spec.ingress[0].ports[0].endport: is not known; there is protocol, port, endPort",
        "spec.policyTypes: \"Ingress\" is not a list",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
    let label = read("{podSelector: {matchLabels: {a: true}}}").unwrap_err();
    assert!(label.contains("spec.podSelector.matchLabels[a]: true is not a text; set it in quotes"), "{label}");
}

#[test]
fn too_many_of_anything_is_an_error() {
    let many = |entry: &str, count: usize| vec![entry; count].join(", ");
    let rules = format!("{{podSelector: {{}}, ingress: [{}]}}", many("{}", 1025));
    let expected = "NetworkPolicy default/web: spec.ingress: has 1025 entries; at most 1024 are allowed";
    assert_eq!(read(&rules).unwrap_err(), expected);
    let ports = format!("{{podSelector: {{}}, egress: [{{ports: [{}]}}]}}", many("{port: 1}", 1025));
    let expected = "NetworkPolicy default/web: spec.egress[0].ports: has 1025 entries; at most 1024 are allowed";
    assert_eq!(read(&ports).unwrap_err(), expected);
}

#[test]
fn documents_of_several_kinds_are_read_and_others_are_named() {
    let text = "---\n---\napiVersion: v1\nkind: List\nitems:\n\
                - {apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: x}}}\n\
                - {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{image: c}]}}\n\
                ---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: c, namespace: a, \
                annotations: {podwire.dev/audit: 'true', other: x}}\nspec: {podSelector: {}}\n";
    let objects = Objects::read(text).unwrap();
    assert_eq!(objects.namespaces[0].labels.get("kubernetes.io/metadata.name").map(|name| &**name), Some("a"));
    assert_eq!(objects.namespaces[0].labels.get("team").map(|name| &**name), Some("x"));
    assert_eq!((&*objects.pods[0].namespace, &*objects.pods[0].name), ("default", "b"));
    assert_eq!((objects.policies[0].name.to_string().as_str(), objects.policies[0].audit), ("a/c", true));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: n}\n---\nmetadata: {}\n";
    let rejected: Vec<_> = Objects::read(service).unwrap_err().iter().map(ToString::to_string).collect();
    let allowed = "is not valid: v1 Pod, v1 Namespace, networking.k8s.io/v1 NetworkPolicy or policy.networking.k8s.io/v1alpha2 \
                   ClusterNetworkPolicy";
    let expected = [
        format!("Service n/s: apiVersion, kind: \"v1 Service\" {allowed}"),
        format!("(object 2 of the text): apiVersion, kind: \" \" {allowed}"),
    ];
    assert_eq!(rejected, expected);
    let twice = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: \
                 default}\n";
    assert_eq!(
        Objects::read(twice).unwrap_err()[0].to_string(),
        "Pod default/p: metadata.name: is there twice; leave one"
    );
    assert!(Objects::read("a: [").unwrap_err()[0].to_string().contains("line 1"));
}

#[test]
fn a_pod_is_what_policies_need_of_it() {
    let json = r#"{"metadata": {"name": "web-1", "namespace": "a", "uid": "u", "labels": {"app": "web"},
        "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "x"}]},
        "spec": {"nodeName": "n", "hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [
            {"name": "http", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 9}]},
            {"name": "d", "ports": [{"name": "http", "containerPort": 81}]}],
          "initContainers": [{"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 5}]},
            {"ports": [{"name": "gone", "containerPort": 6}]}]},
        "status": {"phase": "Failed", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "::ffff:10.0.0.2"}]}}"#;
    let pod: Pod = serde_json::from_str::<pod::Wire>(json).unwrap().try_into().unwrap();
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid, &*pod.node), ("a", "web-1", "u", "n"));
    assert!(pod.has_uid("u") && pod.has_uid("") && !pod.has_uid("another"));
    let mirror = json.replace(r#""uid": "u","#, r#""uid": "u", "annotations": {"kubernetes.io/config.hash": "h"},"#);
    let mirror: Pod = serde_json::from_str::<pod::Wire>(&mirror).unwrap().try_into().unwrap();
    assert!(mirror.has_uid("h") && !mirror.has_uid("u"));
    assert_eq!((pod.created, pod.host_network, pod.finished), (20_260_102_030_405, true, true));
    assert_eq!(pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1", "10.0.0.2"]);
    let numbers = |name, protocol| pod.named_ports.numbers(name, protocol).collect::<Vec<_>>();
    assert_eq!(numbers("http", Protocol::Tcp), [80, 81]);
    assert_eq!(numbers("dns", Protocol::Udp), [53]);
    assert_eq!(numbers("side", Protocol::Tcp), [5]);
    assert!(numbers("dns", Protocol::Tcp).is_empty() && numbers("gone", Protocol::Tcp).is_empty());
    let bad = json.replace("\"10.0.0.1\", \"podIPs\"", "\"10.0.0\", \"podIPs\"").replace("\"UDP\"", "\"udp\"");
    let rejected = Pod::try_from(serde_json::from_str::<pod::Wire>(&bad).unwrap()).unwrap_err().to_string();
    assert!(rejected.contains("status.podIPs: \"10.0.0\" is not an address of IPv4 or IPv6"), "{rejected}");
    assert!(rejected.contains("spec.containers.ports.protocol: \"udp\" is not valid: TCP, UDP or SCTP"), "{rejected}");
}

#[test]
fn pods_with_the_same_labels_and_ports_share_them() {
    let pod = |name: &str| {
        let json = format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "a", "labels": {{"app": "web"}}}}, "spec": {{"containers":
            [{{"ports": [{{"name": "http", "containerPort": 80}}]}}]}}}}"#
        );
        Pod::try_from(serde_json::from_str::<pod::Wire>(&json).unwrap()).unwrap()
    };
    let (one, other) = (pod("b"), pod("c"));
    let places = |pod: &Pod| [pod.namespace.place(), pod.labels.place(), pod.named_ports.place()];
    assert_eq!(places(&one), places(&other));
    // What is a pod's alone: itself, its name, UID and two addresses, a few allocations.
    assert!(size_of::<Pod>() <= 128, "{}", size_of::<Pod>());
}
