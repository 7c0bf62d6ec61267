// SPDX-License-Identifier: Apache-2.0
//! A plain file that says in Git's place that nothing is new: when it is heard, and when not.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use racklet_api::tray::TrayConfig;
use racklet_fetch::{disk::Files, progress::Silent, remote::Remote};
use racklet_follow::{Follower, Place};
use support::{
    Kept,
    server::{NOW, Request, Server, answer},
    world::World,
};

/// A tray that looks at a rack, with plain files on another server: with what is in `says`.
struct Tray {
    world: World,
    says: Arc<Mutex<Vec<u8>>>,
    follower: Follower<Files>,
    remote: Remote,
    _plain: Server,
    _folder: tempfile::TempDir,
}

impl Tray {
    fn new() -> Self {
        let world = World::rack("sha1");
        let plain = Server::start(world.place.served());
        let says = Arc::new(Mutex::new(Vec::new()));
        let said = says.clone();
        plain.script(move |request: &Request, _, send| {
            assert_eq!(request.target, "/plain/home/refs/heads/main");
            send(&answer("200 OK", "text/plain", &said.lock().unwrap()));
        });
        let at = |port: u16, path: &str| format!("https://127.0.0.1:{port}/{path}");
        let tray = serde_json::json!({
            "v": 1, "rack": "07070707070707070707070707070707", "tray": "tray-1", "board": "b", "built": 1,
            "repository": {
                "url": at(world.server.port, "rack"), "ca": world.server.ca, "token": "s3cret",
                "static": at(plain.port, "plain/home"),
            },
            "repositories": [{ "url": at(plain.port, "plain"), "ca": plain.ca }],
        });
        let tray = TrayConfig::parse(tray.to_string().as_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let roots = [world.root.clone(), world.root.clone()];
        let follower = Follower::new(&tray, Arc::new(NOW), Files, folder.path(), roots);
        let follower = follower.unwrap();
        let remote = follower.connect(Place::OWN).unwrap();
        let mut tray = Self {
            world,
            says,
            follower,
            remote,
            _plain: plain,
            _folder: folder,
        };
        assert!(!tray.is_quiet(), "nothing was accepted yet");
        tray.ask_git();
        tray
    }

    fn says(&self, name: &str) {
        *self.says.lock().unwrap() = format!("{name}\n").into_bytes();
    }

    fn is_quiet(&mut self) -> bool {
        let quiet = self.follower.is_quiet(&mut self.remote, Place::OWN);
        quiet.unwrap()
    }

    fn ask_git(&mut self) {
        let listed = self.follower.look(&mut self.remote, Place::OWN).unwrap();
        let keeper = &mut Kept::default();
        let followed = self
            .follower
            .follow(&mut self.remote, listed, keeper, &mut Silent);
        followed.unwrap();
    }

    /// How often Git was asked so far.
    fn asked(&self) -> usize {
        let log = self.world.server.log.lock().unwrap();
        log.iter()
            .filter(|it| it.contains("git-upload-pack"))
            .count()
    }
}

#[test]
fn a_look_that_brings_nothing_new_costs_no_git() {
    let mut tray = Tray::new();
    tray.says(&tray.world.repository.head());
    let before = tray.asked();
    for _ in 0..5 {
        assert!(tray.is_quiet());
    }
    assert_eq!(tray.asked(), before);
}

#[test]
fn a_file_that_names_anything_else_has_git_asked() {
    let mut tray = Tray::new();
    let old = tray.world.repository.head();
    let new = tray.world.commit();
    for other in [&new, &"0".repeat(40), "", "main", &format!("{old} ")] {
        tray.says(other);
        assert!(!tray.is_quiet(), "{other:?}");
        // What is no name at all has the file left alone.
        tray.remote = tray.follower.connect(Place::OWN).unwrap();
    }
    let mut tray = Tray::new();
    let new = tray.world.commit();
    tray.says(&new);
    assert!(!tray.is_quiet());
    tray.ask_git();
    assert!(tray.is_quiet(), "until it is the accepted one");
}

#[test]
fn a_file_that_never_changes_holds_nothing_back_for_longer_than_the_bound() {
    let mut tray = Tray::new();
    tray.follower.longest_quiet = Duration::from_secs(3);
    let old = tray.world.repository.head();
    tray.says(&old);
    tray.ask_git();
    assert!(tray.is_quiet());
    tray.world.commit();
    std::thread::sleep(tray.follower.longest_quiet);
    assert!(!tray.is_quiet());
    tray.ask_git();
    assert!(
        !tray.is_quiet(),
        "it names what came before the accepted head"
    );
}

#[test]
fn the_racks_credentials_are_not_shown_to_another_server_of_plain_files() {
    let tray = Tray::new();
    let beside = tray.follower.config.beside.as_ref().unwrap();
    assert!(beside.credentials.token.is_none());
    assert!(tray.follower.config.credentials.token.is_some());
}
