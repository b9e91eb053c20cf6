//! The syntax of names, labels and port names (Kubernetes' "Object Names and IDs" and "Labels and Selectors"), for whoever reads
//! them: the plugin, which gets a pod's labels from its runtime, and the daemon, which reads objects. Each function says what is
//! allowed where something is not.

/// What may be written, for an error.
pub type Allowed = &'static str;

/// The key of a label: a name, with or without the prefix of a domain before it.
///
/// # Errors
/// What is allowed.
pub fn label_key(key: &str) -> Result<(), Allowed> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let fits = prefix.is_none_or(|prefix| subdomain(prefix).is_ok()) && !name.is_empty() && part(name);
    let allowed = "NAME or DOMAIN/NAME; NAME has 1 to 63 letters, digits, '-', '_' and '.', and begins and ends with a \
                   letter or digit";
    if fits { Ok(()) } else { Err(allowed) }
}

/// The value of a label.
///
/// # Errors
/// What is allowed.
pub fn label_value(value: &str) -> Result<(), Allowed> {
    let allowed = "nothing, or up to 63 letters, digits, '-', '_' and '.' that begin and end with a letter or digit";
    if value.is_empty() || part(value) { Ok(()) } else { Err(allowed) }
}

/// The name of a namespace.
///
/// # Errors
/// What is allowed.
pub fn label(name: &str) -> Result<(), Allowed> {
    let allowed = "1 to 63 small letters, digits and '-' that begin and end with a letter or digit";
    if dns_label(name) { Ok(()) } else { Err(allowed) }
}

/// The name of a pod, a policy or a node.
///
/// # Errors
/// What is allowed.
pub fn subdomain(name: &str) -> Result<(), Allowed> {
    let allowed = "up to 253 small letters, digits, '-' and '.'; each part between dots begins and ends with a letter or \
                   digit";
    // Unlike those of a label, its parts have no bound of their own.
    let fits = name.len() <= 253 && name.split('.').all(lower);
    if fits { Ok(()) } else { Err(allowed) }
}

/// The name of a port (RFC 6335, section 5.1, in small letters).
///
/// # Errors
/// What is allowed.
pub fn port_name(name: &str) -> Result<(), Allowed> {
    let fits =
        name.len() <= 15 && lower(name) && !name.contains("--") && name.contains(|c: char| c.is_ascii_lowercase());
    let allowed = "a number from 1 to 65535, or a name of up to 15 small letters, digits and single '-', with a letter in \
                   it, that begins and ends with a letter or digit";
    if fits { Ok(()) } else { Err(allowed) }
}

fn dns_label(name: &str) -> bool {
    name.len() <= 63 && lower(name)
}

/// Small letters, digits and hyphens, which are not at an end.
fn lower(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') && bounded(name)
}

fn part(name: &str) -> bool {
    name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && bounded(name)
}

fn bounded(name: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    is_end(name.bytes().next()) && is_end(name.bytes().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_accepts_is_accepted_and_nothing_else() {
        let long = "a".repeat(63);
        for good in ["a", "A.b_c-9", "example.com/a", &long, &format!("example.com/{long}")] {
            assert_eq!(label_key(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "a-", "Ex.com/a", "a b", "ä", &format!("{long}a")] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        assert!(["", "a", "1.2_3"].into_iter().all(|value| label_value(value).is_ok()));
        assert!(["-", "a/b", ".a", &format!("{long}a")].into_iter().all(|value| label_value(value).is_err()));
        assert!(label("kube-system").is_ok() && ["", "a.b", "A", "a-"].into_iter().all(|name| label(name).is_err()));
        assert!(
            subdomain("web.v-1").is_ok() && ["", "a..b", ".a", "A"].into_iter().all(|name| subdomain(name).is_err())
        );
        assert!(["http", "a1-b", "1a"].into_iter().all(|name| port_name(name).is_ok()));
        let bad = ["", "80", "a--b", "-a", "a-", "HTTP", "a_b", "abcdefghijklmnop"];
        assert!(bad.into_iter().all(|name| port_name(name).is_err()));
    }
}
