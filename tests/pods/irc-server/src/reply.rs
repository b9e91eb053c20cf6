//! The numerics that inform (0xx, 2xx, 3xx), by the names that RFC 2812 section 5.1 and the modern IRC documents give
//! them without `RPL_`. The numerics that refuse stand in `refusal.rs`.

macro_rules! replies {
    ($($name:ident = $code:literal;)*) => { $(pub(crate) const $name: &str = $code;)* };
}

replies! {
    WELCOME = "001";
    YOURHOST = "002";
    CREATED = "003";
    MYINFO = "004";
    ISUPPORT = "005";
    UMODEIS = "221";
    LUSERCLIENT = "251";
    LUSEROP = "252";
    LUSERUNKNOWN = "253";
    LUSERCHANNELS = "254";
    LUSERME = "255";
    ADMINME = "256";
    ADMINLOC1 = "257";
    ADMINLOC2 = "258";
    ADMINEMAIL = "259";
    LOCALUSERS = "265";
    GLOBALUSERS = "266";
    AWAY = "301";
    USERHOST = "302";
    ISON = "303";
    UNAWAY = "305";
    NOWAWAY = "306";
    WHOISUSER = "311";
    WHOISSERVER = "312";
    WHOISOPERATOR = "313";
    WHOWASUSER = "314";
    ENDOFWHO = "315";
    WHOISIDLE = "317";
    ENDOFWHOIS = "318";
    WHOISCHANNELS = "319";
    LISTSTART = "321";
    LIST = "322";
    LISTEND = "323";
    CHANNELMODEIS = "324";
    CREATIONTIME = "329";
    NOTOPIC = "331";
    TOPIC = "332";
    TOPICWHOTIME = "333";
    INVITING = "341";
    VERSION = "351";
    WHOREPLY = "352";
    NAMREPLY = "353";
    LINKS = "364";
    ENDOFLINKS = "365";
    ENDOFNAMES = "366";
    BANLIST = "367";
    ENDOFBANLIST = "368";
    ENDOFWHOWAS = "369";
    INFO = "371";
    MOTD = "372";
    ENDOFINFO = "374";
    MOTDSTART = "375";
    ENDOFMOTD = "376";
    YOUREOPER = "381";
    TIME = "391";
}
