// SPDX-License-Identifier: Apache-2.0
//! `racklet artifact prune`: what nothing pins goes from the server, and nothing else does.

use crate::world::{World, run};

/// Publishes another version of `web`, and pins it where told; gives its digest.
fn version(world: &World, version: &str, pin: bool) -> String {
    // Bytes of its own, so that a version's chunks are nobody else's.
    world.write("root/www/index.html", version.repeat(50_000));
    let build = [
        "artifact",
        "build",
        "--from",
        "../root",
        "--name",
        "web",
        "--version",
        version,
    ];
    let built = world.json(&[&build[..], &["-o", "../artifact"]].concat());
    for verb in ["sign", "publish"] {
        world.in_rack(&["artifact", verb, "../artifact"]);
    }
    if pin {
        world.web(&built);
        world.commit(version);
    }
    built["manifest"].as_str().unwrap().to_owned()
}

fn manifests(world: &World) -> Vec<String> {
    let list = [
        "for-each-ref",
        "--format=%(refname)",
        "refs/racklet/manifests/",
    ];
    let listed = run(&mut world.git("server.git", &list));
    let digests = listed.lines().filter_map(|name| name.rsplit('/').next());
    digests.map(str::to_owned).collect()
}

/// How many objects the server holds once it has collected its garbage.
fn weight(world: &World) -> usize {
    run(&mut world.git("server.git", &["gc", "-q", "--prune=now"]));
    let list = [
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objecttype)",
    ];
    run(&mut world.git("server.git", &list)).lines().count()
}

fn push(world: &World) {
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
}

#[test]
fn what_nothing_pins_goes_from_the_server_and_the_rest_stays() {
    let world = World::with_rack();
    let one = version(&world, "1", false);
    let two = version(&world, "2", true);
    let three = version(&world, "3", true);
    let four = version(&world, "4", false);
    push(&world);
    let said = world.json(&["artifact", "prune", "--dry-run"]);
    assert_eq!(said["changed"], false);
    assert_eq!(said["removed"][0]["manifest"], one.as_str());
    assert_eq!(
        (said["removed"].as_array().unwrap().len(), &said["kept"]),
        (1, &3.into())
    );
    assert_eq!(manifests(&world).len(), 4);

    let before = weight(&world);
    let said = world.in_rack(&["artifact", "prune"]);
    assert!(
        said.contains("removed   web version 1") && said.contains("3 images kept"),
        "{said}"
    );
    let mut left = manifests(&world);
    left.sort();
    let mut expected = vec![two.clone(), three, four.clone()];
    expected.sort();
    assert_eq!(left, expected);
    // Its commit, trees, manifest, signature and chunks: the later versions do not hold it as their past.
    assert!(
        weight(&world) <= before - 6,
        "{before} to {}",
        weight(&world)
    );
    // Each list still holds its package, and neither holds the one before.
    let two = format!("refs/racklet/manifests/{two}");
    let chunks = run(&mut world.git("server.git", &["ls-tree", &format!("{two}^"), "chunks"]));
    assert!(chunks.starts_with("040000 tree"), "{chunks}");
    let held = run(&mut world.git("server.git", &["rev-list", "--count", &two]));
    assert_eq!(held.trim(), "2");
    // Trays find what is pinned, the next version is published on top, and there is nothing more to do.
    let said = world.in_rack(&["check"]);
    assert!(
        said.contains("artifact web version 3: signed and complete"),
        "{said}"
    );
    assert_eq!(world.json(&["artifact", "prune"])["changed"], false);
    version(&world, "5", false);
    let said = world.json(&["artifact", "prune", "--dry-run"]);
    assert_eq!(said["removed"][0]["manifest"], four.as_str());
}

#[test]
fn what_a_commit_before_the_days_left_in_force_is_kept() {
    let world = World::with_rack();
    let one = version(&world, "1", true);
    version(&world, "2", true);
    version(&world, "3", false);
    push(&world);
    // No commit is of the last 0 days but the head counts; with it goes what was pinned before.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let said = world.json(&["artifact", "prune", "--days", "0"]);
    assert_eq!(said["removed"].as_array().unwrap().len(), 1);
    assert_eq!(said["removed"][0]["manifest"], one.as_str());
    assert!(
        world
            .in_rack(&["check"])
            .contains("version 2: signed and complete")
    );
}

#[test]
fn nothing_is_removed_by_a_clone_that_is_behind() {
    let world = World::with_rack();
    version(&world, "1", false);
    version(&world, "2", true);
    push(&world);
    run(&mut world.git(".", &["clone", "-q", "server.git", "other"]));
    let other = ["-c", "user.name=o", "-c", "user.email=o@h"];
    let commit = [
        "commit",
        "-q",
        "--allow-empty",
        "--no-gpg-sign",
        "-m",
        "later",
    ];
    run(&mut world.git("other", &[&other[..], &commit].concat()));
    run(&mut world.git("other", &["push", "-q", "origin", "main"]));
    let said = world.refused(&["artifact", "prune"]);
    assert!(said.contains("git pull first"), "{said}");
    assert_eq!(manifests(&world).len(), 2);
}

#[test]
fn payloads_and_images_from_another_clone_are_left_alone() {
    let world = World::with_rack();
    world.release();
    world.commit("release");
    world.build("payload", "payload", 2);
    for verb in ["sign", "publish"] {
        world.in_rack(&["payload", verb, "../payload"]);
    }
    push(&world);
    // Of a commit that this clone has never seen.
    let odd = "refs/racklet/manifests/".to_owned() + &"ab".repeat(32);
    run(&mut world.git(".", &["init", "-q", "--object-format=sha256", "far"]));
    let commit = [
        "-c",
        "user.name=o",
        "-c",
        "user.email=o@h",
        "commit",
        "-q",
        "--allow-empty",
        "--no-gpg-sign",
        "-m",
        "far",
    ];
    run(&mut world.git("far", &commit));
    let target = format!("HEAD:{odd}");
    run(&mut world.git("far", &["push", "-q", "../server.git", &target]));
    let before = manifests(&world);
    let said = world.json(&["artifact", "prune", "--days", "0"]);
    assert_eq!(said["unknown"][0], "ab".repeat(32));
    assert_eq!(
        (&said["changed"], said["removed"].as_array().unwrap().len()),
        (&false.into(), 0)
    );
    assert_eq!(manifests(&world), before);
}
