// SPDX-License-Identifier: Apache-2.0
//! The owner's own commands against a server that says what it likes: nothing in a clone is believed but what leads, signature
//! by signature, from the trust root that the owner pinned.

use std::fs;
use std::path::Path;

use crate::world::{World, run, text};

/// Eve's key where the owner's stands, in a trust root that is otherwise as it was.
fn exchange_keys(world: &World) {
    world.keygen("mallory");
    let key = |path: &str| {
        let line = world.read(path);
        line.split(' ').nth(1).unwrap().to_owned()
    };
    let root = world.read("eve/trust/1/root.json");
    let exchanged = root.replace(&key("home/.ssh/id_ed25519.pub"), &key("mallory.pub"));
    assert_ne!(root, exchanged);
    world.write("eve/trust/1/root.json", exchanged);
}

#[test]
fn keys_that_a_server_exchanged_are_believed_by_no_command() {
    let world = World::with_rack();
    world.attack(exchange_keys);
    let eve = world.ok(&["key", "fingerprint", "mallory.pub"]);
    let said = world.refused(&["trust", "show"]);
    assert!(!said.contains(eve.trim()), "{said}");
    assert!(said.contains("not what the rack's keys signed"), "{said}");
    for command in [
        &["image", "build", "--tray", "tray-1", "-o", "../a.img"][..],
        &["key", "add", "../mallory.pub", "--role", "root"],
        &["rack", "add-tray", "tray-2", "--board", "qemu-x86_64"],
        &["rack", "setup"],
        &["check"],
    ] {
        let said = world.refused(command);
        assert!(!said.contains(eve.trim()), "{command:?}: {said}");
    }
    assert!(!world.path("a.img").exists());
    // What is asked of the owner's own files goes by the newest commit that is signed, and says so.
    world.artifact("artifact", b"x");
    let mut sign = world.racklet_in("rack", &["artifact", "sign", "../artifact"]);
    let out = sign.output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("not believed"));
    assert!(
        text(&out.stdout).contains(
            world
                .ok(&["key", "fingerprint", "home/.ssh/id_ed25519"])
                .trim()
        )
    );
}

#[test]
fn a_tray_that_nobody_signed_is_neither_asked_nor_given_an_image() {
    let world = World::with_rack();
    let tray = world.read("rack/trays/tray-1.yaml");
    world.write("rack/trays/tray-2.yaml", tray.replace("tray-1", "tray-2"));
    assert!(
        world
            .refused(&["status", "tray-2"])
            .contains("no tray tray-2; it has: tray-1")
    );
    fs::remove_file(world.path("rack/trays/tray-2.yaml")).unwrap();

    world.write(
        "rack/trays/tray-1.yaml",
        format!("{tray}  # another identity\n"),
    );
    let image = ["image", "build", "--tray", "tray-1", "-o", "../a.img"];
    assert!(world.refused(&image).contains("nobody signed them"));
    world.write("rack/trays/tray-1.yaml", tray);

    world.attack(|world| {
        let tray = world.read("eve/trays/tray-1.yaml");
        world.write("eve/trays/tray-9.yaml", tray.replace("tray-1", "tray-9"));
    });
    let said = world.refused(&["status", "tray-9"]);
    assert!(
        said.contains("not believed") && said.contains("no tray tray-9"),
        "{said}"
    );
    let image = ["image", "build", "--tray", "tray-9", "-o", "../a.img"];
    assert!(
        world
            .refused(&image)
            .contains("not what the rack's keys signed")
    );
}

#[test]
fn another_racks_history_is_not_believed_however_well_it_is_signed() {
    let world = World::with_rack();
    let root = world.root();
    fs::create_dir_all(world.path("eves/.ssh")).unwrap();
    world.keygen("eves/.ssh/id_ed25519");
    let mut init = world.racklet_in(
        ".",
        &[
            "rack",
            "init",
            "eve",
            "--tray",
            "tray-1",
            "--board",
            "qemu-x86_64",
            "--repository",
            "https://git.example/rack.git",
        ],
    );
    run(init.env("HOME", world.path("eves")));
    let eve = world.path("eve").display().to_string();
    run(&mut world.git("rack", &["fetch", "-q", &eve, "main"]));
    run(&mut world.git("rack", &["reset", "-q", "--hard", "FETCH_HEAD"]));
    let said = world.refused(&["trust", "show"]);
    assert!(said.contains(&format!("not the pinned {root}")), "{said}");
    assert!(world.refused(&["check"]).contains("not the pinned"));
    // Nor does one signed commit of the owner's on top of it help.
    run(&mut world.git("rack", &["commit", "-q", "--allow-empty", "-m", "mine"]));
    assert!(world.refused(&["trust", "show"]).contains("not the pinned"));
}

#[test]
fn a_clone_is_believed_once_somebody_said_which_root_it_should_have() {
    let world = World::with_rack();
    let root = world.root();
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
    run(&mut world.git(".", &["clone", "-q", "server.git", "clone"]));
    let refused = |args: &[&str]| {
        let out = world.racklet_in("clone", args).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        text(&out.stdout) + &text(&out.stderr)
    };
    for command in ["check", "plan"] {
        assert!(
            refused(&[command]).contains("racklet rack setup"),
            "{command}"
        );
    }
    assert!(refused(&["trust", "show"]).contains("racklet rack setup"));
    // Nobody to ask: the fingerprint is named, and nothing kept.
    assert!(refused(&["rack", "setup"]).contains(&root));
    let wrong = format!("sha256:{}", "0".repeat(64));
    assert!(refused(&["rack", "setup", "--root", &wrong]).contains("exchanged its keys"));
    assert!(refused(&["trust", "show"]).contains("racklet rack setup"));
    // Scripts may name it each time; `rack setup` keeps it.
    run(&mut world.racklet_in("clone", &["trust", "show", "--root", &root]));
    run(&mut world.racklet_in("clone", &["rack", "setup", "--root", &root]));
    let said = run(&mut world.racklet_in("clone", &["trust", "show"]));
    assert!(said.contains(&root), "{said}");
    run(&mut world.racklet_in("clone", &["rack", "setup"]));
}

#[test]
fn what_was_found_good_is_not_walked_again_and_counts_only_for_its_root() {
    let world = World::with_rack();
    let kept = "rack/.git/racklet/verified.json";
    let walked = |name: &str| {
        let trace = world.path(name);
        let mut show = world.racklet_in("rack", &["trust", "show"]);
        run(show.env("GIT_TRACE", &trace));
        fs::read_to_string(&trace)
            .unwrap()
            .contains("--max-parents=0")
    };
    assert!(walked("first"));
    assert!(!walked("second"));
    world.write("rack/README.md", "more");
    world.commit("more");
    assert!(
        !walked("third"),
        "one new commit is judged from the one before"
    );
    // Kept for another root, damaged, or of a commit that is gone: everything is walked again.
    let good = world.read(kept);
    let root = world.root();
    let other = good.replace(root.strip_prefix("sha256:").unwrap(), &"0".repeat(64));
    assert_ne!(good, other);
    for (number, text) in [
        other,
        "{".to_owned(),
        good.replace("\"head\":\"", "\"head\":\"00"),
    ]
    .iter()
    .enumerate()
    {
        world.write(kept, text);
        assert!(walked(&format!("again-{number}")), "{text}");
    }
    // An unsigned commit is not made good by what was kept before it.
    world.attack(exchange_keys);
    assert!(Path::new(&world.path(kept)).exists());
    world.refused(&["trust", "show"]);
}

#[test]
fn an_image_says_from_which_root_and_version_it_was_made() {
    let world = World::with_rack();
    world.keygen("ben");
    world.in_rack(&["trust", "rotate", "--add", "config=../ben.pub"]);
    let shown = world.json(&["trust", "show"]);
    assert_eq!(shown["root"], world.root());
    assert_eq!(shown["version"], 2);
    let said = world.in_rack(&crate::images::with_parts(&world));
    assert!(
        said.contains(&format!("{}, trust root version 2", world.root())),
        "{said}"
    );
}
