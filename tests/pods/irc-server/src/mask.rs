//! Masks `nick!user@host` with the wildcards `*` and `?`: completing and matching them (RFC 2812 section 2.5). Ban lists
//! are kept in `server/channel.rs`.

/// Completes a partial mask: `nick` to `nick!*@*`, `user@host` to `*!user@host`, `nick!user` to `nick!user@*`.
pub(crate) fn complete(mask: &str) -> String {
    let (nick, account) = match (mask.split_once('!'), mask.contains('@')) {
        (Some((nick, account)), _) => (nick, account),
        (None, true) => ("", mask),
        (None, false) => (mask, ""),
    };
    let (user, host) = account.split_once('@').unwrap_or((account, ""));
    let or_any = |part: &str| if part.is_empty() { "*".to_owned() } else { part.to_owned() };
    format!("{}!{}@{}", or_any(nick), or_any(user), or_any(host))
}

/// Whether `mask` fits `subject`, letters of either case being the same. `*` stands for any run of characters, `?` for
/// one. The time is bounded by the product of both lengths; there is no recursion that a hostile mask could deepen.
pub(crate) fn matches(mask: &str, subject: &str) -> bool {
    let mask: Vec<char> = mask.to_ascii_lowercase().chars().collect();
    let subject: Vec<char> = subject.to_ascii_lowercase().chars().collect();
    let (mut at_mask, mut at_subject) = (0, 0);
    // After a `*`: its place in the mask, and the place in the subject up to which it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while at_subject < subject.len() {
        match mask.get(at_mask) {
            Some('*') => {
                star = Some((at_mask, at_subject));
                at_mask += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == subject[at_subject] => {
                at_mask += 1;
                at_subject += 1;
            }
            _ => {
                let Some((place, swallowed)) = star else { return false };
                star = Some((place, swallowed + 1));
                at_mask = place + 1;
                at_subject = swallowed + 1;
            }
        }
    }
    mask[at_mask..].iter().all(|&character| character == '*')
}

#[cfg(test)]
mod tests {
    use super::{complete, matches};

    #[test]
    fn a_partial_mask_is_completed() {
        for (partial, whole) in [
            ("bob", "bob!*@*"),
            ("*@10.0.0.1", "*!*@10.0.0.1"),
            ("user@host", "*!user@host"),
            ("bob!user", "bob!user@*"),
            ("bob!user@host", "bob!user@host"),
            ("!@", "*!*@*"),
        ] {
            assert_eq!(complete(partial), whole, "{partial}");
        }
    }

    #[test]
    fn a_mask_without_wildcards_fits_only_itself_in_either_case() {
        assert!(matches("Bob!u@h", "bOB!u@h"));
        assert!(!matches("bob!u@h", "bobo!u@h"));
        assert!(!matches("bobo!u@h", "bob!u@h"));
    }

    #[test]
    fn wildcards_stand_for_runs_and_single_characters() {
        for (mask, subject, fits) in [
            ("*!*@127.0.0.1", "alice!a@127.0.0.1", true),
            ("*!*@127.0.0.?", "alice!a@127.0.0.1", true),
            ("*!*@127.0.0.?", "alice!a@127.0.0.12", false),
            ("a*e!*@*", "alice!a@h", true),
            ("a*e!*@*", "alicia!a@h", false),
            ("*a*b*c", "xxaxxbxxcxc", true),
            ("*a*b*c", "xxbxxaxxc", false),
            ("b?b!*@*", "böb!u@h", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(mask, subject), fits, "{mask} on {subject}");
        }
    }

    #[test]
    fn a_hostile_mask_is_answered_at_once() {
        let began = std::time::Instant::now();
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &"a".repeat(400)));
        assert!(began.elapsed() < std::time::Duration::from_secs(1));
    }
}
