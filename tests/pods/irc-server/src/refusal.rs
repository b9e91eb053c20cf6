//! The numerics that refuse something (4xx, 5xx and 696) with their sentences. The numerics that inform stand in
//! `reply.rs`.

/// A refusal: its numeric and the sentence that ends the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// The three digits.
    pub(crate) code: &'static str,
    /// The sentence after the last colon.
    pub(crate) sentence: &'static str,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $sentence:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: Refusal = Refusal { code: $code, sentence: $sentence };)*
    };
}

refusals! {
    /// ERR_NOSUCHNICK, RFC 2812 section 5.2, like all up to 502 that name no other source.
    NO_SUCH_NICK = "401", "No such nick or channel";
    /// ERR_NOSUCHSERVER.
    NO_SUCH_SERVER = "402", "No such server";
    /// ERR_NOSUCHCHANNEL.
    NO_SUCH_CHANNEL = "403", "No such channel";
    /// ERR_CANNOTSENDTOCHAN.
    CANNOT_SEND = "404", "Cannot send to channel";
    /// ERR_TOOMANYCHANNELS.
    TOO_MANY_CHANNELS = "405", "You have joined too many channels";
    /// ERR_WASNOSUCHNICK.
    WAS_NO_SUCH_NICK = "406", "There was no such nick";
    /// ERR_TOOMANYTARGETS.
    TOO_MANY_TARGETS = "407", "Too many targets; the message was not sent to this one";
    /// ERR_NOORIGIN.
    NO_ORIGIN = "409", "No origin given";
    /// ERR_INVALIDCAPCMD, IRCv3 capability negotiation.
    INVALID_CAP_COMMAND = "410", "Unknown CAP subcommand";
    /// ERR_NORECIPIENT.
    NO_RECIPIENT = "411", "No recipient given";
    /// ERR_NOTEXTTOSEND.
    NO_TEXT = "412", "No text to send";
    /// ERR_INPUTTOOLONG, modern IRC documents.
    INPUT_TOO_LONG = "417", "Input line was longer than 512 bytes and was skipped";
    /// ERR_UNKNOWNCOMMAND.
    UNKNOWN_COMMAND = "421", "Unknown command";
    /// ERR_NONICKNAMEGIVEN.
    NO_NICK_GIVEN = "431", "No nick given";
    /// ERR_ERRONEUSNICKNAME.
    BAD_NICK = "432", "This nick is not well formed";
    /// ERR_NICKNAMEINUSE.
    NICK_IN_USE = "433", "This nick is already in use";
    /// ERR_USERNOTINCHANNEL.
    USER_NOT_IN_CHANNEL = "441", "They are not on that channel";
    /// ERR_NOTONCHANNEL.
    NOT_ON_CHANNEL = "442", "You are not on that channel";
    /// ERR_USERONCHANNEL.
    USER_ON_CHANNEL = "443", "is already on channel";
    /// ERR_NOTREGISTERED.
    NOT_REGISTERED = "451", "You have not registered";
    /// ERR_NEEDMOREPARAMS.
    NEED_MORE_PARAMETERS = "461", "Not enough parameters";
    /// ERR_ALREADYREGISTRED.
    ALREADY_REGISTERED = "462", "You are already registered";
    /// ERR_PASSWDMISMATCH.
    PASSWORD_MISMATCH = "464", "Password incorrect or missing";
    /// ERR_INVALIDUSERNAME, as several servers use it; RFC 2812 has no numeric for it.
    INVALID_USER_NAME = "468", "This user name has no usable character";
    /// ERR_CHANNELISFULL.
    CHANNEL_IS_FULL = "471", "Cannot join channel (+l)";
    /// ERR_UNKNOWNMODE.
    UNKNOWN_MODE = "472", "is unknown mode char to me";
    /// ERR_INVITEONLYCHAN.
    INVITE_ONLY = "473", "Cannot join channel (+i)";
    /// ERR_BANNEDFROMCHAN.
    BANNED = "474", "Cannot join channel (+b)";
    /// ERR_BADCHANNELKEY.
    BAD_KEY = "475", "Cannot join channel (+k)";
    /// ERR_BANLISTFULL.
    BAN_LIST_FULL = "478", "The ban list of the channel is full";
    /// ERR_NOPRIVILEGES.
    NO_PRIVILEGES = "481", "Permission denied: you are not server operator";
    /// ERR_CHANOPRIVSNEEDED.
    NOT_OPERATOR = "482", "You are not channel operator";
    /// ERR_CANTKILLSERVER.
    CANNOT_KILL_SERVER = "483", "You cannot kill a server";
    /// ERR_NOOPERHOST.
    NO_OPERATOR_HOST = "491", "No operators here, or none from your host";
    /// ERR_UMODEUNKNOWNFLAG.
    UNKNOWN_USER_MODE = "501", "Unknown MODE flag";
    /// ERR_USERSDONTMATCH.
    USERS_DO_NOT_MATCH = "502", "Cannot see or change the mode of other users";
    /// ERR_INVALIDKEY, modern IRC documents.
    INVALID_KEY = "525", "The key is not well formed";
    /// ERR_INVALIDMODEPARAM, modern IRC documents.
    INVALID_MODE_PARAMETER = "696", "The parameter of this mode is not valid";
}
