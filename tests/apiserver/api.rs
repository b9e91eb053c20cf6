//! A Kubernetes API server, as plain as can be, with etcd behind it; and what a scene says to it.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use podwire_tests::lab::eventually;
use podwire_tests::lab::host::{Host, SHARED};
use podwire_tests::lab::process::Process;
use podwire_tests::lab::scene::Outcome;
use serde_json::{Value, json};

/// Where the programs are.
const BINARIES: &str = "PODWIRE_KUBE_BINARIES";

/// Where the definitions of ClusterNetworkPolicy are.
const CRDS: &str = "PODWIRE_POLICY_CRDS";

/// Where definitions of kinds are.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The address that it has on the underlay.
const ADDRESS: &str = "192.168.50.254";

/// Where Nodes are.
pub(crate) const NODES: &str = "/api/v1/nodes";

/// The account that the daemons have, and what it is allowed.
const ACCOUNT: &str = "/api/v1/namespaces/kube-system/serviceaccounts";

/// What a reader may do.
const READ: [&str; 3] = ["get", "list", "watch"];

/// The token of somebody who may do everything.
const ADMINISTRATOR: &str = "administrator";

/// How long an API server may take to start: some seconds of two processors that others want too.
const START: Duration = Duration::from_secs(120);

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API server and etcd.
#[derive(Debug)]
pub(crate) struct Api {
    host: Host,
    directory: PathBuf,
    port: u16,
    server: Option<Process>,
    _etcd: Option<Process>,
    agent: ureq::Agent,
}

impl Api {
    /// Starts both on a host, and waits until the API answers; the daemons' account is there.
    pub(crate) fn start(host: &Host) -> Outcome<Self> {
        let directory = env::var_os(BINARIES).map(PathBuf::from).filter(|found| found.join("kube-apiserver").is_file());
        let directory = directory.ok_or_else(|| {
            format!("{BINARIES} is not a directory with kube-apiserver: run scripts/test, which sets it by scripts/kube-binaries")
        })?;
        let furnish = format!(
            "mkdir -p {SHARED}/kube && cd {SHARED}/kube &&
             openssl ecparam -genkey -name prime256v1 -noout -out account.key 2>/dev/null &&
             echo '{ADMINISTRATOR},administrator,1,system:masters' > tokens.csv"
        );
        host.run("sh", &["-c", &furnish])?;
        let mut etcd = Command::new(directory.join("etcd"));
        etcd.args(["--data-dir=/run/etcd", "--unsafe-no-fsync", "--log-level=error"]);
        etcd.args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"]);
        let etcd = host.start("etcd", &mut etcd)?;
        let mut api = Self::at(host, directory, 6443);
        api._etcd = Some(etcd);
        api.start_again()?;
        eventually(START, || api.create(ACCOUNT, &json!({"metadata": {"name": "podwired"}})))?;
        Ok(api)
    }

    fn at(host: &Host, directory: PathBuf, port: u16) -> Self {
        let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
        let agent = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false);
        let agent = agent.timeout_global(Some(PATIENCE)).build().into();
        Self { host: host.clone(), directory, port, server: None, _etcd: None, agent }
    }

    /// A second API server beside this one, on the same etcd.
    pub(crate) fn second(&self) -> Outcome<Self> {
        let mut second = Self::at(&self.host, self.directory.clone(), self.port + 1);
        second.start_again()?;
        Ok(second)
    }

    /// Ends the API server at once; etcd stays.
    pub(crate) fn kill(&mut self) -> Outcome {
        self.server.take().ok_or("no API server runs")?.kill()
    }

    /// Starts the API server, and waits until it answers.
    pub(crate) fn start_again(&mut self) -> Outcome {
        let mut server = Command::new(self.directory.join("kube-apiserver"));
        server.args(["--etcd-servers=http://127.0.0.1:2379", "--service-cluster-ip-range=10.96.0.0/16"]);
        server.args(["--authorization-mode=RBAC", "--endpoint-reconciler-type=none", "--profiling=false"]);
        server.args([format!("--bind-address={ADDRESS}"), format!("--advertise-address={ADDRESS}")]);
        server.args([format!("--secure-port={}", self.port), format!("--cert-dir={SHARED}/kube")]);
        server.arg(format!("--token-auth-file={SHARED}/kube/tokens.csv"));
        server.arg("--service-account-issuer=https://kubernetes.default.svc");
        server.arg(format!("--service-account-key-file={SHARED}/kube/account.key"));
        server.arg(format!("--service-account-signing-key-file={SHARED}/kube/account.key"));
        self.server = Some(self.host.start("kube-apiserver", &mut server)?);
        let ready = eventually(START, || match self.request("GET", "/readyz", ADMINISTRATOR, None) {
            Ok((200, _)) => Ok(()),
            Ok((code, said)) => Err(format!("{code}: {said}")),
            Err(why) => Err(why),
        });
        ready.map_err(|why| {
            let said = self.server.as_ref().map(Process::said).unwrap_or_default();
            format!("{why}; kube-apiserver has said\n{}", said[said.len().saturating_sub(20)..].join("\n"))
        })
    }

    /// What an API server at this address has in a kubeconfig, with a token.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{ADDRESS}:{}", self.port),
                "certificate-authority": format!("{SHARED}/kube/apiserver.crt"),
            }}],
            "users": [{"name": "podwired", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "podwired"}}],
        });
        kubeconfig.to_string()
    }

    /// What kubelet sets in the environment of a pod on the host's network.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        [("KUBERNETES_SERVICE_HOST", ADDRESS.into()), ("KUBERNETES_SERVICE_PORT", self.port.to_string())]
    }

    /// Lets the daemons' account read nodes, and nothing else.
    pub(crate) fn allow(&self) -> Outcome {
        self.allow_to_read("podwired", &json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": READ}]))
    }

    /// Lets it read what policies are made of.
    pub(crate) fn allow_policies(&self) -> Outcome {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": READ},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies", "servicecidrs"], "verbs": READ},
            {"apiGroups": ["policy.networking.k8s.io"], "resources": ["clusternetworkpolicies"], "verbs": READ},
        ]);
        self.allow_to_read("podwired-policies", &rules)
    }

    /// Installs ClusterNetworkPolicy, with those of its versions that are to be served.
    pub(crate) fn install_cluster_policies(&self, served: &[&str]) -> Outcome {
        let path = env::var_os(CRDS).map(|directory| PathBuf::from(directory).join("experimental.yaml"));
        let path = path.ok_or_else(|| {
            format!("{CRDS} is not set: run scripts/test, which sets it by scripts/policy-conformance --crds")
        })?;
        let text = std::fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let mut definition: Value = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
            version["served"] = json!(served.iter().any(|served| version["name"] == *served));
        }
        self.create(DEFINITIONS, &definition)?;
        let base = "/apis/policy.networking.k8s.io";
        eventually(START, || {
            for version in served {
                self.ask("GET", &format!("{base}/{version}/clusternetworkpolicies"), None)?;
            }
            Ok(())
        })
    }

    /// Takes ClusterNetworkPolicy away, and all there are.
    pub(crate) fn uninstall_cluster_policies(&self) -> Outcome {
        self.delete(&format!("{DEFINITIONS}/clusternetworkpolicies.policy.networking.k8s.io"))
    }

    fn allow_to_read(&self, name: &str, rules: &Value) -> Outcome {
        let base = "/apis/rbac.authorization.k8s.io/v1";
        self.create(&format!("{base}/clusterroles"), &json!({"metadata": {"name": name}, "rules": rules}))?;
        let subjects = json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "podwired"}]);
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let binding = json!({"metadata": {"name": name}, "subjects": subjects, "roleRef": role});
        self.create(&format!("{base}/clusterrolebindings"), &binding).map(drop)
    }

    /// A token of the daemons' account, as a pod of theirs gets it.
    pub(crate) fn token(&self) -> Outcome<String> {
        let asked = self.create(&format!("{ACCOUNT}/podwired/token"), &json!({"spec": {"expirationSeconds": 3600}}))?;
        asked["status"]["token"].as_str().map(str::to_owned).ok_or_else(|| format!("no token: {asked}"))
    }

    /// Makes an object.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Outcome<Value> {
        self.ask("POST", path, Some(object))
    }

    /// Changes an object by a merge patch.
    pub(crate) fn patch(&self, path: &str, change: &Value) -> Outcome<Value> {
        self.ask("PATCH", path, Some(change))
    }

    /// Takes an object away.
    pub(crate) fn delete(&self, path: &str) -> Outcome {
        self.ask("DELETE", path, None).map(drop)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        match self.request(method, path, ADMINISTRATOR, body)? {
            (200..=202, answer) => serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}")),
            (code, answer) => Err(format!("{method} {path}: {code}: {answer}")),
        }
    }

    /// What it answers to whoever has a token: a code, and a text.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Outcome<(u16, String)> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("https://{ADDRESS}:{}{path}", self.port))
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", kind)
            .body(body.map(Value::to_string).unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let answer = self.host.enter(|| -> Result<(u16, String), ureq::Error> {
            let mut response = self.agent.run(request)?;
            Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
        });
        answer.map_err(|error| format!("{method} {path}: {error}"))
    }
}
