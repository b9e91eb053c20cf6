//! A settings file with mistakes: podwired names all of them, does not start, and leaves what it has made as it is.

use podwire_tests::lab::SOON;
use podwire_tests::lab::daemon;
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::scene::{FAMILIES, check, cluster, reaches, same, state};

#[test]
fn every_mistake_is_named_and_the_network_stays_as_it_is() {
    const PLACE: &str = "/run/settings.toml";
    cluster(2, |lab| {
        let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        lab.nodes[0].add_pod("near")?;
        let text =
            "# ours\nport = 70000\noverlay = auto\nprobs = true\nrefused_destinations = [\n  \"10.0.0.1/8\",\n]\n";
        let written = lab.nodes[0].host.enter(|| std::fs::write(PLACE, text));
        written.map_err(|error| format!("write {PLACE}: {error}"))?;
        let mut before = lab.nodes[0].daemon.take().ok_or("no daemon")?;
        before.stop(SOON)?;
        let before = state(&lab.nodes[0].host)?;
        daemon::start(&mut lab.nodes[0], &["--settings", PLACE])?;
        let said = daemon::of(&lab.nodes[0])?.wait_for("settings file", SOON)?;
        for part in [
            "settings file /run/settings.toml: 4 mistakes: line 2: port = 70000, but it has to be a UDP port: 1 to 65535; line 3: ",
            "; line 4: there is no setting probs; there are vni, port, ",
            "; line 6: refused_destinations[0] = \"10.0.0.1/8\" has host bits set: did you mean 10.0.0.0/8? (podwired does not start \
             with this file, and leaves what it has made as it is: correct it, then start podwired again)",
        ] {
            check(said.contains(part), || format!("{part:?} is not in {said}"))?;
        }
        check(!said.contains("\\n"), || format!("a line break: {said}"))?;
        same("the node", &before, &state(&lab.nodes[0].host)?)?;
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))
    });
}
