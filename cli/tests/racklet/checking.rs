// SPDX-License-Identifier: Apache-2.0
//! `racklet check` and `racklet plan`: what trays would say and do.

use std::process::Command;

use crate::world::{World, run};

#[test]
fn a_released_rack_is_accepted_and_everything_was_looked_at() {
    let world = World::with_rack();
    world.release();
    world.commit("release");
    let said = world.in_rack(&["check"]);
    for expected in [
        "payload stable version 1: signed and complete",
        "artifact web version 1: signed and complete",
        "2 commits signed",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let report = world.json(&["check"]);
    assert_eq!(
        (&report["ok"], &report["trustRoot"]),
        (&true.into(), &1.into())
    );
}

#[test]
fn git_is_asked_as_often_for_forty_workloads_as_for_one() {
    let world = World::with_rack();
    world.release();
    let web = world.read("rack/workloads/web.yaml");
    let (before, _) = web.split_once("  network:").unwrap();
    let asked = || {
        let trace = world.path("trace");
        let _ = std::fs::remove_file(&trace);
        run(world
            .racklet_in("rack", &["check"])
            .env("GIT_TRACE", &trace));
        let trace = world.read("trace");
        trace
            .lines()
            .filter(|line| line.contains("built-in: git"))
            .count()
    };
    world.commit("one");
    // The first look at a commit walks up to it.
    world.in_rack(&["check"]);
    let one = asked();
    for n in 0..40 {
        let text = before.replace("name: web", &format!("name: web-{n}"));
        // Half of them run the image that is here, half one that is not.
        let text = match n % 2 {
            0 => text.replace(&format!("artifact: web-{n}"), "artifact: web"),
            _ => {
                let (head, tail) = text.split_once("sha256:").unwrap();
                format!("{head}sha256:{}{}", "0".repeat(64), &tail[64..])
            }
        };
        world.write(&format!("rack/workloads/web-{n}.yaml"), text);
    }
    world.commit("forty");
    let report = world.json(&["check"]);
    assert_eq!(report["ok"], true, "{report}");
    assert!((1..30).contains(&one), "{one}");
    assert_eq!(asked(), one);
}

#[test]
fn mistakes_are_named_with_file_and_line_before_they_are_committed() {
    let world = World::with_rack();
    world.release();
    let good = world.read("rack/workloads/web.yaml");
    world.write(
        "rack/workloads/web.yaml",
        good.replace("memory:", "memroy:"),
    );
    let said = world.refused(&["check"]);
    assert!(
        said.contains(
            "workloads/web.yaml:14:3: spec: unknown field `memroy`; did you mean `memory`?"
        ),
        "{said}"
    );
    let out = world
        .racklet_in("rack", &["check", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["problems"][0]["line"]),
        (&false.into(), &14.into())
    );
    world.write("rack/workloads/web.yaml", good);
    world.in_rack(&["check"]);
}

#[test]
fn files_that_git_does_not_know_yet_are_named() {
    let world = World::with_rack();
    world.web(&world.artifact("artifact", b"x"));
    let said = "workloads/web.yaml is not in Git yet: git add workloads/web.yaml";
    assert!(world.in_rack(&["check"]).contains(said));
    assert!(world.in_rack(&["plan"]).contains(said));
    world.commit("web");
    assert!(!world.in_rack(&["check"]).contains("not in Git"));
}

#[test]
fn unsigned_and_wrongly_signed_commits_are_refused() {
    let world = World::with_rack();
    run(&mut world.git(
        "rack",
        &[
            "commit",
            "-q",
            "--no-gpg-sign",
            "--allow-empty",
            "-m",
            "unsigned",
        ],
    ));
    assert!(
        world
            .refused(&["check"])
            .contains("1 signature by config keys needed, 0 valid (not signed)")
    );
    run(&mut world.git("rack", &["reset", "-q", "--hard", "HEAD~1"]));
    let eve = world.keygen("eve");
    run(&mut world.git(
        "rack",
        &[
            "-c",
            &format!("user.signingkey={}", eve.display()),
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "eve",
        ],
    ));
    assert!(world.refused(&["check"]).contains("is not a config key"));
    // A good commit on top does not heal it.
    world.write("rack/README.md", "more");
    world.commit("good again");
    assert!(world.refused(&["check"]).contains("is not a config key"));
}

#[test]
fn a_rewritten_history_is_noticed() {
    let world = World::with_rack();
    world.write("rack/README.md", "pushed");
    world.commit("pushed");
    run(&mut world.git("rack", &["push", "-q", "-u", "origin", "main"]));
    run(&mut world.git("rack", &["reset", "-q", "--hard", "HEAD~1"]));
    world.write("rack/README.md", "rewritten");
    world.commit("rewritten");
    assert!(world.refused(&["check"]).contains("does not descend from"));
}

#[test]
fn replace_refs_show_us_nothing_else_than_trays_get() {
    let world = World::with_rack();
    let eve = world.keygen("eve");
    run(&mut world.git(
        "rack",
        &[
            "-c",
            &format!("user.signingkey={}", eve.display()),
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "eve",
        ],
    ));
    run(&mut world.git("rack", &["replace", "HEAD", "HEAD~1"]));
    assert!(world.refused(&["check"]).contains("is not a config key"));
}

#[test]
fn what_no_tray_takes_from_a_tree_is_refused() {
    let world = World::with_rack();
    std::os::unix::fs::symlink("/etc/passwd", world.path("rack/link")).unwrap();
    world.commit("link");
    assert!(
        world
            .refused(&["check"])
            .contains("link is a symbolic link; only plain files and folders are taken")
    );
    run(&mut world.git("rack", &["rm", "-q", "link"]));
    world.write("rack/notes.txt", "a");
    world.write("rack/NOTES.txt", "b");
    world.commit("one name on some disks");
    let said = world.refused(&["check"]);
    assert!(said.contains("two entries \"notes.txt\""), "{said}");
}

#[test]
fn a_workload_on_a_board_that_runs_no_microvms_is_refused_with_the_reason() {
    let world = World::with_rack();
    world.release();
    let tray = world.read("rack/trays/tray-1.yaml");
    let on = |board: &str| {
        world.write("rack/trays/tray-1.yaml", tray.replace("qemu-x86_64", board));
        world.refused(&["check"])
    };
    let reason = "workloads/web.yaml: tray-1 is a raspberry-pi-3b-plus, which runs no microVMs: a Raspberry Pi 3 has no interrupt controller for guests";
    let said = on("raspberry-pi-3b-plus");
    assert!(said.contains(reason), "{said}");
    // It is this board that lacks one; the other refusal is the payload's architecture.
    let said = on("raspberry-pi-4b");
    assert!(
        !said.contains("microVMs") && said.contains("x86_64"),
        "{said}"
    );
}

#[test]
fn another_racks_id_is_refused() {
    let world = World::with_rack();
    let id = world.json(&["trust", "show"])["rack"]
        .as_str()
        .unwrap()
        .to_owned();
    world.write(
        "rack/rack.yaml",
        world.read("rack/rack.yaml").replace(&id, &"0".repeat(32)),
    );
    assert!(
        world
            .refused(&["check"])
            .contains(&format!("spec.id is not {id}"))
    );
}

#[test]
fn a_published_payload_that_was_tampered_with_is_refused() {
    let world = World::with_rack();
    world.release();
    world.commit("release");
    world.in_rack(&["check"]);
    // The branch as an attacker with access to the server would leave it: one chunk with other bytes.
    run(&mut world.git(
        "rack",
        &["worktree", "add", "-q", "../stable", "payload/stable"],
    ));
    let script = "f=$(find chunks -type f | head -n1) && printf x >> $f && git commit -q -a --no-gpg-sign -m evil && git push -q -f origin HEAD:payload/stable HEAD:$1 && git update-ref $1 HEAD";
    let digest = world.read("rack/releases/stable.yaml");
    let digest = digest.split("sha256:").nth(1).unwrap().trim().to_owned();
    run(Command::new("sh")
        .args([
            "-c",
            script,
            "sh",
            &format!("refs/racklet/manifests/{digest}"),
        ])
        .current_dir(world.path("stable"))
        .env("HOME", world.path("home")));
    let said = world.refused(&["check"]);
    assert!(
        said.contains("releases/stable.yaml: payload stable: chunk"),
        "{said}"
    );
}

#[test]
fn a_payload_signed_by_the_wrong_role_is_refused() {
    let world = World::with_rack();
    world.keygen("eve");
    world.release();
    world.commit("release");
    // From now on other keys sign payloads; the published one does not count any more.
    world.in_rack(&[
        "trust",
        "rotate",
        "--add",
        "payload=../eve.pub",
        "--threshold",
        "payload=2",
    ]);
    let said = world.refused(&["check"]);
    assert!(
        said.contains("2 signatures by payload keys needed, 1 valid"),
        "{said}"
    );
}

#[test]
fn an_older_pin_is_as_good_as_the_newest_so_that_a_revert_rolls_back() {
    let world = World::with_rack();
    world.release();
    world.commit("version 1");
    world.build("payload", "payload", 2);
    for verb in ["sign", "publish"] {
        world.in_rack(&["payload", verb, "../payload"]);
    }
    // Published and not pinned yet: the branch has moved on, and what is pinned is where it was.
    let good = "payload stable version 1: signed and complete";
    assert!(world.in_rack(&["check", "HEAD"]).contains(good));
    world.in_rack(&["payload", "pin", "../payload"]);
    world.commit("version 2");
    assert!(
        world
            .in_rack(&["check"])
            .contains("payload stable version 2: signed")
    );
    run(&mut world.git("rack", &["revert", "--no-edit", "HEAD"]));
    assert!(world.in_rack(&["check"]).contains(good));
    // Another clone gets what is pinned, and none of the branches with everything that was ever published.
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
    run(&mut world.git(".", &["clone", "-q", "server.git", "clone"]));
    run(&mut world.racklet_in("clone", &["rack", "setup", "--root", &world.root()]));
    assert!(run(&mut world.racklet_in("clone", &["check"])).contains(good));
    run(&mut world.git("clone", &["fetch", "-q"]));
    let branches = run(&mut world.git("clone", &["branch", "-r"]));
    assert!(
        !branches.contains("payload/") && !branches.contains("artifact/"),
        "{branches}"
    );
}

#[test]
fn a_pin_that_is_not_here_is_said_and_one_that_was_not_pushed_is_refused() {
    let world = World::with_rack();
    world.release();
    world.build("payload", "payload", 2);
    world.in_rack(&["payload", "sign", "../payload"]);
    world.in_rack(&["payload", "pin", "../payload"]);
    let said = world.in_rack(&["check"]);
    assert!(
        said.contains("not checked") && said.contains("git fetch origin refs/racklet/manifests/"),
        "{said}"
    );
    world.in_rack(&["payload", "publish", "--no-push", "../payload"]);
    let said = world.refused(&["check"]);
    assert!(said.contains("in this clone only"), "{said}");
    world.in_rack(&["payload", "publish", "../payload"]);
    world.in_rack(&["check"]);
}

#[test]
fn a_bootstrap_is_published_pinned_checked_and_planned_beside_the_payload() {
    let world = World::with_rack();
    world.build("bootstrap", "bootstrap", 1);
    world.in_rack(&["bootstrap", "sign", "../bootstrap"]);
    let said = world.refused(&["bootstrap", "pin", "../bootstrap"]);
    assert!(said.contains("pin a payload first"), "{said}");
    world.release();
    world.commit("release");
    run(&mut world.git("rack", &["push", "-q", "-u", "origin", "main"]));
    let mut pins = Vec::new();
    for version in [1, 2] {
        let built = world.build("bootstrap", "bootstrap", version);
        for verb in ["sign", "publish", "pin"] {
            world.in_rack(&["bootstrap", verb, "../bootstrap"]);
        }
        pins.push(built["manifest"].as_str().unwrap().to_owned());
        let release = world.read("rack/releases/stable.yaml");
        assert_eq!(release.matches("  bootstrap:\n").count(), 1, "{release}");
        let good = format!("bootstrap stable version {version}: signed and complete");
        let said = world.in_rack(&["check"]);
        assert!(
            said.contains(&good) && said.contains("payload stable"),
            "{said}"
        );
        assert!(world.in_rack(&["plan"]).contains("  + release bootstrap"));
    }
    world.commit("bootstrap 2");
    run(&mut world.git("rack", &["push", "-q"]));
    // What trays that have run version 2 refuse is said before they do.
    let release = world.read("rack/releases/stable.yaml");
    world.write(
        "rack/releases/stable.yaml",
        release.replace(&pins[1], &pins[0]),
    );
    let said = world.in_rack(&["check"]);
    assert!(
        said.contains("version 1: trays that have run version 2, which is published, refuse it"),
        "{said}"
    );
    let said = world.in_rack(&["plan"]);
    assert!(said.contains("~ release bootstrap: manifest"), "{said}");
}

#[test]
fn a_release_that_a_person_wrote_otherwise_is_left_as_it_is_and_told_what_to_write() {
    let world = World::with_rack();
    world.release();
    let release = world.read("rack/releases/stable.yaml");
    world.build("bootstrap", "bootstrap", 1);
    world.in_rack(&["bootstrap", "sign", "../bootstrap"]);
    let (before, spec) = release.split_once("spec:\n").unwrap();
    let reordered = format!("spec:\n{spec}{before}");
    world.write("rack/releases/stable.yaml", &reordered);
    let said = world.refused(&["bootstrap", "pin", "../bootstrap"]);
    assert!(said.contains("write this into the `spec` of"), "{said}");
    assert_eq!(world.read("rack/releases/stable.yaml"), reordered);
}

#[test]
fn the_plan_names_what_changes_where() {
    let world = World::with_rack();
    world.release();
    world.commit("release");
    run(&mut world.git("rack", &["push", "-q", "-u", "origin", "main"]));
    let said = world.in_rack(&["plan"]);
    assert!(
        said.contains("tray-1\n  + release payload\n  + network lan\n  + workload web"),
        "{said}"
    );
    let web = world.read("rack/workloads/web.yaml");
    world.write("rack/workloads/web.yaml", web.replace("cpus: 1", "cpus: 2"));
    let plan = world.json(&["plan"]);
    let change = &plan["trays"][0]["changes"][0];
    assert_eq!(
        (
            &change["name"],
            &change["fields"][0]["field"],
            &change["fields"][0]["to"]
        ),
        (&"web".into(), &"cpus".into(), &2.into())
    );
    world.write("rack/workloads/web.yaml", web);
    std::fs::remove_file(world.path("rack/workloads/web.yaml")).unwrap();
    assert!(world.in_rack(&["plan"]).contains("- workload web"));
}

#[test]
fn outside_of_a_rack_the_way_to_one_is_shown() {
    let world = World::new();
    let out = world.racklet_in(".", &["check"]).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("racklet rack init"));
}

#[test]
fn completions_and_manual_pages_come_out() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ok(&["completion", shell]).contains("racklet"));
    }
    world.ok(&["man", "man"]);
    assert!(
        world
            .read("man/racklet-artifact-build.1")
            .contains("tar archive")
    );
    assert!(world.read("man/racklet.1").contains(".TH racklet 1"));
}

#[test]
fn a_shallow_clone_says_how_little_was_checked() {
    let world = World::with_rack();
    world.write("rack/README.md", "more");
    world.commit("more");
    run(&mut world.git("rack", &["push", "-q", "-u", "origin", "main"]));
    let from = format!("file://{}", world.path("server.git").display());
    run(&mut world.git(".", &["clone", "-q", "--depth=1", &from, "shallow"]));
    let said = run(&mut world.racklet_in("shallow", &["check", "--root", &world.root()]));
    assert!(
        said.contains("only the newest commit was checked"),
        "{said}"
    );
}

#[test]
fn editors_get_a_schema_of_every_kind() {
    let world = World::new();
    world.ok(&["schema", "-o", "schema"]);
    for kind in ["rack", "tray", "release", "network", "microvm"] {
        let schema: serde_json::Value =
            serde_json::from_str(&world.read(&format!("schema/{kind}.json"))).unwrap();
        assert!(schema["properties"]["spec"].is_object(), "{kind}");
    }
}
