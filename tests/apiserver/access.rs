//! Who may ask the API, and what is said to somebody who may not.

use podwire_tests::lab::SOON;
use podwire_tests::lab::host::SHARED;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{Outcome, check, scene};

use crate::api::{Api, NODES};
use crate::stage::{arrive, kubernetes, node, share, start, start_with};

fn says(node: &Node, text: &str) -> Outcome<String> {
    node.daemon.as_ref().ok_or("no daemon")?.wait_for(text, SOON)
}

#[test]
fn a_rejected_token_is_reported_once_and_a_valid_one_is_picked_up() {
    kubernetes(1, |lab, api| {
        api.create(NODES, &node(1))?;
        share(lab, "kubeconfig", &api.kubeconfig("yesterday"))?;
        start(&mut lab.nodes[0])?;
        let line = says(&lab.nodes[0], "401")?;
        check(line.contains("does not accept the token or certificate"), || line)?;
        share(lab, "kubeconfig", &api.kubeconfig(&api.token()?))?;
        lab.nodes[0].wait_ready()?;
        let said = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.said();
        let warnings: Vec<_> = said.iter().filter(|line| !line.contains(" INFO ")).collect();
        check(warnings.len() == 1, || format!("it said {warnings:?}"))
    });
}

#[test]
fn an_account_that_may_not_list_nodes_is_reported_with_the_permission_it_needs() {
    scene(1, |lab| {
        let api = Api::start(&lab.outside)?;
        api.create(NODES, &node(1))?;
        share(lab, "kubeconfig", &api.kubeconfig(&api.token()?))?;
        share(lab, "podwired.toml", "cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\n")?;
        start(&mut lab.nodes[0])?;
        let line = says(&lab.nodes[0], "403")?;
        let account = "system:serviceaccount:kube-system:podwired";
        check(line.contains(account) && line.contains("allow it to get, list and watch nodes"), || line)?;
        api.allow()?;
        lab.nodes[0].wait_ready()
    });
}

#[test]
fn a_pod_reaches_the_api_by_its_service_account() {
    kubernetes(1, |lab, api| {
        api.create(NODES, &node(1))?;
        api.create(NODES, &node(2))?;
        // As kubelet mounts it.
        let place = "/var/run/secrets/kubernetes.io/serviceaccount";
        let token = api.token()?;
        let mount = format!(
            "mkdir -p {place} && cp {SHARED}/kube/apiserver.crt {place}/ca.crt && printf kube-system > {place}/namespace &&
             printf %s '{token}' > {place}/token"
        );
        lab.nodes[0].host.run("sh", &["-c", &mount])?;
        start_with(&mut lab.nodes[0], &[], &api.environment())?;
        lab.nodes[0].wait_ready()?;
        arrive(&lab.nodes[0], &[2])?;
        // The kubeconfig counts where there is one, whatever kubelet has set.
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        let elsewhere = [("KUBERNETES_SERVICE_HOST", "192.0.2.1".into()), ("KUBERNETES_SERVICE_PORT", "1".into())];
        start_with(&mut lab.nodes[0], &["--kubeconfig", &format!("{SHARED}/kubeconfig")], &elsewhere)?;
        says(&lab.nodes[0], "node list synced from the Kubernetes API").map(drop)
    });
}

#[test]
fn unusable_credentials_end_the_start_with_a_sentence() {
    scene(1, |lab| {
        let settings = "cluster_cidrs = [\"10.244.0.0/16\"]\n";
        let user =
            "users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}}}]";
        let program = format!(
            "{{apiVersion: v1, kind: Config, current-context: a, contexts: [{{name: a, context: {{cluster: a, user: a}}}}],
              clusters: [{{name: a, cluster: {{server: 'https://192.0.2.1:6443'}}}}], {user}}}"
        );
        let cases = [
            ("", "{}", "cluster_cidrs is missing in the settings file"),
            (settings, "no: [colon", "kubeconfig /run/lab/kubeconfig: "),
            (settings, program.as_str(), "podwired executes none"),
        ];
        for (settings, kubeconfig, sentence) in cases {
            share(lab, "podwired.toml", settings)?;
            share(lab, "kubeconfig", kubeconfig)?;
            start(&mut lab.nodes[0])?;
            says(&lab.nodes[0], sentence)?;
        }
        share(lab, "podwired.toml", settings)?;
        start_with(&mut lab.nodes[0], &[], &[])?;
        says(&lab.nodes[0], "outside of a pod give --kubeconfig FILE").map(drop)
    });
}
