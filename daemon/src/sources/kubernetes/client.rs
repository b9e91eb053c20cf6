//! The client of the Kubernetes API: how it is connected, how long an answer may take, and what kind of failure an error is.
//!
//! What may not live here: any kind of object. Only this file and `reflector` know the kube crate.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use podwire_attachment::regular_file;
use tokio::time::timeout;

use crate::sources::kubernetes::reply::Unread;

/// How long it may take to set up a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the API may be silent. During a watch it sends a bookmark once a minute, so that a connection that is silent for
/// longer is dead, whatever TCP knows of it; if it is not, the watch goes on from where it was, which costs little.
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// The largest kubeconfig that is read, in bytes.
const LARGEST_KUBECONFIG: u64 = 1024 * 1024;

/// Why the API could not be asked, or did not say.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(super) kind: FailureKind,
    text: String,
}

/// What the reflector decides by. Failures of one kind that follow one another are one event for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The API does not answer, or not as it should.
    Unavailable,
    /// It answers that this daemon may not ask.
    Denied,
    /// It does not remember the resource version that a watch or a list was to go on from.
    Expired,
    /// It has no objects of this kind: it does not know the kind.
    Absent,
}

impl Failure {
    fn unavailable(text: String) -> Self {
        Self { kind: FailureKind::Unavailable, text }
    }

    /// An error while objects were listed or watched; `plural` is what RBAC calls them.
    pub(super) fn listing(plural: &str, error: &Unread) -> Self {
        let failed = |why: String| Self::unavailable(format!("list {plural} in the Kubernetes API: {why}"));
        let status = match error {
            Unread::Api(kube::Error::Api(status)) => status,
            Unread::Api(error) => return failed(reason(error)),
            too_much @ Unread::TooMuch { .. } => return failed(too_much.to_string()),
        };
        let (kind, hint) = match status.code {
            401 => (FailureKind::Denied, ": it does not accept the token or certificate of this daemon".into()),
            403 => (FailureKind::Denied, format!(": allow it to get, list and watch {plural}")),
            404 => (FailureKind::Absent, String::new()),
            410 => (FailureKind::Expired, String::new()),
            _ => (FailureKind::Unavailable, String::new()),
        };
        let text = format!("list {plural} in the Kubernetes API: {} {}{hint}", status.code, status.message);
        Self { kind, text }
    }
}

/// A client of the API that a kubeconfig, or the service account of the pod, leads to.
///
/// # Errors
/// When it is not known where the API is, or how this daemon is to authenticate itself.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Failure> {
    let mut config = match kubeconfig {
        Some(path) => {
            let failed = |error| Failure::unavailable(format!("kubeconfig {}: {}", path.display(), chain(&error)));
            let unread = |error| Failure::unavailable(format!("kubeconfig {}: {error}", path.display()));
            // `read_from` makes its paths absolute, and has no limit: this is it.
            regular_file::read(path, LARGEST_KUBECONFIG).map_err(unread)?;
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::incluster().map_err(|error| {
            let why = chain(&error);
            Failure::unavailable(format!("the pod's service account: {why}: outside of a pod give --kubeconfig FILE"))
        })?,
    };
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        let text = "the kubeconfig's user is authenticated by a program, and podwired executes none: give it a token or \
                    a certificate";
        return Err(Failure { kind: FailureKind::Denied, text: text.into() });
    }
    config.connect_timeout = Some(CONNECT_WITHIN);
    let failed = |error| Failure::unavailable(format!("connect to the Kubernetes API: {}", reason(&error)));
    Client::try_from(config).map_err(failed)
}

/// What the API answers, if it does within [`SILENCE`].
///
/// # Errors
/// When it does not, or answers with an error.
pub(super) async fn within_silence<T>(
    plural: &str,
    request: impl Future<Output = Result<T, Unread>>,
) -> Result<T, Failure> {
    match timeout(SILENCE, request).await {
        Ok(answer) => answer.map_err(|error| Failure::listing(plural, &error)),
        Err(_) => Err(Failure::unavailable(format!("list {plural}: the Kubernetes API was silent for {SILENCE:?}"))),
    }
}

/// Why a request failed that the API did not answer, without the name that kube has for it.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(source) => chain(source.as_ref()),
        kube::Error::HyperError(source) => chain(source),
        kube::Error::ReadEvents(source) => chain(source),
        error => chain(error),
    }
}

/// An error and its sources, without what is said twice.
fn chain(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Some repeat the text of their source in their own.
        match texts.last_mut() {
            Some(last) if last.contains(&text) => {}
            _ => texts.push(text),
        }
        source = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str) -> Failure {
        let status = format!(r#"{{"status": "Failure", "message": "{message}", "code": {code}}}"#);
        Failure::listing("nodes", &kube::Error::Api(serde_json::from_str(&status).unwrap()).into())
    }

    #[test]
    fn what_the_api_denies_names_the_way_out() {
        let unauthorized = answer(401, "Unauthorized");
        assert_eq!(unauthorized.kind, FailureKind::Denied);
        let expected = "list nodes in the Kubernetes API: 401 Unauthorized: it does not accept the token or certificate of \
                        this daemon";
        assert_eq!(unauthorized.to_string(), expected);
        let forbidden = answer(403, "nodes is forbidden");
        assert_eq!(forbidden.kind, FailureKind::Denied);
        assert!(forbidden.to_string().ends_with("nodes is forbidden: allow it to get, list and watch nodes"));
        assert_eq!(answer(500, "etcdserver: request timed out").kind, FailureKind::Unavailable);
        assert_eq!(answer(410, "too old resource version").kind, FailureKind::Expired);
    }

    #[test]
    fn an_error_and_its_source_are_said_once_each() {
        let inner = std::io::Error::from_raw_os_error(111);
        let outer = std::io::Error::other(inner);
        assert_eq!(chain(&outer), "Connection refused (os error 111)");
    }
}
