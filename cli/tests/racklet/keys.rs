// SPDX-License-Identifier: Apache-2.0
//! `racklet key` and `racklet trust`: who may do what, and how that changes.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::world::{World, run, text};

/// An agent that ends with the test.
struct Agent {
    child: Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(world: &World) -> Self {
        let socket = world.path("agent");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self { child, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_key_that_only_the_agent_has_makes_a_rack_and_signs_in_it() {
    let world = World::new();
    let agent = Agent::start(&world);
    run(Command::new("ssh-add")
        .arg("-q")
        .arg(world.path("home/.ssh/id_ed25519"))
        .env("SSH_AUTH_SOCK", &agent.socket));
    fs::remove_dir_all(world.path("home/.ssh")).unwrap();
    let with = |folder: &str, args: &[&str]| {
        run(world
            .racklet_in(folder, args)
            .env("SSH_AUTH_SOCK", &agent.socket))
    };
    with(
        ".",
        &[
            "rack",
            "init",
            "rack",
            "--tray",
            "a",
            "--board",
            "qemu-x86_64",
            "--repository",
            "https://h/r",
        ],
    );
    run(&mut world.git("rack", &["verify-commit", "HEAD"]));
    assert!(
        with("rack", &["key", "list"])
            .contains("roles in this rack: root, config, payload, firmware")
    );
    world.artifact("artifact", b"x");
    with("rack", &["artifact", "sign", "../artifact"]);
    with("rack", &["artifact", "verify", "../artifact"]);
}

#[test]
fn generated_keys_are_ordinary_ones() {
    let world = World::new();
    world.ok(&["key", "generate", "new", "--no-passphrase"]);
    let mine = world.ok(&["key", "fingerprint", "new"]);
    let theirs = run(Command::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(world.path("new.pub")));
    assert_eq!(mine.trim(), theirs.split(' ').nth(1).unwrap());
    let again = world
        .racklet_in(".", &["key", "generate", "new"])
        .output()
        .unwrap();
    assert!(text(&again.stderr).contains("exists already"));
}

#[test]
fn an_rsa_key_is_refused_with_what_to_use() {
    let world = World::new();
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"])
        .arg(world.path("rsa")));
    let out = world
        .racklet_in(".", &["key", "fingerprint", "rsa.pub"])
        .output()
        .unwrap();
    assert!(
        text(&out.stderr).contains("use ssh-ed25519"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn a_key_gets_a_role_and_loses_it_again() {
    let world = World::with_rack();
    let anna = world.keygen("anna");
    world.in_rack(&["key", "add", "../anna.pub", "--role", "config"]);
    run(&mut world.git("rack", &["verify-commit", "HEAD"]));
    // Anna may now commit ...
    let signing = format!("user.signingkey={}", anna.display());
    run(&mut world.git(
        "rack",
        &[
            "-c",
            &signing,
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "anna",
        ],
    ));
    assert!(world.in_rack(&["check"]).contains("3 commits signed"));
    // ... and after her role is gone, no more.
    let fingerprint = world.ok(&["key", "fingerprint", "anna"]);
    world.in_rack(&["key", "remove", fingerprint.trim(), "--role", "config"]);
    assert!(world.in_rack(&["check"]).contains("4 commits signed"));
    run(&mut world.git(
        "rack",
        &[
            "-c",
            &signing,
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "anna again",
        ],
    ));
    assert!(world.refused(&["check"]).contains("is not a config key"));
}

#[test]
fn a_new_version_waits_for_the_signatures_of_old_and_new_root_keys() {
    let world = World::with_rack();
    world.keygen("ben");
    let said = world.in_rack(&[
        "trust",
        "rotate",
        "--add",
        "root=../ben.pub",
        "--threshold",
        "root=2",
    ]);
    assert!(said.contains("not enough yet"), "{said}");
    assert!(
        world
            .in_rack(&["trust", "show"])
            .contains("version 2 is being prepared")
    );
    assert!(
        world
            .refused(&["key", "add", "../ben.pub", "--role", "config"])
            .contains("is being prepared already")
    );
    let said = world.in_rack(&["trust", "sign", "--key", "../ben"]);
    assert!(
        said.contains("version 2 is complete (2 signatures)"),
        "{said}"
    );
    assert!(world.in_rack(&["check"]).contains("2 commits signed"));
    assert_eq!(world.json(&["trust", "show"])["version"], 2);
}

#[test]
fn a_role_cannot_be_left_without_enough_keys() {
    let world = World::with_rack();
    let mine = world.ok(&["key", "fingerprint", "home/.ssh/id_ed25519"]);
    for role in ["payload", "root"] {
        let said = world.refused(&["key", "remove", mine.trim(), "--role", role]);
        assert!(
            said.contains(&format!("role {role} would need 1 key and have 0")),
            "{said}"
        );
        assert!(
            said.contains(&format!(
                "racklet trust rotate --add {role}=NEW.pub --remove {role}={}",
                mine.trim()
            )),
            "{said}"
        );
    }
    assert!(!world.path("rack/trust/2").exists());
}

#[test]
fn who_is_about_to_lock_themselves_out_is_asked_first() {
    let world = World::with_rack();
    world.keygen("anna");
    let add = ["key", "add", "../anna.pub", "--role"];
    for role in ["config", "root"] {
        world.in_rack(&[&add[..], &[role]].concat());
    }
    let mine = world.ok(&["key", "fingerprint", "home/.ssh/id_ed25519"]);
    let before = world.json(&["trust", "show"]);
    let remove = ["key", "remove", mine.trim(), "--role", "config"];
    let gone = format!("config={}", mine.trim());
    let rotate = ["trust", "rotate", "--remove", &gone];
    for command in [&remove[..], &rotate] {
        let said = world.refused(command);
        assert!(
            said.contains("none of the keys you have here would be a config key"),
            "{said}"
        );
        assert!(said.contains("--yes"), "{said}");
    }
    assert_eq!(world.json(&["trust", "show"]), before);
    // Of somebody else's key nobody is asked.
    let anna = world.ok(&["key", "fingerprint", "anna"]);
    let other = ["key", "remove", anna.trim(), "--role", "root"];
    world.in_rack(&other);
    world.in_rack(&[&remove[..], &["--yes"]].concat());
    assert_eq!(
        world.json(&["trust", "show"])["roles"]["config"]["keys"][0]["fingerprint"],
        anna.trim()
    );
}

#[test]
fn a_foreign_key_cannot_sign_the_next_version() {
    let world = World::with_rack();
    world.keygen("eve");
    let said = world.refused(&[
        "trust",
        "rotate",
        "--add",
        "config=../eve.pub",
        "--key",
        "../eve",
    ]);
    assert!(
        said.contains("root key neither of version 1 nor of version 2"),
        "{said}"
    );
    assert_eq!(world.json(&["trust", "show"])["version"], 1);
}

#[test]
fn two_of_two_config_keys_commit_by_approval() {
    let world = World::with_two_keys();
    assert!(
        world
            .refused(&["check"])
            .contains("2 signatures by config keys needed, 1 valid")
    );
    world.in_rack(&[
        "approve",
        "--key",
        "home/.ssh/id_ed25519".replace("home", "../home").as_str(),
    ]);
    assert!(world.refused(&["check"]).contains("1 valid"));
    world.in_rack(&["approve", "--key", "../ben"]);
    assert!(
        world
            .in_rack(&["check"])
            .contains("trays would accept this")
    );
    let pushed = run(&mut world.git("server.git", &["for-each-ref", "refs/racklet/approvals/"]));
    assert_eq!(pushed.lines().count(), 2, "{pushed}");
    // Another clone sees them after `git fetch`.
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
    run(&mut world.git(".", &["clone", "-q", "server.git", "clone"]));
    run(&mut world.racklet_in(
        "clone",
        &["rack", "setup", "--key", "../ben", "--root", &world.root()],
    ));
    run(&mut world.git("clone", &["fetch", "-q"]));
    run(&mut world.racklet_in("clone", &["check"]));
}
