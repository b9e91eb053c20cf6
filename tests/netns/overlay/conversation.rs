//! The IRC conversation across nodes: server, bot and users in pods, the weather outside.

use std::net::SocketAddr;
use std::process::Command;

use podwire_tests::irc::User;
use podwire_tests::lab::scene::{FAMILIES, check, cluster};
use podwire_tests::lab::{SOON, outside_address, program};

#[test]
fn an_irc_conversation_crosses_three_nodes_in_both_families() {
    for like in FAMILIES {
        cluster(3, |lab| {
            let find = |name: &str| program(name).map_err(|error| error.to_string());
            for (node, name) in lab.nodes.iter_mut().zip(["server", "bot", "user"]) {
                node.add_pod(name)?;
            }
            let server = SocketAddr::new(lab.nodes[0].pod("server").address(like), 6667);
            let weather = SocketAddr::new(outside_address(like), 8080);
            let outside =
                lab.outside.start("weather", Command::new(find("weather-service")?).arg(weather.to_string()))?;
            outside.wait_for("listening on", SOON)?;
            let irc = lab.nodes[0].pods[0].start(Command::new(find("irc-server")?).args(["6667", "secret"]))?;
            irc.wait_for("listening on", SOON)?;
            let mut bot = Command::new(find("weather-bot")?);
            bot.args([&server.to_string(), "secret"]).env("WEATHER_API_KEY", "key");
            bot.env("WEATHER_API_URL", format!("http://{weather}/v1/current.json"));
            lab.nodes[1].pods[0].start(&mut bot)?.wait_for("connected to", SOON)?;

            let mut user = User::connect(&lab.nodes[2].pods[0].host, server, "secret", "ada")?;
            user.say("WEATHER New York")?;
            user.hear("Location: New York, ")?;
            user.hear("UV Index: ")?;
            user.say("WEATHER Nowhere")?;
            user.hear("No matching location found")?;
            let node = podwire_tests::lab::membership::underlay_address(2, like);
            outside.wait_for(&format!("{node} asked for New York"), SOON)?;
            let wrong = User::connect(&lab.nodes[2].pods[0].host, server, "wrong", "eve").err().unwrap_or_default();
            check(wrong.contains(" 464 "), || format!("a wrong password: {wrong:?}"))
        });
    }
}
