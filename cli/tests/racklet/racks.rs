// SPDX-License-Identifier: Apache-2.0
//! `racklet rack`: what comes out is an ordinary, signed Git repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::world::{World, run, text};

#[test]
fn the_first_commit_is_signed_for_git_and_holds_no_private_key() {
    let world = World::with_rack();
    run(&mut world.git("rack", &["verify-commit", "HEAD"]));
    assert_eq!(
        run(&mut world.git("rack", &["rev-parse", "--show-object-format"])).trim(),
        "sha256"
    );
    assert_eq!(run(&mut world.git("rack", &["status", "--porcelain"])), "");
    let found = world
        .git("rack", &["grep", "PRIVATE KEY", "HEAD"])
        .output()
        .unwrap();
    assert_eq!(
        (found.status.code(), text(&found.stdout)),
        (Some(1), String::new())
    );
}

#[test]
fn sha1_repositories_are_made_for_hosts_that_know_nothing_else() {
    let world = World::new();
    world.ok(&[
        "rack",
        "init",
        "rack",
        "--tray",
        "a",
        "--board",
        "qemu-x86_64",
        "--repository",
        "https://h/r",
        "--object-format",
        "sha1",
    ]);
    assert_eq!(
        run(&mut world.git("rack", &["rev-parse", "--show-object-format"])).trim(),
        "sha1"
    );
    world.in_rack(&["check"]);
}

#[test]
fn the_trays_key_is_outside_of_the_repository_and_its_owners_alone() {
    let world = World::with_rack();
    let made = fs::read_dir(world.path("home/.local/share/racklet"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("tray-1.key");
    assert_eq!(
        fs::metadata(&made).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // openssl reads the same key that the repository announces.
    let der = Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(&made)
        .output()
        .unwrap();
    assert!(der.status.success(), "{}", text(&der.stderr));
    let announced = world.read("rack/trays/tray-1.yaml");
    let line = announced
        .lines()
        .find_map(|line| line.trim().strip_prefix("identity: "))
        .unwrap();
    let key: racklet_trust::PublicKey = line.parse().unwrap();
    assert_eq!(der.stdout[der.stdout.len() - 32..], *key.material());
}

#[test]
fn trust_root_and_signature_satisfy_ssh_keygen() {
    let world = World::with_rack();
    let key = world.read("home/.ssh/id_ed25519.pub");
    let signers = world.write("signers", format!("me {key}"));
    let verified = Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-I",
            "me",
            "-n",
            "trust-root@racklet.dev",
            "-f",
        ])
        .arg(&signers)
        .arg("-s")
        .arg(world.path("rack/trust/1/signatures/0.sig"))
        .stdin(fs::File::open(world.path("rack/trust/1/root.json")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let world = World::new();
    let init = |args: &[&str]| {
        let base = [
            "rack",
            "init",
            "r",
            "--tray",
            "t",
            "--board",
            "qemu-x86_64",
            "--repository",
            "https://h/r",
        ];
        let mut all: Vec<&str> = base.to_vec();
        for pair in args.chunks(2) {
            match all.iter().position(|arg| *arg == pair[0]) {
                Some(at) => all[at + 1] = pair[1],
                None => all.extend(pair),
            }
        }
        let out = world.racklet_in(".", &all).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        text(&out.stderr)
    };
    assert!(init(&["--board", "toaster"]).contains("there are: generic-x86_64"));
    assert!(init(&["--repository", "http://h/r"]).contains("HTTPS only"));
    assert!(init(&["--repository", "https://me@h/r"]).contains("without a user name"));
    assert!(init(&["--tray", "Tray 1"]).contains("a-z, 0-9"));
    assert!(init(&["--threshold", "root=2"]).contains("threshold"));
    assert!(init(&["--key", "nothing.pub"]).contains("neither a key file"));
    world.write(
        "ca.pem",
        "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----",
    );
    assert!(init(&["--ca", "ca.pem"]).contains("private key"));
    assert!(!world.path("r").exists());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn without_a_name_only_the_first_commit_gets_one_and_it_is_said() {
    let world = World::new();
    fs::remove_file(world.path("home/.gitconfig")).unwrap();
    let init = [
        "rack",
        "init",
        "rack",
        "--tray",
        "a",
        "--board",
        "qemu-x86_64",
        "--repository",
        "https://h/r",
    ];
    let out = world.racklet_in(".", &init).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(
        text(&out.stderr).contains("user.name"),
        "{}",
        text(&out.stderr)
    );
    let named = world
        .git("rack", &["config", "user.name"])
        .output()
        .unwrap();
    assert_eq!(text(&named.stdout), "");
    // What it says to do next works.
    assert!(
        !text(&out.stdout).contains("image build"),
        "{}",
        text(&out.stdout)
    );
}

#[test]
fn a_rack_that_could_not_be_made_leaves_no_private_key_behind() {
    let world = World::new();
    let hook = world.write("hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = world.path("hooks").display().to_string();
    run(&mut world.git(".", &["config", "--global", "core.hooksPath", &hooks]));
    let init = [
        "rack",
        "init",
        "rack",
        "--tray",
        "a",
        "--board",
        "qemu-x86_64",
        "--repository",
        "https://h/r",
    ];
    let out = world.racklet_in(".", &init).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let left = fs::read_dir(world.path("home/.local/share/racklet")).unwrap();
    assert_eq!(left.count(), 0);
    assert!(!world.path("rack").exists());
}

#[test]
fn an_existing_folder_is_never_touched() {
    let world = World::with_rack();
    let before = world.read("rack/rack.yaml");
    let out = world
        .racklet_in(
            ".",
            &[
                "rack",
                "init",
                "rack",
                "--tray",
                "t",
                "--board",
                "qemu-x86_64",
                "--repository",
                "https://h/r",
            ],
        )
        .output()
        .unwrap();
    assert!(text(&out.stderr).contains("exists already"));
    assert_eq!(world.read("rack/rack.yaml"), before);
}

#[test]
fn an_own_authority_is_used_by_git_and_kept_for_images() {
    let world = World::new();
    let ca = rcgen::generate_simple_self_signed(["h".to_owned()])
        .unwrap()
        .cert
        .pem();
    world.write("ca.pem", &ca);
    world.ok(&[
        "rack",
        "init",
        "rack",
        "--tray",
        "a",
        "--board",
        "qemu-x86_64",
        "--repository",
        "https://h/r",
        "--ca",
        "ca.pem",
    ]);
    assert_eq!(world.read("rack/ca.pem"), ca);
    let used = run(&mut world.git(
        "rack",
        &["config", "--get-urlmatch", "http.sslCAInfo", "https://h/r"],
    ));
    assert_eq!(
        used.trim(),
        world
            .path("rack/ca.pem")
            .canonicalize()
            .unwrap()
            .display()
            .to_string()
    );
}

#[test]
fn a_clone_is_set_up_and_trays_are_added() {
    let world = World::with_rack();
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
    run(&mut world.git(".", &["clone", "-q", "server.git", "clone"]));
    run(&mut world.racklet_in("clone", &["rack", "setup", "--root", &world.root()]));
    run(&mut world.racklet_in(
        "clone",
        &["rack", "add-tray", "tray-2", "--board", "qemu-x86_64"],
    ));
    run(&mut world.git("clone", &["add", "-A"]));
    run(&mut world.git("clone", &["commit", "-q", "-m", "trays: tray-2"]));
    run(&mut world.git("clone", &["verify-commit", "HEAD"]));
    let said = run(&mut world.racklet_in("clone", &["check"]));
    assert!(
        said.contains("2 trays") && said.contains("2 commits signed"),
        "{said}"
    );
}
