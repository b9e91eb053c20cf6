//! `CNI_ARGS`: pairs of key and value that a runtime passes to every plugin (CNI specification, section 2).

use podwire_attachment::ledger::PodName;
use podwire_conf::labels::{self, Labels};

use super::failure::{Code, Failure};

/// Keys that are understood, or that every Kubernetes runtime sends.
const KNOWN: [&str; 8] = [
    "IgnoreUnknown",
    "IP",
    "MAC",
    "GATEWAY",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
];

/// Before the key of a label: `label:app=web`. One pair for each label, since libcni refuses a pair with a second `=`.
const LABEL: &str = "label:";

/// The pairs, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Splits at `;` and at the first `=`. Empty items are skipped.
    ///
    /// # Errors
    /// An item without `=`, and an unknown key unless `IgnoreUnknown` is set.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::new(Code::Environment, message, format!("CNI_ARGS is {text:?}"));
        let mut pairs = Vec::new();
        for item in text.split(';').filter(|item| !item.is_empty()) {
            let pair = item.split_once('=').ok_or_else(|| wrong(format!("CNI_ARGS: invalid pair {item:?}")))?;
            pairs.push((pair.0.to_owned(), pair.1.to_owned()));
        }
        let arguments = Self { pairs };
        let ignore = match arguments.get("IgnoreUnknown").unwrap_or_default() {
            "1" | "true" | "True" | "TRUE" => true,
            "" | "0" | "false" | "False" | "FALSE" => false,
            other => return Err(wrong(format!("CNI_ARGS: IgnoreUnknown is {other:?}, neither true nor false"))),
        };
        let is_known = |key: &str| KNOWN.contains(&key) || key.starts_with(LABEL);
        let unknown: Vec<_> = arguments.pairs.iter().filter(|(key, _)| !is_known(key)).collect();
        if ignore || unknown.is_empty() {
            return Ok(arguments);
        }
        let list: Vec<_> = unknown.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Err(wrong(format!("CNI_ARGS: unknown args {list:?}; IgnoreUnknown=1 lets them pass")))
    }

    /// The value of a key; the last one, if there is more than one.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The pod, as far as its runtime names it.
    pub(crate) fn pod_name(&self) -> Option<PodName> {
        let given = |key| self.get(key).unwrap_or_default().to_owned();
        let (namespace, name) = (given("K8S_POD_NAMESPACE"), given("K8S_POD_NAME"));
        let is_named = !namespace.is_empty() || !name.is_empty();
        is_named.then(|| PodName { namespace, name, uid: given("K8S_POD_UID") })
    }

    /// The pod's labels, over those of its network; the last one, if there are several of one key.
    ///
    /// # Errors
    /// A label that Kubernetes would not take.
    pub(crate) fn labels(&self, of_network: &Labels) -> Result<Labels, Failure> {
        let own = self.pairs.iter().filter_map(|(key, value)| Some((key.strip_prefix(LABEL)?, value)));
        let mut labels = of_network.clone();
        labels.extend(own.map(|(key, value)| (key.to_owned(), value.clone())));
        labels::validate(&labels)
            .map_err(|why| Failure::new(Code::Environment, format!("CNI_ARGS: {LABEL}KEY=VALUE: {why}"), ""))?;
        Ok(labels)
    }

    /// A name for people: `namespace/name` on Kubernetes, as far as it is given.
    pub(crate) fn pod(&self) -> Option<String> {
        let name = self.get("K8S_POD_NAME").filter(|name| !name.is_empty())?;
        let namespace = self.get("K8S_POD_NAMESPACE").filter(|namespace| !namespace.is_empty());
        Some(namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Arguments, String> {
        Arguments::parse(text).map_err(|failure| {
            assert_eq!(failure.code(), 4);
            failure.message().to_owned()
        })
    }

    #[test]
    fn a1_a3_a7_a8_pairs_are_split_at_the_first_equals_sign_and_the_last_wins() {
        assert_eq!(parse(""), Ok(Arguments::default()));
        let arguments = parse("IgnoreUnknown=1;X={\"a\"=1};IP=;;MAC=a;MAC=b;").unwrap();
        assert_eq!(arguments.get("X"), Some("{\"a\"=1}"));
        assert_eq!((arguments.get("IP"), arguments.get("MAC"), arguments.get("ip")), (Some(""), Some("b"), None));
    }

    #[test]
    fn a2_an_item_without_an_equals_sign_is_rejected() {
        assert_eq!(parse("IgnoreUnknown=1;foo").unwrap_err(), "CNI_ARGS: invalid pair \"foo\"");
    }

    #[test]
    fn a4_a5_a6_unknown_keys_are_accepted_with_ignore_unknown_in_any_position() {
        for yes in ["1", "true", "True", "TRUE"] {
            assert!(parse(&format!("FOO=BAR;IgnoreUnknown={yes}")).is_ok(), "{yes}");
        }
        for no in ["FOO=BAR", "FOO=BAR;IgnoreUnknown=0", "IgnoreUnknown=false;FOO=BAR"] {
            let expected = "CNI_ARGS: unknown args [\"FOO=BAR\"]; IgnoreUnknown=1 lets them pass";
            assert_eq!(parse(no).unwrap_err(), expected, "{no}");
        }
        assert!(parse("IgnoreUnknown=yes").unwrap_err().contains("neither true nor false"));
    }

    #[test]
    fn a9_a_pod_has_the_name_that_the_runtime_gives() {
        let pod = |text: &str| parse(text).unwrap().pod();
        assert_eq!(pod(""), None);
        assert_eq!(pod("IgnoreUnknown=1;K8S_POD_NAME=web").unwrap(), "web");
        assert_eq!(pod("K8S_POD_NAME=web;K8S_POD_UID=;K8S_POD_NAMESPACE=shop").unwrap(), "shop/web");
        let named = |text: &str| parse(text).unwrap().pod_name().map(|pod| [pod.namespace, pod.name, pod.uid]);
        assert_eq!(named("K8S_POD_UID=7;K8S_POD_NAME="), None);
        assert_eq!(named("K8S_POD_NAME=web").unwrap(), ["", "web", ""]);
        assert_eq!(named("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=7").unwrap(), ["shop", "web", "7"]);
    }

    #[test]
    fn labels_of_the_pod_come_over_those_of_the_network_and_have_the_syntax_of_kubernetes() {
        let of_network = Labels::from([("app".into(), "none".into()), ("zone".into(), "a".into())]);
        let labels = |text: &str| {
            let labels = parse(text).unwrap().labels(&of_network).map_err(|failure| {
                assert_eq!(failure.code(), 4);
                failure.message().to_owned()
            })?;
            Ok::<_, String>(labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())
        };
        assert_eq!(labels("").unwrap(), ["app=none", "zone=a"]);
        let given = "label:app=web;label:example.com/tier=;label:app=irc";
        assert_eq!(labels(given).unwrap(), ["app=irc", "example.com/tier=", "zone=a"]);
        for (wrong, said) in [("label:=a", "the key \"\""), ("label:app=a b", "app: the value \"a b\"")] {
            let error = labels(wrong).unwrap_err();
            assert!(error.starts_with(&format!("CNI_ARGS: label:KEY=VALUE: {said} is not valid: ")), "{error}");
        }
        let many: String = (0..511).map(|number| format!("label:l{number}=;")).collect();
        assert_eq!(labels(&many).unwrap_err(), "CNI_ARGS: label:KEY=VALUE: 513 labels, and at most 512 are allowed");
    }
}
