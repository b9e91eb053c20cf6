//! Snapshots of a host's network and of the lab around it, taken before and after, so that leaks are detected. They
//! read /proc and directories only, since the demo needs no other program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use podwire_tests::lab::host::Host;

/// Facts, one a line.
pub(crate) type Facts = BTreeSet<String>;

/// Devices, routes, namespaces and the ledger's holdings of a host.
pub(crate) fn of_host(host: &Host) -> Facts {
    host.enter(|| {
        let mut facts = Facts::new();
        for name in ["dev", "route", "ipv6_route", "if_inet6"] {
            let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(name)).unwrap_or_default();
            facts.extend(text.lines().filter_map(|line| fact(name, line)));
        }
        for directory in ["/run/netns", "/run/podwire/podwire/attachments", "/run/podwire/podwire/claims"] {
            facts.extend(entries(Path::new(directory)));
        }
        facts
    })
}

/// A line of /proc/net without its counters.
fn fact(name: &str, line: &str) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    // A device's link-local address comes and settles by itself, some time after the device is up.
    if name != "dev" && fields.first()?.starts_with("fe80") {
        return None;
    }
    let kept = match name {
        // Two lines of header, then the device's name and a colon.
        "dev" => fields.first()?.strip_suffix(':')?.to_owned(),
        "route" => [*fields.first()?, *fields.get(1)?, *fields.get(7)?].join(" "),
        "ipv6_route" => [*fields.first()?, *fields.get(1)?, *fields.get(9)?].join(" "),
        // Address, prefix length and device; not the device's index, and not how far the address has settled.
        _ => [*fields.first()?, *fields.get(2)?, *fields.get(5)?].join(" "),
    };
    Some(format!("{name} {kept}"))
}

/// The names in a directory; none when there is no such directory.
pub(crate) fn entries(directory: &Path) -> Facts {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// What came and what went, as a sentence.
///
/// # Errors
/// When there is a difference.
pub(crate) fn compare(place: &str, before: &Facts, after: &Facts) -> Result<(), String> {
    let list = |facts: Vec<&String>| facts.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (more, fewer) = (list(after.difference(before).collect()), list(before.difference(after).collect()));
    match (more.as_str(), fewer.as_str()) {
        ("", "") => Ok(()),
        (more, "") => Err(format!("{place} has more than before: {more}")),
        ("", fewer) => Err(format!("{place} has less than before: {fewer}")),
        (more, fewer) => Err(format!("{place} has more than before: {more}; and less: {fewer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_and_no_difference_is_none() {
        let facts = |list: &[&str]| list.iter().map(|fact| (*fact).to_owned()).collect::<Facts>();
        assert_eq!(compare("node-1", &facts(&["a"]), &facts(&["a"])), Ok(()));
        let error = compare("node-1", &facts(&["a", "b"]), &facts(&["a", "c"])).unwrap_err();
        assert_eq!(error, "node-1 has more than before: c; and less: b");
    }

    #[test]
    fn counters_are_not_compared() {
        assert_eq!(fact("dev", "  eth0: 1078 13 0 0").unwrap(), "dev eth0");
        assert_eq!(fact("dev", "Inter-|   Receive  |  Transmit"), None);
        let route = "eth0 0032A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0";
        let address = "fd000010024400010000000000000000 03 80 00 82 podwire.1";
        assert_eq!(fact("if_inet6", address).unwrap(), "if_inet6 fd000010024400010000000000000000 80 podwire.1");
        assert_eq!(fact("if_inet6", "fe80000000000000082e00fffedbf37f 02 40 20 80 eth0"), None);
        assert_eq!(fact("route", route).unwrap(), "route eth0 0032A8C0 00FFFFFF");
    }
}
