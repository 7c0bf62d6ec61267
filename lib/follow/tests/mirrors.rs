// SPDX-License-Identifier: Apache-2.0
//! A rack with mirrors: its own server away, refusing or lying, mirrors that are behind.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::sync::{Arc, Mutex};

use racklet_api::tray::TrayConfig;
use racklet_fetch::{disk::Files, progress::Silent};
use racklet_follow::{FollowError, Follower, Place, Round};
use support::{
    Kept, chain,
    server::{NOW, Server, answer},
    world::World,
};

/// A follower of the rack at `own`, with mirrors and a folder of its own.
fn follower(world: &World, own: u16, mirrors: &[&Server]) -> (Follower<Files>, tempfile::TempDir) {
    let url = |port: u16| format!("https://127.0.0.1:{port}/rack");
    let mirrors: Vec<_> = mirrors
        .iter()
        .map(|server| serde_json::json!({ "url": url(server.port), "ca": server.ca, "mirror": true }))
        .collect();
    let tray = serde_json::json!({
        "v": 1, "rack": "07070707070707070707070707070707", "tray": "tray-1", "board": "b", "built": 1,
        "repository": { "url": url(own), "ca": world.server.ca, "token": "s3cret" },
        "repositories": mirrors,
    });
    let tray = TrayConfig::parse(tray.to_string().as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = [world.root.clone(), world.root.clone()];
    let follower = Follower::new(&tray, Arc::new(NOW), Files, folder.path(), roots);
    (follower.unwrap(), folder)
}

/// One look the way the products do it; which place answered.
fn look(follower: &mut Follower<Files>, kept: &mut Kept) -> Result<Place, FollowError> {
    let mut round = Round::default();
    while let Some((place, _)) = follower.next(&mut round) {
        let mut ask = || {
            let mut remote = follower.connect(place)?;
            let listed = follower.look(&mut remote, place)?;
            follower.follow(&mut remote, listed, kept, &mut Silent)
        };
        match ask() {
            Ok(_) => return Ok(place),
            Err(error) => round.failed(place, follower.url_of(place).to_string(), error)?,
        }
    }
    Err(round.over())
}

fn head(follower: &Follower<Files>) -> String {
    follower.accepted().unwrap().head().id.to_string()
}

/// A port that nobody listens at.
const NOBODY: u16 = 1;

#[test]
fn where_the_racks_own_server_is_away_a_mirror_is_followed() {
    let world = World::rack("sha1");
    let (mut tray, _folder) = follower(&world, NOBODY, &[&world.server]);
    let mut kept = Kept::default();
    assert_ne!(look(&mut tray, &mut kept).unwrap(), Place::OWN);
    assert_eq!(head(&tray), world.repository.head());
    let newer = world.commit();
    look(&mut tray, &mut kept).unwrap();
    assert_eq!(head(&tray), newer);
}

#[test]
fn a_mirror_that_is_behind_does_no_harm_and_the_next_one_is_asked() {
    let world = World::rack("sha1");
    // A copy of the rack as it was.
    let old = world.place.dir.path().join("old");
    support::git::run(
        std::process::Command::new("git")
            .args(["clone", "-q", "--mirror"])
            .arg(&world.repository.bare)
            .arg(old.join("rack")),
    );
    let behind = Server::start(old);
    let newest = world.commit();
    let (mut tray, _folder) = follower(&world, world.server.port, &[&behind]);
    let mut kept = Kept::default();
    assert_eq!(look(&mut tray, &mut kept).unwrap(), Place::OWN);
    assert_eq!(head(&tray), newest);

    world.server.script(|_, _, send| {
        send(&answer("503 Away", "text/plain", b""));
    });
    let error = look(&mut tray, &mut kept).unwrap_err();
    let text = chain(&error);
    assert!(matches!(error, FollowError::Nowhere { .. }), "{text}");
    assert!(error.may_pass(), "{text}");
    let mirror = format!("127.0.0.1:{}", behind.port);
    assert!(text.contains("503") && text.contains(&mirror), "{text}");
    assert_eq!(head(&tray), newest);

    // A second mirror that is not behind.
    let fresh = Server::start(world.place.served());
    let (mut tray, _folder) = follower(&world, world.server.port, &[&behind, &fresh]);
    // With nothing accepted yet, the older head is one like any other; from then on heads only go forward.
    look(&mut tray, &mut kept).unwrap();
    behind.script(|_, _, send| {
        send(&answer("503 Away", "text/plain", b""));
    });
    look(&mut tray, &mut kept).unwrap();
    assert_eq!(head(&tray), newest);
}

#[test]
fn a_mirror_is_asked_when_the_own_server_refuses_and_is_shown_no_token_of_its() {
    let world = World::rack("sha1");
    world.server.script(|request, _, send| {
        assert!(request.header("Authorization").starts_with("Basic "));
        send(&answer("401 Unauthorized", "text/plain", b""));
    });
    let mirror = Server::start(world.place.served());
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = shown.clone();
    mirror.script(move |request, honest, send| {
        let header = request.header("Authorization").to_owned();
        seen.lock().unwrap().push(header);
        send(&honest);
    });
    let (mut tray, _folder) = follower(&world, world.server.port, &[&mirror]);
    look(&mut tray, &mut Kept::default()).unwrap();
    assert_eq!(head(&tray), world.repository.head());
    let shown = shown.lock().unwrap();
    assert!(
        !shown.is_empty() && shown.iter().all(String::is_empty),
        "{shown:?}"
    );
}

#[test]
fn what_the_own_server_shows_and_may_not_be_followed_is_not_looked_for_elsewhere() {
    let world = World::rack("sha1");
    let mirror = Server::start(world.place.served());
    let (mut tray, _folder) = follower(&world, world.server.port, &[&mirror]);
    let mut kept = Kept::default();
    look(&mut tray, &mut kept).unwrap();
    world.repository.commit_unsigned();
    world.repository.push();
    let error = look(&mut tray, &mut kept).unwrap_err();
    assert!(matches!(error, FollowError::Rejected { .. }), "{error}");
    assert!(mirror.log.lock().unwrap().is_empty());
}
