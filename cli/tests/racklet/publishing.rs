// SPDX-License-Identifier: Apache-2.0
//! What no tray would take is not published, and why is said where it happens.

use crate::world::{World, run, text};

/// Builds the artifact `web` with further arguments, and signs it.
fn artifact(world: &World, more: &[&str]) {
    world.write("root/www/index.html", more.join(" "));
    let build = [
        "artifact",
        "build",
        "--from",
        "../root",
        "--name",
        "web",
        "-o",
        "../artifact",
    ];
    world.in_rack(&[&build[..], more].concat());
    world.in_rack(&["artifact", "sign", "../artifact"]);
}

const PUBLISH: [&str; 3] = ["artifact", "publish", "../artifact"];

#[test]
fn a_version_below_the_one_that_is_published_is_refused() {
    let world = World::with_rack();
    artifact(&world, &["--version", "3"]);
    world.in_rack(&PUBLISH);
    artifact(&world, &["--version", "1"]);
    let said = world.refused(&PUBLISH);
    assert!(
        said.contains("version 3 of artifact web is published already"),
        "{said}"
    );
    assert!(said.contains("--version 4"), "{said}");
    assert!(said.contains("racklet artifact pin"), "{said}");
    // Neither in the rack's own branch, without a push.
    let said = world.refused(&[&PUBLISH[..], &["--no-push"]].concat());
    assert!(said.contains("--version 4"), "{said}");
    // Nor from a folder without a rack.
    let elsewhere = [
        "artifact",
        "publish",
        "artifact",
        "--repository",
        "server.git",
    ];
    let out = world
        .racklet_in(".", &elsewhere)
        .env("GIT_CEILING_DIRECTORIES", world.path(""))
        .output()
        .unwrap();
    assert!(
        text(&out.stderr).contains("--version 4"),
        "{}",
        text(&out.stderr)
    );
    let count = ["rev-list", "--count", "artifact/web"];
    assert_eq!(run(&mut world.git("server.git", &count)).trim(), "1");
    artifact(&world, &["--version", "4"]);
    world.in_rack(&PUBLISH);
}

#[test]
fn what_has_expired_is_not_published_and_the_day_is_said() {
    let world = World::with_rack();
    artifact(&world, &["--created", "1000000000", "--expires-in", "1"]);
    for verb in ["publish", "verify"] {
        let said = world.refused(&["artifact", verb, "../artifact"]);
        assert!(
            said.contains("expired at 2001-09-10 01:46:40 UTC"),
            "{said}"
        );
        assert!(said.contains("--expires-in"), "{said}");
    }
    assert_eq!(run(&mut world.git("server.git", &["for-each-ref"])), "");
}

#[test]
fn a_bootstrap_that_has_expired_is_as_good_as_a_bootloader_takes_it_for() {
    let world = World::with_rack();
    world.build("bootstrap", "unused", 1);
    let build = [
        "bootstrap",
        "build",
        "--kernel",
        "../bzImage",
        "--initramfs",
        "../initramfs",
        "--name",
        "stable",
        "--board",
        "qemu-x86_64",
        "--created",
        "1000000000",
        "--expires-in",
        "1",
        "-o",
        "../bootstrap",
    ];
    world.in_rack(&build);
    world.in_rack(&["bootstrap", "sign", "../bootstrap"]);
    world.in_rack(&["bootstrap", "verify", "../bootstrap"]);
}

#[test]
fn an_architecture_that_no_tray_has_is_refused_with_those_there_are() {
    let world = World::with_rack();
    world.write("root/www/index.html", "page");
    let build = ["artifact", "build", "--from", "../root", "--name", "web"];
    let wrong = ["-o", "../artifact", "--architecture", "riscv"];
    let out = world
        .racklet_in("rack", &[&build[..], &wrong].concat())
        .output()
        .unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("aarch64") && said.contains("x86_64"),
        "{said}"
    );
    assert!(!world.path("artifact").exists());
    // Built by something else.
    artifact(&world, &["--architecture", "aarch64"]);
    let manifest = world.read("artifact/manifest.json");
    world.write(
        "artifact/manifest.json",
        manifest.replace("\"aarch64\"", "\"riscv\""),
    );
    std::fs::remove_dir_all(world.path("artifact/signatures")).unwrap();
    for verb in ["sign", "publish", "verify"] {
        let said = world.refused(&["artifact", verb, "../artifact"]);
        assert!(
            said.contains("`riscv`, expected `aarch64` or `x86_64`"),
            "{said}"
        );
    }
}

#[test]
fn a_package_is_not_built_inside_of_the_folder_it_is_made_from() {
    let world = World::with_rack();
    world.write("root/www/index.html", "page");
    for output in [
        "../root/out",
        "../root",
        "../root/www/deep/er",
        "../rack/../root/out",
    ] {
        let build = ["artifact", "build", "--from", "../root", "--name", "web"];
        let said = world.refused(&[&build[..], &["-o", output]].concat());
        assert!(said.contains("lies inside of ../root"), "{output}: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(world.path("root")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!world.path("root/www/deep").exists());
}

#[test]
fn a_rack_that_git_takes_for_somebody_elses_is_answered_with_gits_own_cure() {
    let world = World::with_rack();
    artifact(&world, &[]);
    for args in [&["check"][..], &["key", "list"], &PUBLISH] {
        let out = world
            .racklet_in("rack", args)
            .env("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
            .output()
            .unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("git config --global --add safe.directory"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn an_empty_repository_of_the_other_kind_is_published_to_from_outside_a_rack() {
    for format in ["sha1", "sha256"] {
        let world = World::with_rack();
        artifact(&world, &[]);
        let kind = format!("--object-format={format}");
        run(&mut world.git(".", &["init", "-q", "--bare", &kind, "empty.git"]));
        // Over the wire: a path would be looked into.
        let url = format!("file://{}", world.path("empty.git").display());
        let publish = ["artifact", "publish", "artifact", "--repository", &url];
        run(world
            .racklet_in(".", &publish)
            .env("GIT_CEILING_DIRECTORIES", world.path("")));
        let commit = run(&mut world.git("empty.git", &["rev-parse", "artifact/web"]));
        assert_eq!(commit.trim().len(), if format == "sha1" { 40 } else { 64 });
    }
}

#[test]
fn a_push_that_the_server_refuses_for_its_hash_says_what_to_do() {
    let world = World::with_rack();
    artifact(&world, &[]);
    run(&mut world.git(
        ".",
        &["init", "-q", "--bare", "--object-format=sha1", "old.git"],
    ));
    let url = format!("file://{}", world.path("old.git").display());
    let said = world.refused(&[&PUBLISH[..], &["--repository", &url]].concat());
    assert!(said.contains("--object-format sha1"), "{said}");
}
