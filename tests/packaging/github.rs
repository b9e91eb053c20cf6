//! What GitHub reads of the repository: it is YAML of the right shape, asks for what a report needs, and runs the one test
//! command with no more rights than to read.

use std::fs;

use serde_json::{Value, json};

use crate::stage::{documents, root, text};

fn file(path: &str) -> Value {
    let mut found = documents(&text(path));
    assert_eq!(found.len(), 1, "{path}");
    found.remove(0)
}

/// The files of a folder.
fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap())).collect()
}

#[test]
fn the_workflows_may_only_read_and_pin_the_major_version_of_actions() {
    let workflows = files(".github/workflows");
    assert!(workflows.contains(&".github/workflows/ci.yml".to_owned()), "{workflows:?}");
    for path in workflows {
        let workflow = file(&path);
        assert_eq!(workflow["permissions"], json!({"contents": "read"}), "{path}");
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            assert!(job["permissions"].is_null() && job["timeout-minutes"].is_u64(), "{path}: {name}");
            for action in job["steps"].as_array().unwrap().iter().filter_map(|step| step["uses"].as_str()) {
                let version = action.split_once("@v").map(|(_, version)| version.parse::<u32>());
                assert!(matches!(version, Some(Ok(_))), "{path}: {action}");
            }
        }
    }
}

#[test]
fn ci_runs_what_has_to_hold_before_a_change_lands() {
    let workflow = file(".github/workflows/ci.yml");
    assert!(workflow["on"].as_object().unwrap().contains_key("pull_request"));
    let steps = workflow["jobs"]["ci"]["steps"].as_array().unwrap();
    let commands: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(commands.len() == 1 && commands[0].trim_end().ends_with("bash .ci/run"), "{commands:?}");
    assert!(root().join(".ci/run").is_file());
}

#[test]
fn the_forms_for_issues_are_complete_and_a_bug_report_asks_for_what_is_needed() {
    let forms: Vec<_> =
        files(".github/ISSUE_TEMPLATE").into_iter().filter(|path| !path.ends_with("config.yml")).collect();
    assert_eq!(forms.len(), 2, "{forms:?}");
    for path in &forms {
        let form = file(path);
        assert!(form["name"].is_string() && form["description"].is_string(), "{path}");
        for field in form["body"].as_array().unwrap() {
            let (kind, attributes) = (field["type"].as_str().unwrap(), &field["attributes"]);
            let complete = match kind {
                "markdown" => attributes["value"].is_string(),
                "textarea" | "input" => attributes["label"].is_string(),
                "dropdown" | "checkboxes" => attributes["label"].is_string() && attributes["options"].is_array(),
                _ => false,
            };
            assert!(complete && (kind == "markdown" || field["id"].is_string()), "{path}: {field}");
        }
    }
    let report = file(".github/ISSUE_TEMPLATE/bug_report.yml");
    let required = |id: &str| {
        let field = report["body"].as_array().unwrap().iter().find(|field| field["id"] == id);
        field.is_some_and(|field| field["validations"]["required"] == true)
    };
    for id in ["seen", "again", "status", "doctor", "versions", "installed"] {
        assert!(required(id), "{id}");
    }
    assert!(file(".github/ISSUE_TEMPLATE/config.yml")["blank_issues_enabled"].is_boolean());
}

#[test]
fn dependencies_and_actions_are_kept_up_to_date() {
    let updates = file(".github/dependabot.yml");
    let updates = updates["updates"].as_array().unwrap();
    let ecosystems: Vec<_> = updates.iter().map(|update| update["package-ecosystem"].as_str().unwrap()).collect();
    assert_eq!(ecosystems, ["cargo", "github-actions"]);
    for folder in updates[0]["directories"].as_array().unwrap() {
        let manifest = format!("{}/Cargo.toml", folder.as_str().unwrap().trim_matches('/'));
        assert!(root().join(manifest.trim_start_matches('/')).is_file(), "{manifest}");
    }
}
