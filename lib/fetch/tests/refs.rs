// SPDX-License-Identifier: Apache-2.0
//! What a server may name and leave out: refs without number, branches that are no commits, histories that are cut.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::fmt::Write as _;
use std::fs;

use racklet_fetch::{
    limits::Limits,
    progress::Silent,
    rack::{self, Outcome, RackTree},
};
use support::{chain, server::answer, world::World};

/// What a tray follows that is at `before`, or why it does not; and the bytes that this took.
fn follow(world: &World, before: Option<&RackTree>) -> (Result<RackTree, String>, u64) {
    let mut remote = world.server.remote("rack");
    let outcome = rack::fetch(
        &mut remote,
        "refs/heads/main",
        before.map(RackTree::snapshot),
        &Limits::RACK,
        &mut Silent,
    );
    let accepted = match before {
        Some(tree) => tree.accepted(),
        None => world.place.first_boot(&["config"]),
    };
    let followed = match outcome {
        Ok(Outcome::New(fetched)) => fetched.verify(&accepted).map_err(|error| chain(&error)),
        Ok(Outcome::Unchanged) => Ok(before.unwrap().clone()),
        Err(error) => Err(chain(&error)),
    };
    (followed, remote.received())
}

/// Lets the branch name any object; Git itself would refuse that.
fn point_main_at(world: &World, id: &str) {
    fs::write(
        world.repository.bare.join("refs/heads/main"),
        format!("{id}\n"),
    )
    .unwrap();
}

#[test]
fn a_server_with_any_number_of_refs_is_asked_for_one() {
    let world = World::rack("sha1");
    let head = world.repository.head();
    let (before, few) = follow(&world, None);
    before.unwrap();
    // Names on both sides of the one that is asked for, and names that begin with it.
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted\n");
    for n in 0..30_000 {
        writeln!(packed, "{head} refs/heads/a{n:06}").unwrap();
    }
    writeln!(packed, "{head} refs/heads/main").unwrap();
    for n in 0..30_000 {
        writeln!(packed, "{head} refs/heads/z{n:06}").unwrap();
    }
    fs::write(world.repository.bare.join("packed-refs"), packed).unwrap();
    let (tree, many) = follow(&world, None);
    assert_eq!(tree.unwrap().head().id.to_string(), head);
    assert!(many <= few + 1000, "{many} bytes instead of {few}");
}

#[test]
fn any_number_of_branches_that_begin_like_the_racks_keep_no_tray_from_it() {
    let world = World::rack("sha1");
    let head = world.repository.head();
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted\n");
    writeln!(packed, "{head} refs/heads/main").unwrap();
    for n in 0..20_000 {
        writeln!(packed, "{head} refs/heads/main-fix-{n:06}").unwrap();
    }
    fs::write(world.repository.bare.join("packed-refs"), packed).unwrap();
    let (tree, _) = follow(&world, None);
    assert_eq!(tree.unwrap().head().id.to_string(), head);
}

#[test]
fn a_branch_whose_name_only_begins_like_ours_is_not_ours() {
    let world = World::rack("sha1");
    let head = world.repository.head();
    let unsigned = world.repository.commit_unsigned();
    for name in ["mai", "main-old", "mainly"] {
        let to = format!("HEAD:refs/heads/{name}");
        world.repository.git(&["push", "-q", "origin", &to]);
    }
    let (tree, _) = follow(&world, None);
    assert_eq!(tree.unwrap().head().id.to_string(), head);
    fs::remove_file(world.repository.bare.join("refs/heads/main")).unwrap();
    let gone = follow(&world, None).0.unwrap_err();
    assert!(gone.contains("refs/heads/main"), "{gone}");
    assert!(
        !gone.contains(&unsigned),
        "another branch was looked at: {gone}"
    );
}

#[test]
fn a_branch_that_points_to_a_blob_or_a_tree_is_no_head() {
    let world = World::rack("sha1");
    let (tree, _) = follow(&world, None);
    let tree = tree.unwrap();
    let ids = ["HEAD:rack.yaml", "HEAD^{tree}"];
    for id in ids.map(|name| world.repository.git(&["rev-parse", name])) {
        point_main_at(&world, &id);
        for before in [None, Some(&tree)] {
            let error = follow(&world, before).0.unwrap_err();
            assert!(
                error.contains("not a commit") || error.contains("is missing"),
                "{error}"
            );
        }
    }
    let good = world.commit();
    let (tree, _) = follow(&world, Some(&tree));
    assert_eq!(tree.unwrap().head().id.to_string(), good);
}

#[test]
fn a_server_that_cuts_the_history_above_the_kept_head_is_not_followed() {
    for format in ["sha1", "sha256"] {
        let world = World::rack(format);
        let (tree, _) = follow(&world, None);
        let tree = tree.unwrap();
        world.commit();
        let boundary = world.commit();
        let head = world.commit();
        // The server's own clone is shallow: for it, history begins above what the tray has.
        let shallow = world.repository.bare.join("shallow");
        fs::write(&shallow, format!("{boundary}\n")).unwrap();
        let error = follow(&world, Some(&tree)).0.unwrap_err();
        assert!(error.contains("missing"), "{error}");
        fs::remove_file(&shallow).unwrap();
        let (tree, _) = follow(&world, Some(&tree));
        assert_eq!(tree.unwrap().head().id.to_string(), head);
    }
}

#[test]
fn what_a_server_says_of_boundaries_changes_nothing() {
    let world = World::rack("sha1");
    let (tree, _) = follow(&world, None);
    let tree = tree.unwrap();
    world.commit();
    let unsigned = world.repository.commit_unsigned();
    let head = world.commit();
    let lines: String = [&unsigned, &head]
        .iter()
        .map(|id| format!("0034shallow {id}"))
        .collect();
    world.server.edit(move |request, honest| {
        if !String::from_utf8_lossy(&request.body).contains("command=fetch") {
            return honest;
        }
        let start = honest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let said = format!("0010shallow-info{lines}0001");
        let body = [said.as_bytes(), &honest[start..]].concat();
        answer("200 OK", "application/x-git-upload-pack-result", &body)
    });
    // The unsigned commit is looked at although the server calls it the end of history.
    let error = follow(&world, Some(&tree)).0.unwrap_err();
    assert!(error.contains(&unsigned), "{error}");
}

#[test]
fn a_server_that_changes_to_another_hash_is_refused() {
    let world = World::rack("sha1");
    let (tree, _) = follow(&world, None);
    let tree = tree.unwrap();
    let other = World::rack("sha256");
    for (here, there) in [(&world, &other), (&other, &world)] {
        let before = follow(here, None).0.unwrap();
        let mut remote = there.server.remote("rack");
        let outcome = rack::fetch(
            &mut remote,
            "refs/heads/main",
            Some(before.snapshot()),
            &Limits::RACK,
            &mut Silent,
        );
        let error = chain(&outcome.map(|_| ()).unwrap_err());
        assert!(
            error.contains("sha1") && error.contains("sha256"),
            "{error}"
        );
    }
    // And one that says one hash and speaks another.
    world.server.edit(|_, honest| {
        let text = b"object-format=sha1";
        let Some(at) = honest.windows(text.len()).position(|w| w == text) else {
            return honest;
        };
        let start = honest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let line = at - 4;
        let body = [
            &honest[start..line],
            b"0018object-format=sha256",
            &honest[at + text.len()..],
        ];
        answer(
            "200 OK",
            "application/x-git-upload-pack-advertisement",
            &body.concat(),
        )
    });
    follow(&world, None).0.unwrap_err();
    follow(&world, Some(&tree)).0.unwrap_err();
}
