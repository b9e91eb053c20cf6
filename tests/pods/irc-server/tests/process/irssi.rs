//! One conversation with irssi, which is driven by keys in a tmux of its own and read from its screen.

use std::{
    io::ErrorKind,
    path::Path,
    process::{Command, Output},
    time::Instant,
};

use crate::{
    program::{PASSWORD, PATIENCE, Program},
    wire::Wire,
};

/// irssi holds back its commands against floods; without this the conversation would take half a minute.
const CONFIG: &str = r#"settings = { "irc/core" = { cmd_queue_speed = "10msec"; cmds_max_at_once = "50"; }; };"#;

/// A tmux server on a private socket; it ends when it goes out of scope.
struct Screen {
    home: tempfile::TempDir,
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => {
            panic!("{:?} is missing, and this test needs it: apt-get install irssi tmux", command.get_program())
        }
        _ => panic!("{command:?}: {error}"),
    })
}

impl Screen {
    /// Starts irssi with a home of its own, connecting to the server as `nick`.
    fn irssi(port: u16, nick: &str) -> Self {
        let version = run(Command::new("irssi").arg("--version"));
        assert!(version.status.success(), "irssi --version: {version:?}");
        let screen = Self { home: tempfile::tempdir().unwrap() };
        let port = port.to_string();
        let home = screen.home.path().join("irssi");
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("config"), CONFIG).unwrap();
        let home = format!("--home={}", home.display());
        let (password, nick) = (format!("--password={PASSWORD}"), format!("--nick={nick}"));
        let irssi = ["irssi", &home, "--connect=127.0.0.1", "--port", &port, &password, &nick];
        screen.tmux(&[&["new-session", "-d", "-x", "140", "-y", "45", "--"], &irssi[..]].concat());
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket: &Path = &self.home.path().join("tmux");
        let output = run(Command::new("tmux")
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .arg("-S")
            .arg(socket)
            .args(["-f", "/dev/null"])
            .args(arguments));
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types a line and the Enter key.
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", "--", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Looks at the screen until it has `part`.
    fn shows(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.tmux(&["capture-pane", "-p", "-J"]);
            if screen.contains(part) {
                return;
            }
            assert!(Instant::now() < deadline, "{part:?} does not appear on the screen:\n{screen}");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The tmux server may have ended with irssi already.
        let _ = Command::new("tmux").arg("-S").arg(self.home.path().join("tmux")).arg("kill-server").output();
    }
}

#[test]
fn a_conversation_with_irssi() {
    let program = Program::start(&[]);
    let mut bob = Wire::enter(&program, "bob");
    bob.say("JOIN #pods");
    bob.hear(" 366 ");

    let screen = Screen::irssi(program.port, "irma");
    screen.shows("This is a test pod of the podwire project.");
    screen.types("/join #pods");
    assert!(bob.hear(" JOIN ").starts_with(":irma!"));
    screen.shows("Join to #pods was synced");

    screen.types("good morning, bob: how are the pods?");
    assert!(bob.hear("PRIVMSG").ends_with("PRIVMSG #pods :good morning, bob: how are the pods?"));
    bob.say("PRIVMSG #pods :irma, they are grün");
    screen.shows("irma, they are grün");

    screen.types("/quote WEATHER New York");
    screen.types("/window goto 1");
    screen.shows("No weather bot is connected");
    screen.types("/window goto 2");

    bob.say("KICK #pods irma :enough");
    screen.shows("[enough]");
    screen.types("/quit good night");
    program.has_logged("@127.0.0.1 left: quit").unwrap();
}
