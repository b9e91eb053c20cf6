//! The IRC conversation across the cluster: the server, the bot and two users in pods of three nodes, the weather on a
//! host outside.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use podwire_tests::irc::User;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::{self, Lab, SOON, program};

/// The server's port and password; the weather's port and key. They open nothing but this demo.
pub(crate) const PORT: u16 = 6667;
pub(crate) const PASSWORD: &str = "demo";
const WEATHER_PORT: u16 = 8080;
const WEATHER_KEY: &str = "demo-key";

/// What the user waits for: the last line but one of an answer.
const LAST_FACT: &str = "UV Index:";

/// The conversation as it was held.
pub(crate) struct Conversation {
    /// What the user who asked said and heard.
    pub(crate) transcript: Vec<String>,
    /// The weather's host process.
    pub(crate) weather: Process,
}

/// Starts the server, the weather and the bot, each when the one before is there.
pub(crate) fn start(lab: &mut Lab) -> Result<Process, String> {
    let find = |name: &str| program(name).map_err(|error| error.to_string());
    let mut command = Command::new(find("irc-server")?);
    let server = pod(&mut lab.nodes[0], "irc-server")?.start(command.args([&PORT.to_string(), PASSWORD]))?;
    server.wait_for("listening on", SOON)?;

    let weather_address = SocketAddr::new(lab::outside_address(lab.nodes[0].address()), WEATHER_PORT);
    let mut command = Command::new(find("weather-service")?);
    command.args([&weather_address.to_string(), "--key", WEATHER_KEY]);
    let weather = lab.outside.start("weather-service", &mut command)?;
    weather.wait_for("listening on", SOON)?;

    let mut command = Command::new(find("weather-bot")?);
    command.args([&server_address(lab).to_string(), PASSWORD]);
    command.env("WEATHER_API_KEY", WEATHER_KEY);
    command.env("WEATHER_API_URL", format!("http://{weather_address}/v1/current.json"));
    pod(&mut lab.nodes[1], "weather-bot")?.start(&mut command)?.wait_for("connected to", SOON)?;
    Ok(weather)
}

/// Two users join a channel and talk, and one of them asks for the weather.
pub(crate) fn hold(lab: &Lab, weather: Process) -> Result<Conversation, String> {
    let server = server_address(lab);
    let (first, second) = (lab.nodes[1].pod("user-1"), lab.nodes[2].pod("user-2"));
    let mut asker = User::connect(&first.host, server, PASSWORD, "ada")?;
    let mut other = User::connect(&second.host, server, PASSWORD, "grace")?;
    other.say("JOIN #pods")?;
    other.hear(" 366 ")?;
    asker.say("JOIN #pods")?;
    asker.hear(" 366 ")?;
    other.hear("JOIN")?;
    asker.say("PRIVMSG #pods :Hello from node-2. Who is on node-3?")?;
    other.hear("Who is on node-3?")?;
    other.say("PRIVMSG #pods :I am. No NAT between us.")?;
    asker.hear("No NAT between us.")?;
    asker.say("WEATHER Paris")?;
    for fact in ["Weather Information:", "Location: Paris, France", "Temperature:", LAST_FACT, "-----"] {
        asker.hear(fact)?;
    }
    Ok(Conversation { transcript: std::mem::take(&mut asker.transcript), weather })
}

/// The weather was asked by the bot's node, not by the bot: pods leave the cluster under their node's address.
pub(crate) fn seen_outside(lab: &Lab, weather: &Process) -> Result<String, String> {
    let node = lab.nodes[1].address();
    weather.wait_for(&format!("{node} asked for Paris: 200"), SOON)
}

/// The server's address: that of its pod.
pub(crate) fn server_address(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.nodes[0].pod("irc-server").address(IpAddr::from([0, 0, 0, 0])), PORT)
}

fn pod<'a>(node: &'a mut Node, name: &str) -> Result<&'a mut lab::node::Pod, String> {
    let missing = || format!("no pod {name}");
    node.pods.iter_mut().find(|pod| pod.host.name == name).ok_or_else(missing)
}
