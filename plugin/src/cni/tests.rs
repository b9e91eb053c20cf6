use super::*;

const CONFIGURATION: &str = r#"{"cniVersion": "1.0.0", "name": "net", "type": "podwire",
    "ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}"#;

fn request(variables: &[(&str, &str)], input: &str) -> Result<Request, Failure> {
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    read(&find, &mut input.as_bytes())
}

fn add(changes: &[(&str, &str)], input: &str) -> Result<Request, Failure> {
    let usual =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];
    let changed: Vec<_> = changes.iter().copied().chain(usual).collect();
    request(&changed, input)
}

fn refusal(result: Result<Request, Failure>) -> (u32, String) {
    let failure = result.unwrap_err();
    (failure.code as u32, failure.to_string())
}

#[test]
fn v11_without_a_verb_the_program_says_what_it_is() {
    assert!(matches!(request(&[], ""), Ok(Request::About)));
    assert!(matches!(request(&[("CNI_COMMAND", "")], ""), Ok(Request::About)));
}

#[test]
fn v4_v5_v7_version_needs_nothing_and_checks_nothing() {
    let junk = [("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", "%"), ("CNI_IFNAME", "a/b")];
    assert!(matches!(request(&junk, "no json"), Ok(Request::Version)));
    let answer: Value = serde_json::from_str(&render_versions()).unwrap();
    assert_eq!(answer, json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}));
}

#[test]
fn e1_e2_e3_e6_e7_missing_variables_are_listed_in_one_error() {
    let (code, text) = refusal(add(&[("CNI_NETNS", ""), ("CNI_IFNAME", "")], CONFIGURATION));
    assert_eq!((code, text.as_str()), (4, "required env variables [CNI_NETNS,CNI_IFNAME] missing"));
    let del = add(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")], CONFIGURATION);
    assert!(matches!(del, Ok(Request::Del(_))), "{del:?}");
}

#[test]
fn e9_a_container_id_has_the_characters_of_the_specification() {
    for good in ["a", "0", "a51debf7e1eb", "k8s_a.b-c"] {
        assert!(add(&[("CNI_CONTAINERID", good)], CONFIGURATION).is_ok(), "{good}");
    }
    for bad in ["-a", ".a", "_a", "a/b", "..", "a%b", "a b", "é", "a\n"] {
        let (code, text) = refusal(add(&[("CNI_CONTAINERID", bad)], CONFIGURATION));
        assert_eq!((code, text), (4, format!("invalid characters in containerID ({bad})")));
    }
}

#[test]
fn e11_to_e15_an_interface_name_is_one_that_the_kernel_takes_as_it_is() {
    for good in ["eth0", "eth0.100", "fifteen-letters"] {
        assert!(add(&[("CNI_IFNAME", good)], CONFIGURATION).is_ok(), "{good}");
    }
    for bad in ["sixteen--letters", ".", "..", "a/b", "a:b", "a b", "a\u{a0}b", "a\t", "eth%d", "all", "default"] {
        assert_eq!(refusal(add(&[("CNI_IFNAME", bad)], CONFIGURATION)).0, 4, "{bad}");
    }
}

#[test]
fn c1_c2_c4_c5_a_configuration_is_an_object_with_a_name() {
    for (input, code) in [
        ("", 6),
        ("x", 6),
        ("[]", 6),
        ("\"s\"", 6),
        ("{}{}", 6),
        ("null", 7),
        ("{}", 7),
        (r#"{"name": ""}"#, 7),
        (r#"{"name": 1}"#, 6),
        (r#"{"name": "te%%st"}"#, 7),
        (r#"{"name": ".x"}"#, 7),
    ] {
        assert_eq!(refusal(add(&[], input)).0, code, "{input}");
        assert_eq!(refusal(add(&[("CNI_COMMAND", "DEL")], input)).0, code, "{input}");
    }
}

#[test]
fn v13_n3_unknown_verbs_and_versions_are_refused() {
    assert_eq!(refusal(add(&[("CNI_COMMAND", "add")], CONFIGURATION)), (4, "unknown CNI_COMMAND: add".into()));
    for version in ["0.5.0", "1.2.0", "1.1", "v1.0.0", " 1.0.0"] {
        let input = CONFIGURATION.replace("1.0.0", version);
        assert_eq!(refusal(add(&[], &input)).0, 1, "{version}");
    }
    assert_eq!(refusal(add(&[], &CONFIGURATION.replace("\"1.0.0\"", "1"))).0, 6);
}

#[test]
fn d12_a_configuration_that_is_of_no_use_does_not_stop_del() {
    let input = r#"{"cniVersion": "1.0.0", "name": "net", "mtu": -1, "ipam": {"type": "other"}}"#;
    assert!(matches!(add(&[("CNI_COMMAND", "DEL"), ("CNI_ARGS", "x")], input), Ok(Request::Del(_))));
    assert_eq!(refusal(add(&[], input)).0, 7);
    let foreign = CONFIGURATION.replace("\"ranges\"", "\"type\": \"dhcp\", \"ranges\"");
    let (code, text) = refusal(add(&[], &foreign));
    assert_eq!((code, text.as_str()), (2, "ipam.type \"dhcp\" is not supported: leave it out or write \"podwire\""));
}

#[test]
fn x1_x2_an_error_is_an_object_in_the_version_of_the_request() {
    let failure = add(&[("CNI_IFNAME", "")], CONFIGURATION).unwrap_err();
    let answer: Value = serde_json::from_str(&failure.render()).unwrap();
    let message = "required env variables [CNI_IFNAME] missing";
    assert_eq!(answer, json!({"cniVersion": "1.0.0", "code": 4, "msg": message}));
}

#[test]
fn n9_a_previous_result_that_is_no_object_is_refused_before_anything_is_done() {
    for previous in ["7", "[]", "\"x\""] {
        let input = CONFIGURATION.replace("\"type\": \"podwire\"", &format!("\"prevResult\": {previous}"));
        assert_eq!(refusal(add(&[], &input)).0, 7, "{previous}");
    }
    let none = CONFIGURATION.replace("\"type\": \"podwire\"", "\"prevResult\": null");
    assert!(add(&[], &none).is_ok());
}

fn success() -> Success {
    Success {
        host: ("pw0".into(), Mac([2, 0, 0, 0, 0, 1])),
        pod_mac: Mac([2, 0, 0, 0, 0, 2]),
        mtu: 1450,
        addresses: vec![
            ("10.0.0.2".parse().unwrap(), "169.254.1.1".parse().unwrap()),
            ("fd00::2".parse().unwrap(), "fe80::1".parse().unwrap()),
        ],
        routes: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
    }
}

fn rendered(input: &str) -> Value {
    let Ok(Request::Add(request)) = add(&[], input) else { panic!("{input}") };
    serde_json::from_str(&success().render(&request)).unwrap()
}

#[test]
fn r1_r7_to_r14_a_result_has_the_shape_of_its_version() {
    let result = |version: &str| rendered(&CONFIGURATION.replace("1.0.0", version));
    let expected = json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "pw0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x"},
        ],
        "ips": [
            {"address": "10.0.0.2/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd00::2/128", "gateway": "fe80::1", "interface": 1},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
    });
    assert_eq!(result("1.0.0"), expected);
    assert_eq!(result("1.1.0")["interfaces"][1]["mtu"], 1450);
    let old = result("0.3.1");
    assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
    assert_eq!((&old["cniVersion"], &old["dns"]), (&json!("0.3.1"), &json!({})));
}

#[test]
fn r20_name_servers_of_the_configuration_are_in_the_result() {
    let dns = r#""dns": {"nameservers": ["10.0.0.53"]}"#;
    let result = rendered(&CONFIGURATION.replace("\"type\": \"podwire\"", dns));
    assert_eq!(result["dns"], json!({"nameservers": ["10.0.0.53"]}));
}

#[test]
fn a9_a_pod_has_the_name_that_the_runtime_tells_or_else_the_containers() {
    let name = |arguments: &str| {
        let Ok(Request::Add(request)) = add(&[("CNI_ARGS", arguments)], CONFIGURATION) else { panic!("{arguments}") };
        request.pod
    };
    assert_eq!(name(""), "c1");
    assert_eq!(name("IgnoreUnknown=1;K8S_POD_NAME=web"), "web");
    assert_eq!(name("K8S_POD_NAME=web;X=a=b;;K8S_POD_NAMESPACE=shop"), "shop/web");
}

#[test]
fn n2_a_configuration_without_a_version_is_of_one_that_is_not_spoken() {
    let (code, text) = refusal(add(&[], &CONFIGURATION.replace("\"cniVersion\": \"1.0.0\", ", "")));
    assert_eq!(code, 1);
    assert!(text.contains("config is \"0.1.0\""), "{text}");
}

#[test]
fn h1_what_earlier_plugins_did_is_kept_and_own_indexes_are_shifted() {
    let previous =
        r#""prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "br0"}], "ips": [], "routes": null}"#;
    let result = rendered(&CONFIGURATION.replace("\"type\": \"podwire\"", previous));
    assert_eq!(result["interfaces"][0]["name"], "br0");
    assert_eq!((&result["interfaces"][2]["name"], &result["ips"][0]["interface"]), (&json!("eth0"), &json!(2)));
}
