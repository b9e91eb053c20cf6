//! `CNI_ARGS`: pairs of key and value that a runtime passes to every plugin (CNI specification, section 2).

use podwire_attachment::ledger::PodName;

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
        let unknown: Vec<_> = arguments.pairs.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())).collect();
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

    /// The pod in full, where its runtime is one of Kubernetes.
    pub(crate) fn pod_name(&self) -> Option<PodName> {
        let given = |key| self.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
        let (namespace, name) = (given("K8S_POD_NAMESPACE")?, given("K8S_POD_NAME")?);
        Some(PodName { namespace, name, uid: given("K8S_POD_UID").unwrap_or_default() })
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
    }
}
