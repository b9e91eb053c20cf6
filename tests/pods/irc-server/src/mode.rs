//! Channel mode strings: what a `MODE #channel …` command asks for, and how the changes that were made are written
//! (RFC 2812 section 3.2.3). Who may change what, and the modes themselves, stand in `server/`.

use crate::isupport::MODES_PER_COMMAND;

/// One thing that a mode string asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A flag without parameter: `i`, `m`, `n`, `s` or `t`.
    Flag { set: bool, letter: char },
    /// `o` or `v` for a nick.
    Rank { set: bool, letter: char, nick: String },
    /// `k`: a key to set, or `None` to take the key away. The parameter of `-k` is optional and not compared.
    Key(Option<String>),
    /// `l`: how many members the channel may have, or `None` for any number.
    Limit(Option<usize>),
    /// `b` with a mask, as it was written.
    Ban { set: bool, mask: String },
    /// `b` without a mask: a question.
    BanList,
    /// A letter whose parameter is missing.
    Missing,
    /// A letter that is no channel mode here.
    Unknown(char),
    /// A letter whose parameter cannot be read.
    Invalid { letter: char, parameter: String },
}

/// Reads a mode string and its parameters. Repeated questions and repeated unknown letters are given once, and after
/// [`MODES_PER_COMMAND`] parameters the rest is ignored, so that the answer to one line stays bounded.
pub(crate) fn requests(modes: &str, parameters: &[String]) -> Vec<Request> {
    let mut set = true;
    let mut parameters = parameters.iter().take(MODES_PER_COMMAND).cloned();
    let mut found = Vec::new();
    for letter in modes.chars() {
        let request = match letter {
            '+' | '-' => {
                set = letter == '+';
                continue;
            }
            'i' | 'm' | 'n' | 's' | 't' => Request::Flag { set, letter },
            'o' | 'v' => given(parameters.next()).map_or(Request::Missing, |nick| Request::Rank { set, letter, nick }),
            'k' if set => parameters.next().map_or(Request::Missing, |key| Request::Key(Some(key))),
            'k' => {
                parameters.next();
                Request::Key(None)
            }
            'l' if set => parameters.next().map_or(Request::Missing, limit),
            'l' => Request::Limit(None),
            'b' => given(parameters.next()).map_or(Request::BanList, |mask| Request::Ban { set, mask }),
            unknown => Request::Unknown(unknown),
        };
        let once = matches!(request, Request::Missing | Request::BanList | Request::Unknown(_));
        if !(once && found.contains(&request)) {
            found.push(request);
        }
    }
    found
}

/// A nick or mask that is not empty. An empty mask would be completed to one that bans everybody. An empty key or limit
/// is there, and wrong.
fn given(parameter: Option<String>) -> Option<String> {
    parameter.filter(|text| !text.is_empty())
}

fn limit(parameter: String) -> Request {
    match parameter.parse() {
        Ok(members) if members > 0 => Request::Limit(Some(members)),
        _ => Request::Invalid { letter: 'l', parameter },
    }
}

/// A change that was made, as the members are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// `+` or `-`.
    pub(crate) set: bool,
    /// The letter of the mode.
    pub(crate) letter: char,
    /// The parameter, of the modes that have one.
    pub(crate) parameter: Option<String>,
}

/// Writes changes as mode strings with their parameters, each of at most `room` bytes if a single change permits.
pub(crate) fn render(changes: &[Change], room: usize) -> Vec<String> {
    let mut strings = Vec::new();
    let mut begin = 0;
    for end in 1..=changes.len() {
        // The string grows with every change; the one before the first that does not fit is taken.
        if end == changes.len() || mode_string(&changes[begin..=end]).len() > room {
            strings.push(mode_string(&changes[begin..end]));
            begin = end;
        }
    }
    strings
}

fn mode_string(changes: &[Change]) -> String {
    let mut text = String::new();
    let mut sign = None;
    for change in changes {
        if sign.replace(change.set) != Some(change.set) {
            text.push(if change.set { '+' } else { '-' });
        }
        text.push(change.letter);
    }
    for parameter in changes.iter().filter_map(|change| change.parameter.as_ref()) {
        text.push(' ');
        text.push_str(parameter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Change, Request, render, requests};

    fn read(line: &str) -> Vec<Request> {
        let mut words = line.split(' ').map(str::to_owned);
        let modes = words.next().unwrap();
        requests(&modes, &words.collect::<Vec<_>>())
    }

    fn change(set: bool, letter: char, parameter: &str) -> Change {
        Change { set, letter, parameter: (!parameter.is_empty()).then(|| parameter.to_owned()) }
    }

    #[test]
    fn parameters_go_to_the_letters_that_take_one() {
        assert_eq!(
            read("+ok-v+l secret key bob 5")[..2],
            [Request::Rank { set: true, letter: 'o', nick: "secret".to_owned() }, Request::Key(Some("key".to_owned()))]
        );
        assert_eq!(
            read("-v+tl bob 5"),
            [
                Request::Rank { set: false, letter: 'v', nick: "bob".to_owned() },
                Request::Flag { set: true, letter: 't' },
                Request::Limit(Some(5)),
            ]
        );
    }

    #[test]
    fn a_sign_holds_until_the_next_and_plus_is_the_first() {
        assert_eq!(
            read("i-mn"),
            [
                Request::Flag { set: true, letter: 'i' },
                Request::Flag { set: false, letter: 'm' },
                Request::Flag { set: false, letter: 'n' },
            ]
        );
    }

    #[test]
    fn removing_the_key_needs_no_key_and_consumes_one() {
        assert_eq!(read("-k"), [Request::Key(None)]);
        assert_eq!(
            read("-k+o key bob"),
            [Request::Key(None), Request::Rank { set: true, letter: 'o', nick: "bob".to_owned() }]
        );
    }

    #[test]
    fn a_ban_without_a_mask_is_a_question() {
        assert_eq!(read("b"), [Request::BanList]);
        assert_eq!(read("+b *!*@h"), [Request::Ban { set: true, mask: "*!*@h".to_owned() }]);
    }

    #[test]
    fn limits_that_are_no_positive_number_are_invalid() {
        for bad in ["0", "-1", "many", "99999999999999999999999", ""] {
            let request = Request::Invalid { letter: 'l', parameter: bad.to_owned() };
            assert_eq!(read(&format!("+l {bad}")), [request], "{bad}");
        }
    }

    #[test]
    fn an_empty_parameter_is_an_empty_key_and_no_nick_and_no_mask() {
        assert_eq!(read("+k "), [Request::Key(Some(String::new()))]);
        assert_eq!(read("+ob  "), [Request::Missing, Request::BanList]);
        assert_eq!(read("-k+t "), [Request::Key(None), Request::Flag { set: true, letter: 't' }]);
    }

    #[test]
    fn repeated_questions_and_unknown_letters_are_given_once() {
        assert_eq!(read(&"bXo".repeat(100)), [Request::BanList, Request::Unknown('X'), Request::Missing]);
    }

    #[test]
    fn at_most_twelve_parameters_are_used() {
        let asked = requests(&"v".repeat(14), &vec!["bob".to_owned(); 14]);
        assert_eq!(asked.iter().filter(|request| matches!(request, Request::Rank { .. })).count(), 12);
    }

    #[test]
    fn changes_are_written_with_few_signs_and_their_parameters_after() {
        let changes =
            [change(true, 'o', "bob"), change(true, 't', ""), change(false, 'v', "eve"), change(false, 'i', "")];
        assert_eq!(render(&changes, 400), ["+ot-vi bob eve"]);
        assert_eq!(render(&[], 400), [""; 0]);
    }

    #[test]
    fn changes_that_do_not_fit_one_line_take_several() {
        let changes = [change(true, 'b', "aaaa"), change(true, 'b', "bbbb"), change(true, 'b', "cccc")];
        assert_eq!(render(&changes, 13), ["+bb aaaa bbbb", "+b cccc"]);
        assert_eq!(render(&changes, 1), ["+b aaaa", "+b bbbb", "+b cccc"]);
    }
}
