//! The lines that the bot sends: cleaned, kept within the limit of IRC, ended by CR LF. Pure.

/// The longest IRC message in bytes with its CR LF (RFC 2812 section 2.3).
pub(crate) const LINE_LIMIT: usize = 512;

/// What a server may put before a relayed line, in bytes: `:bot!user@host ` with a user of 10 and a host of 63 bytes,
/// and some air. The asker's copy has to stay within the limit too, or the server cuts it anywhere.
const RELAY_ROOM: usize = 100;

/// The line end of IRC (RFC 2812 section 2.3).
const LINE_END: &str = "\r\n";

/// The nickname that the server sends its questions to.
const NICK: &str = "bot";

/// The longest password in bytes that fits into `PASS :<password>` with its line end.
pub(crate) const PASSWORD_LIMIT: usize = LINE_LIMIT - "PASS :\r\n".len();

/// The text without control characters (C0 with CR, LF and NUL, DEL, C1): none of them may reach an IRC line.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// The text's longest beginning of at most `limit` bytes that ends at a character's boundary.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// One line, cleaned, cut and ended.
fn line(text: &str, limit: usize) -> String {
    let text = clean(text);
    format!("{}{LINE_END}", cut(&text, limit - LINE_END.len()))
}

/// `PASS`, `NICK` and `USER` (RFC 2812 sections 3.1.1 to 3.1.3). The password has no control characters and at most
/// [`PASSWORD_LIMIT`] bytes; `arguments` sees to that.
pub(crate) fn registration(password: &str) -> String {
    // The colon lets a password begin with a colon or hold a space.
    [format!("PASS :{password}"), format!("NICK {NICK}"), format!("USER {NICK} 0 * :weather bot")]
        .iter()
        .map(|text| line(text, LINE_LIMIT))
        .collect()
}

/// `PONG` with the token of the server's `PING` (RFC 2812 section 3.7.3).
pub(crate) fn pong(token: &str) -> String {
    line(&format!("PONG :{token}"), LINE_LIMIT)
}

/// The bot's own `PING` (RFC 2812 section 3.7.2); any line that comes after it proves that the server lives.
pub(crate) fn ping() -> String {
    line(&format!("PING :{NICK}"), LINE_LIMIT)
}

/// `PRIVMSG` to one nickname (RFC 2812 section 3.3.1), short enough to be relayed whole.
pub(crate) fn privmsg(nick: &str, text: &str) -> String {
    line(&format!("PRIVMSG {nick} :{text}"), LINE_LIMIT - RELAY_ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_is_three_lines_in_the_order_of_the_rfc() {
        assert_eq!(registration("pass word"), "PASS :pass word\r\nNICK bot\r\nUSER bot 0 * :weather bot\r\n");
    }

    #[test]
    fn the_longest_password_is_sent_whole() {
        let password = "p".repeat(PASSWORD_LIMIT);
        let first = registration(&password).split_inclusive("\r\n").next().unwrap().to_owned();
        assert_eq!(first.len(), LINE_LIMIT);
        assert!(first.contains(&password));
    }

    #[test]
    fn control_characters_are_removed_and_everything_else_is_kept() {
        assert_eq!(privmsg("alice", "a\r\nQUIT\u{0}\u{1}\u{7f}\u{85}\té°C"), "PRIVMSG alice :aQUITé°C\r\n");
    }

    #[test]
    fn a_long_line_is_cut_before_the_character_that_does_not_fit() {
        let sent = privmsg("alice", &"é".repeat(600));
        assert!(sent.ends_with("é\r\n"), "{sent}");
        assert!((410..=412).contains(&sent.len()), "{}", sent.len());
        let sent = privmsg("alic", &"é".repeat(600));
        assert!(sent.ends_with("é\r\n"), "{sent}");
        assert!((410..=412).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn a_pong_to_the_longest_ping_stays_within_the_limit() {
        assert_eq!(pong(&"t".repeat(LINE_LIMIT)).len(), LINE_LIMIT);
    }
}
