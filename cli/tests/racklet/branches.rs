// SPDX-License-Identifier: Apache-2.0
//! Servers that take nothing but branches and tags: what must stay to be found is found there, too.

use std::process::Command;

use crate::world::{World, run, text};

const PUBLISH: [&str; 3] = ["payload", "publish", "../payload"];

/// From now on the server refuses refs that begin like this, one by one, as hosts do.
fn refuse(world: &World, pattern: &str) {
    let hook = format!(
        "#!/bin/sh\ncase \"$1\" in {pattern}) echo branches and tags only >&2; exit 1;; esac\n"
    );
    let hook = world.write("server.git/hooks/update", hook);
    run(Command::new("chmod").arg("+x").arg(&hook));
}

fn refs(world: &World, below: &str) -> Vec<String> {
    let args = ["for-each-ref", "--format=%(refname)", below];
    let listed = run(&mut world.git("server.git", &args));
    listed.lines().map(str::to_owned).collect()
}

fn build(world: &World, version: u64) {
    world.build("payload", "payload", version);
    world.in_rack(&["payload", "sign", "../payload"]);
}

#[test]
fn an_older_version_stays_to_be_found_on_a_server_that_takes_nothing_but_branches() {
    let world = World::with_rack();
    refuse(&world, "refs/racklet/*");
    world.release();
    world.commit("version 1");
    build(&world, 2);
    let said = world.racklet_in("rack", &PUBLISH).output().unwrap();
    assert!(said.status.success());
    let said = text(&said.stderr);
    assert!(
        said.contains("it stays as refs/heads/racklet/manifests/"),
        "{said}"
    );
    assert_eq!(refs(&world, "refs/racklet/"), [""; 0]);
    assert_eq!(refs(&world, "refs/heads/racklet/manifests/").len(), 3);
    // There is nothing left to do, and that is true.
    assert!(world.in_rack(&PUBLISH).contains("was published already"));
    let good = "payload stable version 1: signed and complete";
    assert!(world.in_rack(&["check"]).contains(good));
    // Another clone gets what is pinned, and none of the branches with everything that was ever published.
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
    run(&mut world.git(".", &["clone", "-q", "server.git", "clone"]));
    run(&mut world.racklet_in("clone", &["rack", "setup", "--root", &world.root()]));
    assert!(run(&mut world.racklet_in("clone", &["check"])).contains(good));
    run(&mut world.git("clone", &["fetch", "-q"]));
    let branches = run(&mut world.git("clone", &["branch", "-r"]));
    assert!(!branches.contains("manifests"), "{branches}");
}

#[test]
fn what_must_stay_is_pushed_before_the_branch_and_whenever_the_server_lacks_it() {
    let world = World::with_rack();
    build(&world, 1);
    refuse(&world, "refs/racklet/*|refs/heads/racklet/*");
    let said = world.refused(&PUBLISH);
    assert!(
        said.contains("takes neither refs/racklet/manifests/"),
        "{said}"
    );
    assert_eq!(
        refs(&world, "refs"),
        [""; 0],
        "a branch whose package cannot stay"
    );
    // The branch is refused, and what a rack may pin is there.
    refuse(&world, "refs/heads/*");
    let said = world.refused(&PUBLISH);
    assert!(
        said.contains("refs/heads/payload/stable is refused"),
        "{said}"
    );
    assert_eq!(refs(&world, "refs").len(), 1);
    refuse(&world, "nothing");
    assert!(world.in_rack(&PUBLISH).contains("is published"));
    let all = refs(&world, "refs");
    assert_eq!(all.len(), 2, "{all:?}");
    // Somebody tidied up.
    let lost = refs(&world, "refs/racklet/manifests/");
    run(&mut world.git("server.git", &["update-ref", "-d", &lost[0]]));
    assert!(world.in_rack(&PUBLISH).contains("is published"));
    assert_eq!(refs(&world, "refs"), all);
    assert!(world.in_rack(&PUBLISH).contains("was published already"));
}

#[test]
fn approvals_on_a_server_that_takes_nothing_but_branches_count_in_every_clone() {
    let world = World::with_two_keys();
    refuse(&world, "refs/racklet/*");
    run(&mut world.git("rack", &["push", "-q", "origin", "main"]));
    let approved = world.json(&["approve", "--key", "../ben"]);
    let branch = approved["ref"].as_str().unwrap();
    assert!(
        branch.starts_with("refs/heads/racklet/approvals/"),
        "{branch}"
    );
    assert_eq!(refs(&world, "refs/heads/racklet/"), [branch]);
    world.in_rack(&["check"]);
    // Another clone has them after `git fetch`, whichever branches it follows.
    for more in [&[][..], &["--single-branch"]] {
        let clone = [&["clone", "-q"], more, &["server.git", "clone"]].concat();
        run(&mut world.git(".", &clone));
        let setup = ["rack", "setup", "--key", "../ben", "--root", &world.root()];
        run(&mut world.racklet_in("clone", &setup));
        run(&mut world.racklet_in("clone", &["check"]));
        std::fs::remove_dir_all(world.path("clone")).unwrap();
    }
}

#[test]
fn an_approval_under_the_name_of_another_key_counts_neither_here_nor_on_trays() {
    let world = World::with_two_keys();
    let approved = world.json(&["approve", "--key", "../ben", "--no-push"]);
    let name = approved["ref"].as_str().unwrap().to_owned();
    let other = format!("{}0", &name[..name.len() - 1]);
    let other = if other == name {
        format!("{}1", &name[..name.len() - 1])
    } else {
        other
    };
    run(&mut world.git("rack", &["update-ref", &other, &name]));
    run(&mut world.git("rack", &["update-ref", "-d", &name]));
    let said = world.refused(&["check"]);
    assert!(
        said.contains("2 signatures by config keys needed, 1 valid"),
        "{said}"
    );
    run(&mut world.git("rack", &["update-ref", &name, &other]));
    world.in_rack(&["check"]);
}
