//! The `irc` crate as the client: it was written without a thought of this server.

use futures_util::StreamExt;
use irc::client::prelude::*;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use crate::program::{PASSWORD, PATIENCE, Program};

/// A client and what it hears.
struct Talker {
    client: Client,
    heard: UnboundedReceiver<Message>,
}

impl Talker {
    async fn enter(program: &Program, nick: &str) -> Self {
        let mut talker = Self::connect(program, nick, PASSWORD).await;
        talker.hear(|command| matches!(command, Command::Response(Response::RPL_ENDOFMOTD, _))).await;
        talker
    }

    async fn connect(program: &Program, nick: &str, password: &str) -> Self {
        let config = Config {
            nickname: Some(nick.to_owned()),
            server: Some("127.0.0.1".to_owned()),
            port: Some(program.port),
            password: Some(password.to_owned()),
            ..Config::default()
        };
        let mut client = Client::from_config(config).await.unwrap();
        client.identify().unwrap();
        let mut stream = client.stream().unwrap();
        let (sender, heard) = unbounded_channel();
        // The client writes only while it is read, so it is read all the time.
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { client, heard }
    }

    /// Waits for a message; what comes before is passed over.
    async fn hear(&mut self, wanted: impl Fn(&Command) -> bool) -> Message {
        let search = async {
            loop {
                let message = self.heard.recv().await.expect("the connection ended");
                if wanted(&message.command) {
                    return message;
                }
            }
        };
        timeout(PATIENCE, search).await.expect("the message did not come")
    }

    async fn hear_response(&mut self, response: Response) -> Vec<String> {
        let message = self.hear(|command| matches!(command, Command::Response(found, _) if *found == response)).await;
        let Command::Response(_, arguments) = message.command else { unreachable!() };
        arguments
    }

    async fn hear_words(&mut self, from: &str) -> String {
        loop {
            let message = self.hear(|command| matches!(command, Command::PRIVMSG(..) | Command::NOTICE(..))).await;
            let (Command::PRIVMSG(_, text) | Command::NOTICE(_, text)) = &message.command else { unreachable!() };
            if message.source_nickname().unwrap_or("irc.podwire.test") == from {
                return text.clone();
            }
        }
    }

    async fn join(&mut self, channel: &str) {
        self.client.send_join(channel).unwrap();
        self.hear_response(Response::RPL_ENDOFNAMES).await;
    }
}

#[tokio::test]
async fn registration_brings_the_numerics_that_a_client_looks_for() {
    let program = Program::start(&[]);
    let mut alice = Talker::connect(&program, "alice", PASSWORD).await;
    let welcome = alice.hear_response(Response::RPL_WELCOME).await;
    assert_eq!(welcome, ["alice", "Welcome to the podwire network, alice!alice@127.0.0.1"]);
    let supported = alice.hear_response(Response::RPL_ISUPPORT).await;
    assert!(supported.contains(&"PREFIX=(ov)@+".to_owned()), "{supported:?}");
}

#[tokio::test]
async fn a_wrong_password_ends_the_connection() {
    let program = Program::start(&[]);
    let mut eve = Talker::connect(&program, "eve", "simsim").await;
    eve.hear_response(Response::ERR_PASSWDMISMATCH).await;
    eve.hear(|command| matches!(command, Command::ERROR(_))).await;
}

#[tokio::test]
async fn two_clients_join_talk_change_modes_and_kick() {
    let program = Program::start(&[]);
    let (mut alice, mut bob) = (Talker::enter(&program, "alice").await, Talker::enter(&program, "bob").await);
    alice.join("#pods").await;
    bob.join("#pods").await;
    alice.hear(|command| matches!(command, Command::JOIN(..))).await;

    alice.client.send_privmsg("#pods", "good morning: everybody").unwrap();
    assert_eq!(bob.hear_words("alice").await, "good morning: everybody");
    bob.client.send_notice("alice", "good morning").unwrap();
    assert_eq!(alice.hear_words("bob").await, "good morning");

    bob.client.send_topic("#pods", "mine").unwrap();
    assert_eq!(bob.hear_response(Response::ERR_CHANOPRIVSNEEDED).await[1], "#pods");
    alice.client.send_topic("#pods", "pods and wires").unwrap();
    bob.hear(|command| matches!(command, Command::TOPIC(_, Some(text)) if text == "pods and wires")).await;

    let voice = Mode::Plus(ChannelMode::Voice, Some("bob".to_owned()));
    alice.client.send_mode("#pods", std::slice::from_ref(&voice)).unwrap();
    bob.hear(|command| matches!(command, Command::ChannelMODE(_, modes) if modes.contains(&voice))).await;
    alice.client.send_mode("#pods", &[Mode::Plus(ChannelMode::Key, Some("hush".to_owned()))]).unwrap();

    alice.client.send_kick("#pods", "bob", "enough").unwrap();
    bob.hear(|command| matches!(command, Command::KICK(_, nick, Some(reason)) if nick == "bob" && reason == "enough"))
        .await;
    bob.client.send_join("#pods").unwrap();
    bob.hear_response(Response::ERR_BADCHANNELKEY).await;
    bob.client.send_join_with_keys("#pods", "hush").unwrap();
    assert_eq!(bob.hear_response(Response::RPL_TOPIC).await[2], "pods and wires");

    bob.client.send_quit("good night").unwrap();
    alice.hear(|command| matches!(command, Command::QUIT(Some(text)) if text == "Quit: good night")).await;
}

#[tokio::test]
async fn a_bot_answers_a_weather_question_of_several_words() {
    let program = Program::start(&[]);
    let (mut bot, mut alice) = (Talker::enter(&program, "bot").await, Talker::enter(&program, "alice").await);
    alice.client.send(Command::Raw("WEATHER".to_owned(), vec!["New York".to_owned()])).unwrap();
    let question = bot.hear(|command| matches!(command, Command::Raw(..))).await;
    let Command::Raw(command, arguments) = question.command else { unreachable!() };
    assert_eq!((command.as_str(), arguments), ("WEATHER", vec!["alice".to_owned(), "New York".to_owned()]));
    bot.client.send_privmsg("alice", "New York: 12 degrees, rain").unwrap();
    assert_eq!(alice.hear_words("bot").await, "New York: 12 degrees, rain");
}

#[tokio::test]
async fn without_a_bot_a_weather_question_is_answered_by_the_server() {
    let program = Program::start(&[]);
    let mut alice = Talker::enter(&program, "alice").await;
    alice.client.send(Command::Raw("WEATHER".to_owned(), vec!["Berlin".to_owned()])).unwrap();
    assert!(alice.hear_words("irc.podwire.test").await.starts_with("No weather bot is connected"));
}
