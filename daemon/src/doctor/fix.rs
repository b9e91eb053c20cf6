//! The command that fixes what a finding is about, to be pasted into a shell. Names of others in it (of files, nodes, devices,
//! containers, tables) are quoted, each as one word that stands for just this name: a name with blanks, quotes or line breaks can
//! be fixed, and one like `$(reboot)` does nothing. Only [`command`] makes a fix with a name in it, and it quotes all of them,
//! in comments and in what is to be done on another node too: not every shell takes `#` for a comment.
//!
//! What may not live here: which command fixes what. Pure.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use podwire_conf::shown;

/// A fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fix(String);

/// A fix out of a template with `{}` for each value. The values are quoted. (`concat` keeps names out of the template, which
/// `format` would put in as they are.)
macro_rules! command {
    ($template:literal $(, $value:expr)* $(,)?) => {
        $crate::doctor::fix::Fix::quoted(format!(concat!($template) $(, $crate::doctor::fix::Word::word(&$value))*))
    };
}
pub(super) use command;

impl Fix {
    /// What [`command`] makes.
    pub(super) fn quoted(text: String) -> Self {
        Self(text)
    }

    /// Several commands, one after the other.
    pub(super) fn each(fixes: impl IntoIterator<Item = Self>) -> Self {
        let texts: Vec<_> = fixes.into_iter().map(|fix| fix.0).collect();
        Self(texts.join("; "))
    }
}

/// A fix without names of others.
impl From<&'static str> for Fix {
    fn from(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl From<Fix> for String {
    fn from(fix: Fix) -> Self {
        fix.0
    }
}

/// What can stand in a fix.
pub(super) trait Word {
    /// As a word of a shell.
    fn word(&self) -> String;
}

impl<T: Word + ?Sized> Word for &T {
    fn word(&self) -> String {
        (**self).word()
    }
}

impl Word for str {
    fn word(&self) -> String {
        word(self.as_bytes())
    }
}

impl Word for OsStr {
    fn word(&self) -> String {
        word(self.as_bytes())
    }
}

/// What is quoted already.
impl Word for Fix {
    fn word(&self) -> String {
        self.0.clone()
    }
}

impl Word for String {
    fn word(&self) -> String {
        self.as_str().word()
    }
}

impl Word for Path {
    fn word(&self) -> String {
        self.as_os_str().word()
    }
}

impl Word for PathBuf {
    fn word(&self) -> String {
        self.as_os_str().word()
    }
}

/// Values that are shown as they are written.
macro_rules! as_shown {
    ($($value:ty,)*) => {
        $(impl Word for $value {
            fn word(&self) -> String {
                self.to_string().word()
            }
        })*
    };
}
as_shown! { std::net::IpAddr, ipnetwork::IpNetwork, u8, u16, u32, u64, usize, }

fn word(bytes: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:,@%+".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(is_plain) => text.into(),
        Ok(text) if text.chars().all(shown::is_shown) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => with_escapes(bytes),
    }
}

/// With what cannot be seen as escapes, in the quotes of which bash, zsh and busybox know the same ones (POSIX.1-2024). Others
/// take the word for another name.
fn with_escapes(bytes: &[u8]) -> String {
    let mut word = String::from("$'");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => word.push_str(r"\n"),
                // bash would look for a line of its history.
                '\'' | '\\' | '!' => octal(&mut word, &[character as u8]),
                _ if shown::is_shown(character) => word.push(character),
                _ => octal(&mut word, character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        octal(&mut word, chunk.invalid());
    }
    word + "'"
}

fn octal(word: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(word, "\\{byte:03o}");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_takes_every_name_for_one_word_and_runs_nothing_of_it() {
        let names: [&[u8]; 16] = [
            b"10-other.conflist",
            b"",
            b"a b",
            b"it's",
            b"\"quoted\"",
            b"$(echo pwned)",
            b"`echo pwned`",
            b"a;echo pwned",
            b"a\necho pwned\n",
            b"~root",
            b"#a",
            b"*",
            b"\\n!!'\x1b[2J",
            "Köln 東京\u{202e}\u{200b}\u{9b}".as_bytes(),
            b"\xff\xfe 7",
            b"\x017 'x' \x7f",
        ];
        for name in names {
            let fix = String::from(command!("printf '%s.' {}", OsStr::from_bytes(name)));
            assert!(fix.chars().all(shown::is_shown), "{fix}");
            let said = Command::new("bash").args(["-c", &fix]).output().unwrap();
            assert_eq!(said.stdout, [name, b"."].concat(), "{fix}: {}", String::from_utf8_lossy(&said.stderr));
        }
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        let address: std::net::IpAddr = "fd00::1".parse().unwrap();
        let first = command!("ip address delete {} dev {}", address, "podwire.1");
        assert_eq!(String::from(Fix::each([first, "true".into()])), "ip address delete fd00::1 dev podwire.1; true");
        assert_eq!(String::from(command!("mv {0} {0}.was", Path::new("/a b"))), "mv '/a b' '/a b'.was");
    }
}
