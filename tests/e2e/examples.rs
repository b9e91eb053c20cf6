//! The examples that are shipped (conf/kubernetes/examples) do what their text says: the init container, the sidecar, and
//! the IRC conversation with an answer from outside of the cluster.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Command;

use podwire_tests::irc::User;
use podwire_tests::lab::kube::{addresses, name, world_addresses};
use podwire_tests::lab::process::Process;
use podwire_tests::lab::runtime::converse as converse_with;
use podwire_tests::lab::scene::{Outcome, check};
use podwire_tests::lab::{SOON, program};
use serde_json::json;

use crate::stage::{NODES, Stage, repository, scene, until};

/// The port of the weather service, outside of the cluster.
const WEATHER: u16 = 8088;

/// The weather service, which takes this key or any, and its address as the bot is told.
fn weather(stage: &Stage, key: Option<&str>) -> Outcome<(Process, String)> {
    let address = SocketAddr::new(world_addresses()[0].ip(), WEATHER);
    let mut command = Command::new(program("weather-service").map_err(|error| error.to_string())?);
    command.arg(address.to_string()).args(key.map(|key| ["--key", key]).into_iter().flatten());
    let service = stage.world.start("weather-service", &mut command)?;
    service.wait_for("listening on", SOON)?;
    Ok((service, format!("http://{address}/v1/current.json")))
}

fn example(name: &str) -> String {
    std::fs::read_to_string(repository(&format!("conf/kubernetes/examples/{name}"))).unwrap()
}

/// The same with a key, and with a weather service of this world.
fn with_weather(manifest: &str, url: &str) -> String {
    let manifest = manifest.replace("PLACEHOLDER-put-your-own-key-here", "the-key");
    manifest.replace("https://api.weatherapi.com/v1/current.json", url)
}

/// Asks the bot for the weather by a forwarded port of the server.
fn converse(stage: &Stage, server: &str, nick: &str) -> Outcome {
    let mut forward = stage.start(&["port-forward", server, ":6667"])?;
    let mut lines = BufReader::new(forward.0.stdout.take().ok_or("no output")?).lines();
    let line = lines.next().and_then(Result::ok).unwrap_or_default();
    let to = line.split_whitespace().nth(2).and_then(|address| address.parse::<SocketAddr>().ok());
    let to = to.ok_or_else(|| format!("kubectl port-forward says {line:?}"))?;
    let mut user = User::connect(&stage.world, to, "sesame", nick)?;
    for fact in answer_to(&mut user, "Paris")? {
        check(!fact.is_empty(), || format!("{:?}", user.transcript))?;
    }
    Ok(())
}

/// The lines that the bot has sent, which must be these, in this order.
fn answer_to(user: &mut User, city: &str) -> Outcome<Vec<String>> {
    user.say(&format!("WEATHER {city}"))?;
    let facts = [
        "Weather Information:",
        &format!("Location: {city}, "),
        "Condition: ",
        "Temperature: ",
        "Wind Speed: ",
        "Humidity: ",
        "UV Index: ",
        "-----",
    ];
    facts.iter().map(|fact| user.hear(fact)).collect()
}

#[test]
fn the_bot_waits_for_the_servers_name_and_answers_from_outside_of_the_cluster() {
    scene("irc", |stage| {
        let (service, url) = weather(stage, Some("the-key"))?;
        let whole = with_weather(&example("irc.yaml"), &url);
        let documents: Vec<&str> = whole.split("\n---\n").collect();
        let of = |wanted: &[&str]| -> String {
            let is = |document: &&&str| wanted.iter().all(|text| document.contains(text));
            documents.iter().filter(is).copied().collect::<Vec<_>>().join("\n---\n")
        };
        // The bot first: there is no Service, so there is no such name, and its init container goes on waiting.
        let bot = of(&["kind: Deployment", "name: weather-bot"]);
        check(bot.contains("initContainers"), || format!("no bot in the example: {whole}"))?;
        stage.apply_text(&[of(&["kind: Secret"]), of(&["kind: ConfigMap"]), bot].join("\n---\n"))?;
        let pod = until("the bot's pod has started", || {
            let pods = stage.pods_of("app.kubernetes.io/name=weather-bot")?;
            let state = stage.kubectl(&[
                "get",
                "pods",
                "--selector=app.kubernetes.io/name=weather-bot",
                "--output=jsonpath={.items[0].status.initContainerStatuses[0].state}",
            ])?;
            check(state.contains("running"), || format!("its init container is {state}"))?;
            pods.first().cloned().ok_or_else(|| "no pod".to_owned())
        })?;
        let waits = until("it has looked for the name", || {
            let said = stage.kubectl(&["logs", &pod, "--container=wait-for-server"])?;
            check(!said.is_empty(), || "it has said nothing".into()).map(|()| said)
        })?;
        check(waits.contains("irc-server"), || format!("wait-for-name says {waits}"))?;
        let started =
            stage.kubectl(&["get", "pod", &pod, "--output=jsonpath={.status.containerStatuses[0].started}"])?;
        check(started == "false", || format!("the bot has started ({started}) before its server had a name"))?;
        stage.apply_text(&whole)?;
        for deployment in ["irc-server", "weather-bot"] {
            stage.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=240s"])?;
        }
        until("the bot is connected", || {
            let said = stage.kubectl(&["logs", &pod, "--container=weather-bot"])?;
            check(said.contains("connected to"), || said.clone())
        })?;
        converse(stage, "service/irc-server", "ada")?;
        // It was asked by the node that the bot is on: what leaves the cluster does so under the node's address.
        let node = stage.pod(&pod)?.node;
        let number = (1..=NODES).find(|number| name(*number) == node).ok_or("the bot is on no node")?;
        service.wait_for(&format!("{} asked for Paris: 200", addresses(number)[0].ip()), SOON)?;
        between_pods(stage)
    });
}

/// A user whose client is a pod, by the Service's name.
fn between_pods(stage: &Stage) -> Outcome {
    stage.run_server("client", 2)?;
    let line = "{ printf 'PASS sesame\\r\\nNICK grace\\r\\nUSER grace 0 * :grace\\r\\nWEATHER Tokyo\\r\\n'; sleep 5; } \
                | nc -w 10 irc-server 6667 > /said & sleep 6; cat /said";
    let said = until("the bot answers a pod", || {
        let said = stage.shell("client", line)?;
        check(said.contains("UV Index: "), || said.clone()).map(|()| said)
    })?;
    check(said.contains("Location: Tokyo, Japan"), || format!("the bot says {said}"))
}

#[test]
fn a_sidecar_shares_its_pods_network() {
    scene("sidecar", |stage| {
        let (_service, url) = weather(stage, Some("the-key"))?;
        stage.apply_text(&with_weather(&example("sidecar.yaml"), &url))?;
        stage.kubectl(&["rollout", "status", "deployment/irc-with-bot", "--timeout=240s"])?;
        converse(stage, "deployment/irc-with-bot", "ada")?;
        // One network is one range of ports: two containers cannot have the same one.
        let mut pod = crate::pods::server("twice", 1);
        pod["spec"]["restartPolicy"] = json!("Never");
        let mut second = crate::pods::container("second");
        second["readinessProbe"] = json!(null);
        pod["spec"]["containers"].as_array_mut().ok_or("no containers")?.push(second);
        stage.apply(&pod)?;
        until("the second container has ended", || {
            let codes = stage.kubectl(&[
                "get",
                "pod",
                "twice",
                "--output=jsonpath={.status.containerStatuses[*].state.terminated.exitCode}",
            ])?;
            check(codes == "1", || format!("exit codes {codes:?}"))
        })
    });
}

/// The check of a kind cluster, which cannot be made here, in this one.
#[test]
fn the_checks_for_a_kind_cluster_pass() {
    scene("check", |stage| {
        let (_service, url) = weather(stage, None)?;
        // It plays in the namespace `default`.
        let examples =
            ["irc.yaml", "reachability.yaml"].map(|name| repository(&format!("conf/kubernetes/examples/{name}")));
        let mut check = Command::new(repository("scripts/check-cluster"));
        check.arg(url).env("KUBECTL", stage.place.program("kubectl"));
        for (name, value) in stage.place.kubectl().get_envs() {
            check.env(name, value.unwrap_or_default());
        }
        let answer = converse_with(&mut check, "").map_err(|error| format!("scripts/check-cluster: {error}"))?;
        for example in &examples {
            let example = example.display().to_string();
            let gone =
                ["delete", "--namespace=default", "--ignore-not-found", "--timeout=240s", "--filename", &example];
            stage.place.ask(&gone)?;
        }
        let works = answer.code == Some(0) && answer.output.contains("everything works");
        podwire_tests::lab::scene::check(works, || format!("{}{}", answer.output, answer.log))
    });
}
