//! What docs/ says of the manifests, the chart and the settings: all of it, and what is true.

use std::collections::BTreeSet;

use podwired::cluster::settings::Settings;
use serde_json::Value;

use crate::stage::{documents, manifests, text};

/// The paths of a value's leaves, as in `image.tag`; what somebody is to fill in is a leaf.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().for_each(|(key, value)| {
            leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
        }),
        None => _ = found.insert(path.to_owned()),
    }
}

#[test]
fn every_chart_value_is_documented_and_every_documented_one_exists() {
    let documentation = text("docs/kubernetes.md");
    let section = documentation.split("\n## ").find(|section| section.starts_with("Values of the chart")).unwrap();
    let named: BTreeSet<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| line.split(" | ").next().unwrap_or("").split(", "))
        .map(|name| name.trim_matches(['`', ' ']).to_owned())
        .collect();
    let mut values = BTreeSet::new();
    leaves(&documents(&text("conf/kubernetes/chart/values.yaml")).remove(0), "", &mut values);
    // These are documented as a whole: their keys are Kubernetes' own.
    let whole = ["resources", "nodeSelector"];
    let values: BTreeSet<_> = values
        .into_iter()
        .map(|value| {
            whole.iter().find(|whole| value.starts_with(&format!("{whole}."))).map_or(value, |whole| whole.to_string())
        })
        .collect();
    assert_eq!(named, values);
}

#[test]
fn the_schema_knows_the_keys_of_the_settings_file_and_no_others() {
    let schema: Value = serde_json::from_str(&text("conf/kubernetes/chart/values.schema.json")).unwrap();
    let schema: BTreeSet<_> =
        schema["properties"]["settings"]["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(schema, documented_settings());
    for key in &schema {
        let error = Settings::parse(&format!("{key} = {{}}")).unwrap_err();
        assert!(!error.to_string().contains("there is no setting"), "{error}");
    }
}

/// The keys of the table "Settings".
fn documented_settings() -> BTreeSet<String> {
    let documentation = text("docs/daemon.md");
    let section = documentation.split("\n## ").find(|section| section.starts_with("Settings\n")).unwrap();
    let keys = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    keys.map(str::to_owned).collect()
}

#[test]
fn the_example_settings_file_has_the_defaults() {
    let shipped = text("conf/podwired.toml");
    assert_eq!(Settings::parse(&shipped).unwrap(), Settings::default());
    let said: String = shipped
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .fold(String::new(), |text, line| text + line + "\n");
    let keys: toml::Table = toml::from_str(&said).unwrap();
    // There is no value that means "what the underlay leaves".
    let mut spoken = Settings::parse(&said).unwrap();
    assert_eq!(spoken.mtu.take(), Some(1450));
    assert_eq!(spoken, Settings::default());
    // Those of Kubernetes have no place in it.
    let mut documented = documented_settings();
    for kubernetes in ["cluster_cidrs", "underlay"] {
        assert!(documented.remove(kubernetes));
    }
    assert_eq!(keys.keys().cloned().collect::<BTreeSet<_>>(), documented);
}

#[test]
fn every_manifest_and_its_objects_are_documented() {
    let documentation = text("docs/kubernetes.md");
    let section = documentation.split("\n## ").find(|section| section.starts_with("Manifests\n")).unwrap();
    for (path, documents) in manifests() {
        let file = path.trim_start_matches("conf/").trim_start_matches("kubernetes/");
        assert!(section.contains(&format!("`{file}`")), "{file}");
        let own = path.ends_with("podwire.yaml");
        for document in documents.iter().filter(|_| own) {
            let kind = document["kind"].as_str().unwrap();
            assert!(
                section.contains(&format!("{kind} `{}`", document["metadata"]["name"].as_str().unwrap())),
                "{kind}"
            );
        }
    }
}

#[test]
fn the_comments_of_the_manifests_name_existing_objects() {
    for (path, documents) in manifests() {
        let names: Vec<_> = documents.iter().filter_map(|document| document["metadata"]["name"].as_str()).collect();
        for line in text(&path).lines().filter_map(|line| line.strip_prefix("#   kubectl ")) {
            for object in line
                .split_whitespace()
                .filter_map(|word| word.split_once('/'))
                .filter(|(kind, _)| ["daemonset", "deployment", "service"].contains(kind))
            {
                assert!(names.contains(&object.1), "{path}: {line}");
            }
        }
    }
}
