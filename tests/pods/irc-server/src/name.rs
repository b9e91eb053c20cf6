//! Which names are well formed: nicks, channel names, user names, channel keys (RFC 2812 section 2.3.1). How names are
//! compared stands in `casemap.rs`.

use crate::isupport::{CHANNEL_LENGTH, KEY_LENGTH, NICK_LENGTH, USER_LENGTH};
use crate::text;

/// Whether `nick` may be taken: a letter or one of ``[]\`_^{|}`` first, then also digits and `-`, at most
/// [`NICK_LENGTH`] bytes.
pub(crate) fn is_nick(nick: &str) -> bool {
    let special = |byte: u8| matches!(byte, b'[' | b']' | b'\\' | b'`' | b'_' | b'^' | b'{' | b'|' | b'}');
    nick.len() <= NICK_LENGTH
        && nick.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || special(first))
        && nick.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte) || byte == b'-')
}

/// Whether `name` has the sign of a channel, well formed or not.
pub(crate) fn is_channel_like(name: &str) -> bool {
    name.starts_with('#')
}

/// Whether `name` is a well-formed channel name: `#` and at least one character, no space, comma, colon or control
/// character, at most [`CHANNEL_LENGTH`] bytes.
pub(crate) fn is_channel(name: &str) -> bool {
    is_channel_like(name)
        && (2..=CHANNEL_LENGTH).contains(&name.len())
        && !name.contains(|character: char| matches!(character, ' ' | ',' | ':') || character.is_control())
}

/// Whether `key` may be set with `MODE +k`: printable ASCII without space, comma and leading colon, at most
/// [`KEY_LENGTH`] bytes.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=KEY_LENGTH).contains(&key.len())
        && !key.starts_with(':')
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// The user name as far as it can stand in `nick!user@host`: ASCII letters, digits and `-._~`, at most
/// [`USER_LENGTH`] bytes. Empty when nothing is left.
pub(crate) fn user(given: &str) -> String {
    let kept: String = given
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | '~'))
        .collect();
    text::cut(&kept, USER_LENGTH).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{is_channel, is_key, is_nick, user};

    #[test]
    fn nicks_follow_the_grammar() {
        for good in ["a", "Alice", "[x]-9", "`_^{|}\\", &"n".repeat(30)] {
            assert!(is_nick(good), "{good}");
        }
        for bad in ["", "9a", "-a", "a b", "a!b", "a@b", "#a", "a\u{e9}", "a\x01", ":a", "a,b", "*", &"n".repeat(31)] {
            assert!(!is_nick(bad), "{bad:?}");
        }
    }

    #[test]
    fn channel_names_follow_the_grammar() {
        for good in ["#a", "#Caf\u{e9}", "##x", &format!("#{}", "c".repeat(49))] {
            assert!(is_channel(good), "{good}");
        }
        for bad in ["", "#", "a", "&a", "#a b", "#a,b", "#a:b", "#a\x07", "#\x02b", &format!("#{}", "c".repeat(50))] {
            assert!(!is_channel(bad), "{bad:?}");
        }
    }

    #[test]
    fn keys_follow_the_grammar() {
        assert!(is_key("secret:1") && is_key(&"k".repeat(23)));
        for bad in ["", ":key", "a b", "a,b", "\x03", &"k".repeat(24)] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_user_name_loses_what_would_forge_a_mask() {
        assert_eq!(user("a!b@c *d"), "abcd");
        assert_eq!(user("averyverylongname"), "averyveryl");
        assert_eq!(user("@!* "), "");
    }
}
