//! Tests of the protocol as a whole: environment and stdin in, requests and answers out.

use podwire_conf::Dns;
use serde_json::{Value, json};

use super::failure::{Code, Failure};
use super::read::read;
use super::request::{Delegate, Request};
use super::result::Success;
use super::versions::render_versions;

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
    (failure.code(), failure.to_string())
}

#[test]
fn v11_without_a_verb_the_program_says_what_it_is() {
    assert!(matches!(request(&[], ""), Ok(Request::About)));
    assert!(matches!(request(&[("CNI_COMMAND", "")], ""), Ok(Request::About)));
}

#[test]
fn v1_to_v5_v7_v9_version_needs_nothing_and_checks_nothing() {
    let junk = [("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", "%"), ("CNI_IFNAME", "a/b")];
    for (input, expected) in [
        ("no json", "1.1.0"),
        ("", "1.1.0"),
        (r#"{"cniVersion": "1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion": "0.2.0"}"#, "0.2.0"),
        (r#"{"cniVersion": "9.0.0"}"#, "1.1.0"),
    ] {
        let Ok(Request::Version { version }) = request(&junk, input) else { panic!("{input}") };
        let answer: Value = serde_json::from_str(&render_versions(version)).unwrap();
        let supported = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        assert_eq!(answer, json!({"cniVersion": expected, "supportedVersions": supported}), "{input}");
    }
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
        let shown = bad.replace('\n', " ");
        assert_eq!((code, text), (4, format!("invalid characters in containerID ({shown})")));
    }
}

#[test]
fn e11_to_e15_an_interface_name_is_one_that_the_kernel_takes_as_it_is() {
    for good in ["eth0", "eth0.100", "fifteen-letters"] {
        assert!(add(&[("CNI_IFNAME", good)], CONFIGURATION).is_ok(), "{good}");
    }
    for bad in [
        "sixteen--letters",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\u{a0}b",
        "à",
        "a\t",
        "eth%d",
        "all",
        "default",
        "e\u{1b}[2J",
        "e\u{7f}",
        "e\u{7}",
        "e\u{9b}2J",
        "e\u{202e}0",
        "e\u{200b}",
        "e\u{3164}",
    ] {
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
}

#[test]
fn c15_another_ipam_plugin_is_called_in_the_directories_of_the_runtime() {
    let foreign = CONFIGURATION.replace("\"ranges\"", "\"Type\": \"host-local\", \"ranges\"");
    let Ok(Request::Add(request)) = add(&[("CNI_PATH", "/a:/b")], &foreign) else { panic!("{foreign}") };
    let expected = Delegate { kind: "host-local".into(), path: "/a:/b".into(), input: foreign.clone().into_bytes() };
    assert_eq!(request.delegate, Some(expected));
    let (code, text) = refusal(add(&[], &foreign));
    assert_eq!((code, text.as_str()), (4, "required env variables [CNI_PATH] missing: ipam.type is \"host-local\""));
    assert_eq!(refusal(add(&[("CNI_PATH", "/a")], &foreign.replace("host-local", "../x"))).0, 7);
    let own = CONFIGURATION.replace("\"ranges\"", "\"type\": \"podwire\", \"ranges\"");
    let Ok(Request::Add(request)) = add(&[], &own) else { panic!("{own}") };
    assert_eq!(request.delegate, None);
}

#[test]
fn x1_x2_an_error_is_an_object_in_the_version_of_the_request() {
    let failure = add(&[("CNI_IFNAME", "")], CONFIGURATION).unwrap_err();
    let answer: Value = serde_json::from_str(&failure.render()).unwrap();
    let message = "required env variables [CNI_IFNAME] missing";
    assert_eq!(answer, json!({"cniVersion": "1.0.0", "code": 4, "msg": message}));
}

#[test]
fn x9_an_error_is_a_short_line_whatever_was_asked_for() {
    for part in ["a", "é", "\"", "\u{1}", "\n"] {
        let long = part.repeat(9000);
        for failure in [
            Failure::new(Code::Kernel, long.clone(), long.clone()),
            add(&[("CNI_CONTAINERID", &format!("{long}/"))], CONFIGURATION).unwrap_err(),
            add(&[("CNI_ARGS", &long)], CONFIGURATION).unwrap_err(),
        ] {
            let answer = failure.render();
            assert!(answer.len() < 2048 && answer.lines().count() == 1, "{} bytes", answer.len());
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert!(answer.as_object().unwrap().values().any(|text| text.to_string().ends_with("…\"")), "{answer}");
        }
    }
}

#[test]
fn the_alias_of_a_device_fits_the_kernel_whatever_the_pod_is_called() {
    let arguments = format!("K8S_POD_NAMESPACE=é;K8S_POD_NAME={}", "é🦀".repeat(99));
    let input = CONFIGURATION.replace("\"net\"", &format!("{:?}", "n".repeat(255)));
    let Ok(Request::Add(request)) = add(&[("CNI_ARGS", &arguments)], &input) else { panic!("{input}") };
    let plan = crate::plan::Plan::new(&request, Vec::new(), &[], None);
    // `IFALIASZ` (uapi/linux/if.h), with the zero at the end.
    assert!(plan.alias.len() < 256 && plan.alias.contains("n: é/é🦀"), "{}", plan.alias);
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
    let route = |text: &str| podwire_conf::Route { destination: text.parse().unwrap(), metric: 0 };
    Success {
        host: ("pw0".into(), podwire_kernel::Mac([2, 0, 0, 0, 0, 1])),
        pod: ("eth0".into(), podwire_kernel::Mac([2, 0, 0, 0, 0, 2])),
        sandbox: "/run/netns/x".into(),
        shaper: None,
        mtu: 1450,
        addresses: vec![
            ("10.0.0.2".parse().unwrap(), "169.254.1.1".parse().unwrap()),
            ("fd00::2".parse().unwrap(), "fe80::1".parse().unwrap()),
        ],
        routes: vec![route("0.0.0.0/0"), route("::/0")],
        gateways_on_link: vec!["169.254.1.1".parse().unwrap()],
        dns: Dns::default(),
    }
}

fn rendered(input: &str) -> Value {
    let Ok(Request::Add(request)) = add(&[], input) else { panic!("{input}") };
    let success = Success { dns: request.dns.clone().unwrap_or_default(), ..success() };
    serde_json::from_str(&success.render(request.version, request.previous.as_ref())).unwrap()
}

#[test]
fn r1_r6_to_r14_r21_r23_a_result_has_the_shape_of_its_version() {
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
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}, {"dst": "169.254.1.1/32"},
        ],
    });
    assert_eq!(result("1.0.0"), expected);
    assert_eq!(result("1.1.0")["interfaces"][1]["mtu"], 1450);
    assert_eq!(result("1.1.0")["routes"][2], json!({"dst": "169.254.1.1/32", "scope": 253}));
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let mut old = expected.clone();
        old["cniVersion"] = json!(version);
        old["dns"] = json!({});
        old["ips"][0]["version"] = json!("4");
        old["ips"][1]["version"] = json!("6");
        assert_eq!(result(version), old);
    }
}

#[test]
fn r2_r3_the_oldest_versions_have_one_address_for_each_family() {
    for (version, said) in [("0.1.0", "\"0.1.0\""), ("0.2.0", "\"0.2.0\""), ("0.1.0", "\"\""), ("0.1.0", "null")] {
        let result = rendered(&CONFIGURATION.replace("\"1.0.0\"", said));
        let expected = json!({
            "cniVersion": version,
            "ip4": {
                "ip": "10.0.0.2/32", "gateway": "169.254.1.1",
                "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "169.254.1.1/32"}],
            },
            "ip6": {"ip": "fd00::2/128", "gateway": "fe80::1", "routes": [{"dst": "::/0", "gw": "fe80::1"}]},
            "dns": {},
        });
        assert_eq!(result, expected);
    }
}

#[test]
fn r5_more_than_one_address_of_a_family_is_refused_where_the_result_has_no_room() {
    let two = CONFIGURATION
        .replace("[[{\"subnet\": \"10.0.0.0/24\"}]]", r#"[[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]"#);
    assert!(add(&[], &two).is_ok());
    let (code, text) = refusal(add(&[], &two.replace("1.0.0", "0.2.0")));
    assert_eq!(code, 7);
    assert!(text.starts_with("CNI version 0.2.0 does not support more than 1 address per family"), "{text}");
    let before = CONFIGURATION.replace("\"1.0.0\"", r#""0.2.0", "prevResult": {"ip4": {"ip": "10.9.0.2/24"}}"#);
    assert_eq!(refusal(add(&[], &before)).0, 7);
}

#[test]
fn r10_r18_keys_of_the_newest_version_are_in_no_older_result() {
    let previous = r#""prevResult": {"interfaces": [{"name": "br0", "mtu": 1500, "pciID": "x", "socketPath": "y"}],
        "routes": [{"dst": "10.0.0.0/8", "table": 0, "scope": 0, "mtu": 1, "advmss": 2, "priority": 3}]}"#;
    let chained = CONFIGURATION.replace("\"type\": \"podwire\"", previous);
    let mut success = success();
    success.routes[0].metric = 7;
    success.shaper = Some(("ps0".into(), podwire_kernel::Mac([2, 0, 0, 0, 0, 3])));
    let result = |version: &str| -> Value {
        let Ok(Request::Add(request)) = add(&[], &chained.replace("1.0.0", version)) else { panic!("{version}") };
        serde_json::from_str(&success.render(request.version, request.previous.as_ref())).unwrap()
    };
    for version in ["0.4.0", "1.0.0"] {
        let found = result(version);
        assert_eq!(found["interfaces"][0], json!({"name": "br0"}), "{version}");
        assert_eq!(found["routes"][0], json!({"dst": "10.0.0.0/8"}), "{version}");
        assert_eq!(found["routes"][1], json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}), "{version}");
        assert_eq!(found["interfaces"][3], json!({"name": "ps0", "mac": "02:00:00:00:00:03"}), "{version}");
    }
    let newest = result("1.1.0");
    assert_eq!((&newest["interfaces"][0]["mtu"], &newest["routes"][1]["priority"]), (&json!(1500), &json!(7)));
    assert_eq!(newest["routes"][0]["table"], 0);
}

#[test]
fn r20_name_servers_of_the_configuration_are_in_the_result() {
    let dns = r#""dns": {"nameservers": ["10.0.0.53"]}"#;
    let result = rendered(&CONFIGURATION.replace("\"type\": \"podwire\"", dns));
    assert_eq!(result["dns"], json!({"nameservers": ["10.0.0.53"]}));
}

#[test]
fn a12_d9_d10_del_reads_nothing_but_the_key() {
    let input =
        CONFIGURATION.replace("\"type\": \"podwire\"", "\"prevResult\": 7, \"runtimeConfig\": {\"portMappings\": 9}");
    let del = add(&[("CNI_COMMAND", "DEL"), ("CNI_ARGS", "foo;IgnoreUnknown=yes")], &input);
    assert!(matches!(del, Ok(Request::Del(_))), "{del:?}");
    assert_eq!(refusal(add(&[("CNI_ARGS", "foo")], CONFIGURATION)).0, 4);
    assert_eq!(refusal(add(&[], &input)).0, 7);
}

#[test]
fn n5_n6_n4_a_verb_has_a_version_since_when_it_is() {
    let verb = |verb: &str, version: &str| {
        let input = CONFIGURATION.replace("1.0.0", version);
        refusal(add(&[("CNI_COMMAND", verb)], &input))
    };
    for (name, version) in
        [("CHECK", "0.3.1"), ("CHECK", ""), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.4.0")]
    {
        let (code, text) = verb(name, version);
        assert_eq!(code, 1, "{name} {version}");
        assert!(text.starts_with(&format!("config version does not allow {name}")), "{text}");
    }
    for name in ["CHECK", "GC", "STATUS"] {
        assert_eq!((verb(name, "adsf").0, verb(name, "1.2.3.4").0, verb(name, "1.2.0").0), (6, 6, 1), "{name}");
    }
    for name in ["ADD", "DEL"] {
        assert_eq!((verb(name, "adsf").0, verb(name, "1.2.3.4").0), (1, 1), "{name}");
    }
}

#[test]
fn n7_n8_a_previous_result_is_in_the_shape_of_the_configuration() {
    let with = |version: &str, previous: &str| {
        let input = CONFIGURATION.replace("\"1.0.0\"", &format!("{version:?}, \"prevResult\": {previous}"));
        add(&[], &input).map(|_| ()).map_err(|failure| failure.code())
    };
    assert_eq!(with("1.1.0", r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.9/24"}]}"#), Ok(()));
    assert_eq!(with("0.4.0", r#"{"cniVersion": "0.3.1", "interfaces": null, "routes": null, "dns": {}}"#), Ok(()));
    assert_eq!(with("0.2.0", r#"{"cniVersion": "0.2.0"}"#), Ok(()));
    assert_eq!(with("1.0.0", r#"{"ips": [{"address": "10.0.0.9/24", "interface": -1}]}"#), Ok(()));
    for (version, previous) in [
        ("1.0.0", r#"{"cniVersion": "0.4.0"}"#),
        ("0.4.0", r#"{"cniVersion": "1.0.0"}"#),
        ("1.0.0", r#"{"cniVersion": "5678.456"}"#),
        ("1.0.0", r#"{"cniVersion": 1}"#),
        ("1.0.0", r#"{"interfaces": {}}"#),
        ("1.0.0", r#"{"ips": ["10.0.0.9"]}"#),
    ] {
        assert_eq!(with(version, previous), Err(7), "{previous}");
    }
}

#[test]
fn q2_check_needs_the_result() {
    let (code, text) = refusal(add(&[("CNI_COMMAND", "CHECK")], CONFIGURATION));
    assert_eq!(code, 7);
    assert!(text.starts_with("Required prevResult missing"), "{text}");
}

#[test]
fn g2_g3_g11_g12_gc_accepts_an_empty_list_and_rejects_a_missing_one() {
    let gc = |key: &str| {
        let input = CONFIGURATION.replace("1.0.0", "1.1.0").replace("\"type\": \"podwire\"", key);
        request(&[("CNI_COMMAND", "GC"), ("CNI_CONTAINERID", ""), ("CNI_IFNAME", "")], &input)
    };
    let valid = |key: &str| {
        let Ok(Request::Gc(gc)) = gc(key) else { panic!("{key}") };
        gc.valid.len()
    };
    assert_eq!(valid(r#""cni.dev/valid-attachments": []"#), 0);
    assert_eq!(valid(r#""cni.dev/valid-attachments": null"#), 0);
    assert_eq!(valid(r#""cni.dev/attachments": [{"containerID": "a", "ifname": "eth0"}]"#), 1);
    let odd = r#""cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0", "x": 1}, {"containerID": "a", "ifname": "eth0"},
        {"containerID": "a", "ifname": ""}, {}, 7]"#;
    assert_eq!(valid(odd), 2);
    assert_eq!(refusal(gc("\"x\": 1")).0, 7);
    assert_eq!(refusal(gc(r#""cni.dev/valid-attachments": {}"#)).0, 7);
}

#[test]
fn e18_s1_s8_status_looks_at_the_configuration_only() {
    let status = |input: &str| {
        request(
            &[("CNI_COMMAND", "STATUS"), ("CNI_CONTAINERID", "%"), ("CNI_IFNAME", "a/b")],
            &input.replace("1.0.0", "1.1.0"),
        )
    };
    assert!(matches!(status(CONFIGURATION), Ok(Request::Status(_))));
    assert_eq!(refusal(status(&CONFIGURATION.replace("ranges", "nothing"))).0, 7);
}

#[test]
fn c10_keys_of_the_configuration_are_taken_in_any_case() {
    let input =
        CONFIGURATION.replace("cniVersion", "CNIVersion").replace("\"name\"", "\"Name\"").replace("ipam", "IPAM");
    let Ok(Request::Add(request)) = add(&[], &input) else { panic!("{input}") };
    assert_eq!((request.version, request.attachment.network.as_str()), ("1.0.0", "net"));
}

#[test]
fn h1_what_earlier_plugins_did_is_kept_and_own_indexes_are_shifted() {
    let previous =
        r#""prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "br0"}], "ips": [], "routes": null}"#;
    let result = rendered(&CONFIGURATION.replace("\"type\": \"podwire\"", previous));
    assert_eq!(result["interfaces"][0]["name"], "br0");
    assert_eq!((&result["interfaces"][2]["name"], &result["ips"][0]["interface"]), (&json!("eth0"), &json!(2)));
}
