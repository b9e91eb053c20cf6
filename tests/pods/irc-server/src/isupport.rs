//! The limits of this server and the `005` tokens that advertise them. Every limit stands here once, so that what is
//! advertised is what is enforced.

/// The name of the server in sources and replies; `.test` is reserved by RFC 2606.
pub(crate) const SERVER_NAME: &str = "irc.podwire.test";
/// The network name in `001` and `005`.
pub(crate) const NETWORK: &str = "podwire";
/// The version in `002`, `004` and `351`.
pub(crate) const VERSION: &str = concat!("irc-server-", env!("CARGO_PKG_VERSION"));

/// The longest nick, in bytes.
pub(crate) const NICK_LENGTH: usize = 30;
/// The longest user name, in bytes; a longer one is cut.
pub(crate) const USER_LENGTH: usize = 10;
/// The longest real name, in bytes; a longer one is cut.
pub(crate) const REAL_NAME_LENGTH: usize = 150;
/// The longest channel name with its `#`, in bytes.
pub(crate) const CHANNEL_LENGTH: usize = 50;
/// The longest topic, in bytes; a longer one is cut.
pub(crate) const TOPIC_LENGTH: usize = 300;
/// The longest reason of a KICK, in bytes; a longer one is cut.
pub(crate) const KICK_LENGTH: usize = 200;
/// The longest comment of a KILL, in bytes; a longer one is cut.
pub(crate) const KILL_LENGTH: usize = 200;
/// The longest away message, in bytes; a longer one is cut.
pub(crate) const AWAY_LENGTH: usize = 200;
/// The longest channel key, in bytes.
pub(crate) const KEY_LENGTH: usize = 23;
/// The longest ban mask, in bytes.
pub(crate) const MASK_LENGTH: usize = 150;
/// How many channels one client may be on.
pub(crate) const CHANNELS_PER_CLIENT: usize = 20;
/// How many bans one channel keeps.
pub(crate) const BANS_PER_CHANNEL: usize = 64;
/// How many mode changes with a parameter one MODE command makes.
pub(crate) const MODES_PER_COMMAND: usize = 12;
/// How many targets one PRIVMSG, NOTICE, KICK, NAMES or WHOWAS has.
pub(crate) const TARGETS_PER_COMMAND: usize = 4;

/// The parameters of the `005` lines, at most thirteen tokens each (modern IRC documents, "RPL_ISUPPORT").
pub(crate) fn lines() -> Vec<String> {
    let limited =
        ["PRIVMSG", "NOTICE", "KICK", "NAMES", "WHOWAS"].map(|command| format!("{command}:{TARGETS_PER_COMMAND}"));
    let tokens = [
        format!("NETWORK={NETWORK}"),
        "CASEMAPPING=ascii".to_owned(),
        "CHANTYPES=#".to_owned(),
        "PREFIX=(ov)@+".to_owned(),
        "CHANMODES=b,k,l,imnst".to_owned(),
        format!("MODES={MODES_PER_COMMAND}"),
        format!("MAXLIST=b:{BANS_PER_CHANNEL}"),
        format!("CHANLIMIT=#:{CHANNELS_PER_CLIENT}"),
        format!("TARGMAX={},JOIN:,PART:", limited.join(",")),
        format!("NICKLEN={NICK_LENGTH}"),
        format!("USERLEN={USER_LENGTH}"),
        format!("CHANNELLEN={CHANNEL_LENGTH}"),
        format!("TOPICLEN={TOPIC_LENGTH}"),
        format!("KICKLEN={KICK_LENGTH}"),
        format!("AWAYLEN={AWAY_LENGTH}"),
        format!("KEYLEN={KEY_LENGTH}"),
        "UTF8ONLY".to_owned(),
    ];
    tokens.chunks(13).map(|chunk| chunk.join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn the_tokens_a_client_needs_are_advertised() {
        let all = lines().join(" ");
        for token in ["CASEMAPPING=ascii", "CHANTYPES=#", "PREFIX=(ov)@+", "CHANMODES=b,k,l,imnst", "NICKLEN=30"] {
            assert!(all.split(' ').any(|found| found == token), "{token} in {all}");
        }
    }

    #[test]
    fn no_line_has_more_than_thirteen_tokens_or_does_not_fit() {
        for line in lines() {
            assert!(line.split(' ').count() <= 13 && line.len() < 400, "{line}");
        }
    }
}
