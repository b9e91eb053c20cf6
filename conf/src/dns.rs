//! DNS settings in a result: from the configuration, or from a file in the format of resolv.conf.

use serde::Serialize;
use serde_json::Value;

use crate::invalid::Invalid;
use crate::json::Field;

/// The `dns` of a result (CNI specification, section 5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Addresses of name servers, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// The `dns` of a configuration; `None` when it is empty. An empty list is not nothing: it overrides the file.
    ///
    /// # Errors
    /// When a field is of the wrong type.
    pub fn parse(document: &Value) -> Result<Option<Self>, Invalid> {
        let Some(dns) = Field::root(document).get("dns")? else { return Ok(None) };
        let mut present = false;
        let mut texts = |key: &str| -> Result<Vec<String>, Invalid> {
            let Some(list) = dns.get(key)? else { return Ok(Vec::new()) };
            present = true;
            list.list()?.iter().map(|entry| entry.text().map(str::to_owned)).collect()
        };
        let (nameservers, search, options) = (texts("nameservers")?, texts("search")?, texts("options")?);
        let domain = dns.get("domain")?.map_or(Ok(""), |domain| domain.text())?.to_owned();
        let present = present || !domain.is_empty();
        Ok(present.then_some(Self { nameservers, domain, search, options }))
    }

    /// Reads a file in the format of resolv.conf(5).
    pub fn of_file(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => dns.nameservers.extend(words.next()),
                Some("domain") => dns.domain = words.next().unwrap_or_default(),
                Some("search") => dns.search = words.collect(),
                Some("options") => dns.options.extend(words),
                _ => {}
            }
        }
        dns
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn i15_a_file_is_read_as_the_resolver_reads_it() {
        let text = "# a comment\nnameserver 10.0.0.1 # first\nnameserver fd00::53\n;x\ndomain a.test\nsearch a.test b.test\noptions ndots:5 rotate\n";
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let expected = Dns {
            nameservers: words("10.0.0.1 fd00::53"),
            domain: "a.test".into(),
            search: words("a.test b.test"),
            options: words("ndots:5 rotate"),
        };
        assert_eq!(Dns::of_file(text), expected);
        assert!(Dns::of_file("nonsense\n").is_empty());
    }

    #[test]
    fn r20_an_empty_list_counts_and_an_absent_one_does_not() {
        assert_eq!(Dns::parse(&json!({"dns": {}})), Ok(None));
        assert_eq!(Dns::parse(&json!({"dns": {"domain": ""}})), Ok(None));
        assert_eq!(Dns::parse(&json!({"dns": {"search": []}})), Ok(Some(Dns::default())));
        let error = Dns::parse(&json!({"dns": {"nameservers": "10.0.0.1"}})).unwrap_err().to_string();
        assert_eq!(error, "dns.nameservers: \"10.0.0.1\" is not a list");
    }
}
