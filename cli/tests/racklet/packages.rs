// SPDX-License-Identifier: Apache-2.0
//! `racklet payload`, `artifact` and `bootstrap`: built the same twice, signed by the right keys, published with Git.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::world::{World, run, text};

#[test]
fn the_same_inputs_give_the_same_digest() {
    let world = World::with_rack();
    for kind in ["payload", "bootstrap"] {
        let (first, second) = (
            world.build(kind, "first", 1),
            world.build(kind, "second", 1),
        );
        assert_eq!(first["manifest"], second["manifest"]);
        assert_ne!(first["manifest"], world.build(kind, "third", 2)["manifest"]);
        assert_eq!(first["source"]["linux"], "6.12.90");
    }
    let (first, second) = (world.artifact("a", b"page"), world.artifact("b", b"page"));
    assert_eq!(first["manifest"], second["manifest"]);
}

#[test]
fn signatures_satisfy_ssh_keygen() {
    let world = World::with_rack();
    world.build("payload", "payload", 1);
    world.in_rack(&["payload", "sign", "../payload"]);
    let signers = world.write(
        "signers",
        format!("me {}", world.read("home/.ssh/id_ed25519.pub")),
    );
    let verified = Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-I",
            "me",
            "-n",
            "manifest@racklet.dev",
            "-f",
        ])
        .arg(&signers)
        .arg("-s")
        .arg(world.path("payload/signatures/0.sig"))
        .stdin(fs::File::open(world.path("payload/manifest.json")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}

#[test]
fn a_key_without_the_role_does_not_sign() {
    let world = World::with_rack();
    world.keygen("eve");
    world.build("payload", "payload", 1);
    let said = world.refused(&["payload", "sign", "../payload", "--key", "../eve"]);
    assert!(said.contains("is not a payload key of this rack"), "{said}");
    assert!(!world.path("payload/signatures").exists());
}

#[test]
fn unsigned_and_tampered_packages_are_not_published() {
    let world = World::with_rack();
    world.artifact("artifact", b"page");
    assert!(
        world
            .refused(&["artifact", "publish", "../artifact"])
            .contains("sign it first")
    );
    world.in_rack(&["artifact", "sign", "../artifact"]);
    let chunk = find(&world.path("artifact/chunks"));
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[10] ^= 1;
    fs::write(&chunk, bytes).unwrap();
    assert!(
        world
            .refused(&["artifact", "publish", "../artifact"])
            .contains("holds other bytes")
    );
    assert!(
        world
            .refused(&["artifact", "verify", "../artifact"])
            .contains("holds other bytes")
    );
    assert_eq!(run(&mut world.git("server.git", &["for-each-ref"])), "");
}

fn find(folder: &std::path::Path) -> std::path::PathBuf {
    let first = fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    if first.is_dir() { find(&first) } else { first }
}

#[test]
fn publishing_is_deterministic_and_pushes_what_changed() {
    let world = World::with_rack();
    world.artifact("artifact", b"page one");
    world.in_rack(&["artifact", "sign", "../artifact"]);
    let first = world.json(&["artifact", "publish", "../artifact"]);
    let again = world.json(&["artifact", "publish", "../artifact"]);
    assert_eq!(
        (&again["commit"], &again["changed"]),
        (&first["commit"], &false.into())
    );
    let tree = run(&mut world.git(
        "server.git",
        &["ls-tree", "-r", "--name-only", "artifact/web"],
    ));
    assert!(
        tree.contains("manifest.json\nsignatures/0.sig") && tree.starts_with("chunks/"),
        "{tree}"
    );

    // Somebody else's machine, without a rack, makes the same commit.
    run(&mut world.git(
        ".",
        &[
            "init",
            "-q",
            "--bare",
            "--object-format=sha256",
            "other.git",
        ],
    ));
    let other = run(world
        .racklet_in(
            ".",
            &[
                "artifact",
                "publish",
                "artifact",
                "--repository",
                "other.git",
                "--json",
            ],
        )
        .env("GIT_CEILING_DIRECTORIES", world.path("")));
    let other: serde_json::Value = serde_json::from_str(&other).unwrap();
    assert_eq!(other["commit"], first["commit"]);

    // The next version follows the first as an ordinary commit.
    world.artifact("artifact", b"page two");
    world.in_rack(&["artifact", "sign", "../artifact"]);
    world.json(&["artifact", "publish", "../artifact"]);
    assert_eq!(
        run(&mut world.git("server.git", &["rev-list", "--count", "artifact/web"])).trim(),
        "2"
    );
    let publish = [
        "artifact",
        "publish",
        "artifact",
        "--repository",
        "other.git",
    ];
    run(world
        .racklet_in(".", &publish)
        .env("GIT_CEILING_DIRECTORIES", world.path("")));
    assert_eq!(
        run(&mut world.git("other.git", &["rev-parse", "artifact/web"])),
        run(&mut world.git("server.git", &["rev-parse", "artifact/web"]))
    );
}

#[test]
fn a_branch_that_moved_meanwhile_is_not_overwritten() {
    let world = World::with_rack();
    world.artifact("artifact", b"mine");
    world.in_rack(&["artifact", "sign", "../artifact"]);
    world.in_rack(&["artifact", "publish", "../artifact"]);
    // A hook that refuses stands for a server that does not take it.
    let hook = world.write(
        "server.git/hooks/pre-receive",
        "#!/bin/sh\necho no room >&2\nexit 1\n",
    );
    run(Command::new("chmod").arg("+x").arg(&hook));
    world.artifact("artifact", b"mine again");
    world.in_rack(&["artifact", "sign", "../artifact"]);
    assert!(
        world
            .refused(&["artifact", "publish", "../artifact"])
            .contains("git push")
    );
    assert_eq!(
        run(&mut world.git("server.git", &["rev-list", "--count", "artifact/web"])).trim(),
        "1"
    );
}

#[test]
fn pinning_keeps_comments_and_says_when_nothing_uses_it() {
    let world = World::with_rack();
    let built = world.artifact("artifact", b"one");
    assert!(
        world
            .refused(&["artifact", "pin", "../artifact"])
            .contains(built["manifest"].as_str().unwrap())
    );
    world.web(&built);
    let with_comment = world.read("rack/workloads/web.yaml") + "  # the blue one\n";
    world.write("rack/workloads/web.yaml", &with_comment);
    let newer = world.artifact("artifact", b"two");
    let pinned = world.json(&["artifact", "pin", "../artifact"]);
    assert_eq!(pinned["changed"][0], "workloads/web.yaml");
    let expected = with_comment.replace(
        built["manifest"].as_str().unwrap(),
        newer["manifest"].as_str().unwrap(),
    );
    assert_eq!(world.read("rack/workloads/web.yaml"), expected);

    let payload = world.build("payload", "payload", 1);
    world.in_rack(&["payload", "pin", "../payload"]);
    assert!(
        world
            .read("rack/releases/stable.yaml")
            .contains(payload["manifest"].as_str().unwrap())
    );
    let payload = world.build("payload", "payload", 2);
    world.in_rack(&["payload", "pin", "../payload"]);
    assert!(
        world
            .read("rack/releases/stable.yaml")
            .contains(payload["manifest"].as_str().unwrap())
    );
}

#[test]
fn an_archive_on_standard_input_gives_what_the_directory_gives() {
    let world = World::with_rack();
    let built = world.artifact("artifact", b"page");
    let tar = Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf", "-", "-C"])
        .arg(world.path("root"))
        .arg(".")
        .output()
        .unwrap();
    let mut child = world
        .racklet_in(
            ".",
            &[
                "artifact",
                "build",
                "--from",
                "-",
                "--name",
                "web",
                "--created",
                "1790000000",
                "-o",
                "piped",
                "--json",
            ],
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    let out = child.wait_with_output().unwrap();
    let piped: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(piped["manifest"], built["manifest"]);
}

#[test]
fn what_an_image_does_not_keep_is_said_with_a_count() {
    let world = World::with_rack();
    world.write("root/etc/x", "1");
    let made = Command::new("tar")
        .args([
            "--format=posix",
            "--pax-option=SCHILY.acl.access:=user::rw-",
        ])
        .arg("-cf")
        .arg(world.path("acl.tar"))
        .arg("-C")
        .arg(world.path("root"))
        .arg("etc/x")
        .status()
        .unwrap();
    assert!(made.success());
    let build = ["artifact", "build", "--from", "../acl.tar", "--name", "web"];
    let said = world.in_rack(&[&build[..], &["-o", "../text"]].concat());
    assert!(
        said.contains("left out  access control lists of 1 file, first \"etc/x\""),
        "{said}"
    );
    let value = world.json(&[&build[..], &["-o", "../json"]].concat());
    assert_eq!(value["omitted"][0]["count"], 1);
    assert_eq!(value["omitted"][0]["first"], "etc/x");
}

#[test]
fn what_is_no_root_file_system_is_refused_with_what_to_do() {
    let world = World::with_rack();
    let refused = |from: &str| {
        world.refused(&[
            "artifact", "build", "--from", from, "--name", "web", "-o", "../p",
        ])
    };
    world.write("root.tar.xz", b"\xfd7zXZ\0\0\x04 and so on");
    let said = refused("../root.tar.xz");
    assert!(
        said.contains("xz") && said.contains("gzip or zstd"),
        "{said}"
    );
    world.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    world.write("layout/index.json", "{}");
    let said = refused("../layout");
    assert!(said.contains("podman export"), "{said}");
    world.write("root/proc", "a file");
    let said = refused("../root");
    assert!(said.contains("/proc is not a folder"), "{said}");
    assert!(!world.path("p").exists());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn wrong_inputs_are_refused_with_what_to_do() {
    let world = World::with_rack();
    world.write("text", "hello");
    world.kernel();
    let build = |kernel: &str, board: &str| {
        world.refused(&[
            "payload",
            "build",
            "--kernel",
            kernel,
            "--initramfs",
            "../text",
            "--name",
            "stable",
            "--board",
            board,
            "-o",
            "../p",
        ])
    };
    assert!(build("../text", "qemu-x86_64").contains("not a Linux kernel image"));
    assert!(build("../nothing", "qemu-x86_64").contains("open ../nothing"));
    assert!(build("../bzImage", "toaster").contains("there are: generic-x86_64"));
    assert!(build("../bzImage", "qemu-aarch64").contains("is for x86_64; board qemu-aarch64 is"));
    // What UEFI starts, by name of the same build: a signed payload of it would be fetched by every tray and started by none.
    let mut zboot = vec![0; 0x200];
    zboot[..8].copy_from_slice(b"MZ\0\0zimg");
    zboot[0x3c] = 0x40;
    zboot[0x40..0x46].copy_from_slice(b"PE\0\0\x64\xaa");
    world.write("vmlinuz.efi", zboot);
    let said = build("../vmlinuz.efi", "qemu-aarch64");
    assert!(
        said.contains("kexec cannot start that") && said.contains("arm64/boot/Image"),
        "{said}"
    );
    world.write("thesis/chapter", "1");
    world.write("root/etc/x", "1");
    let said = world.refused(&[
        "artifact",
        "build",
        "--from",
        "../root",
        "--name",
        "web",
        "-o",
        "../thesis",
    ]);
    assert!(said.contains("is not a package"), "{said}");
    assert_eq!(world.read("thesis/chapter"), "1");
    let said = world.refused(&[
        "artifact",
        "build",
        "--from",
        "../thesis",
        "--name",
        "No Name",
        "-o",
        "../p",
    ]);
    assert!(said.contains("name"), "{said}");
    world.artifact("artifact", b"x");
    assert!(
        world
            .refused(&["payload", "sign", "../artifact"])
            .contains("use `racklet artifact")
    );
    assert!(!world.path("p").exists());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let world = World::with_rack();
    world.kernel();
    let fifo = world.path("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    let child = world
        .racklet_in(
            ".",
            &[
                "payload",
                "build",
                "--kernel",
                "bzImage",
                "--initramfs",
                "fifo",
                "--name",
                "stable",
                "--board",
                "qemu-x86_64",
                "-o",
                "p",
            ],
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Opening blocks until the program reads.
    let mut writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    writer.write_all(&vec![7; 100_000]).unwrap();
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    // The data never ends; the program has to. Once it has closed its side, writing fails.
    let ended = (0..1200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        writer.write_all(b"more").is_err()
    });
    assert!(ended, "still reading a minute after Ctrl-C");
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    assert!(!world.path("p").exists());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn publishing_onto_what_somebody_else_published_keeps_the_clone_whole() {
    let world = World::with_rack();
    run(&mut world.git("rack", &["push", "-q", "-u", "origin", "main"]));
    run(&mut world.git(".", &["clone", "-q", "server.git", "clone"]));
    world.write("rack/README.md", "more");
    world.commit("more");
    world.artifact("artifact", b"theirs");
    world.in_rack(&["artifact", "sign", "../artifact"]);
    let publish = ["artifact", "publish", "../artifact"];
    let root = world.root();
    let theirs = [&publish[..], &["--root", &root]].concat();
    run(&mut world.racklet_in("clone", &theirs));
    world.artifact("artifact", b"mine");
    world.in_rack(&["artifact", "sign", "../artifact"]);
    world.in_rack(&publish);
    let count = ["rev-list", "--count", "artifact/web"];
    assert_eq!(run(&mut world.git("server.git", &count)).trim(), "2");
    assert!(world.in_rack(&["check"]).contains("2 commits signed"));
}

#[test]
fn packages_and_images_inside_of_the_rack_stay_out_of_its_main_branch() {
    let world = World::with_rack();
    world.artifact("rack/web", b"page");
    world.build("payload", "rack/stable", 1);
    world.write("rack/tray-1.img", "secret");
    world.in_rack(&["payload", "sign", "stable"]);
    world.in_rack(&["payload", "publish", "stable"]);
    world.in_rack(&["payload", "pin", "stable"]);
    // What the guide says, word for word.
    run(&mut world.git("rack", &["add", "-A"]));
    run(&mut world.git("rack", &["commit", "-q", "-m", "release: stable 1"]));
    assert_eq!(run(&mut world.git("rack", &["status", "--porcelain"])), "");
    let files = run(&mut world.git("rack", &["ls-files"]));
    assert!(files.contains("releases/stable.yaml"), "{files}");
    assert!(
        !files.contains("chunks") && !files.contains(".img"),
        "{files}"
    );
    world.in_rack(&["check"]);
}
