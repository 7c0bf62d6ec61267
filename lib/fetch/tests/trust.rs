// SPDX-License-Identifier: Apache-2.0
//! Heads that must not be followed, made with the real Git and fetched over the real protocol. Each is refused with the commit and
//! the rule, and a good head afterwards is followed.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::process::Command;

use racklet_fetch::{
    disk::Files,
    limits::Limits,
    progress::Silent,
    rack::{self, FetchError, Kept, Outcome, RackTree, Rejected},
};
use racklet_trust::{TrustRoot, commit::ObjectId, digest::Hex, floors::Floors, history};
use support::{
    chain,
    git::{Key, Place, Repository},
    server::Server,
};

struct World {
    place: Place,
    repository: Repository,
    server: Server,
    /// Followed on first boot.
    tree: RackTree,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let repository = place.repository("rack", "sha1");
        repository.write_root(&place.trust_root(1, &["config"]), &[&place.key("root")]);
        repository.commit(&place.key("config"));
        repository.push();
        let server = Server::start(place.served());
        let Outcome::New(fetched) = rack::fetch(
            &mut server.remote("rack"),
            "refs/heads/main",
            None,
            &Limits::RACK,
            &mut Silent,
        )
        .unwrap() else {
            panic!("unchanged")
        };
        let tree = fetched.verify(&place.first_boot(&["config"])).unwrap();
        Self {
            place,
            repository,
            server,
            tree,
        }
    }

    fn key(&self, name: &str) -> Key {
        self.place.key(name)
    }

    /// Pushes what the working copy's HEAD is and asks whether it is followed.
    fn judge(&self) -> Result<RackTree, Rejected> {
        self.repository.push();
        match rack::fetch(
            &mut self.server.remote("rack"),
            "refs/heads/main",
            Some(self.tree.snapshot()),
            &Limits::RACK,
            &mut Silent,
        )
        .unwrap()
        {
            Outcome::New(fetched) => fetched.verify(&self.tree.accepted()),
            Outcome::Unchanged => Ok(self.tree.clone()),
        }
    }

    /// Pushes the object that `id` names as `name`.
    fn put_ref(&self, name: &str, id: &str) {
        let refspec = format!("{id}:{name}");
        self.repository.git(&["push", "-q", "origin", &refspec]);
    }

    /// Makes `count` refs below `folder` on the server.
    fn put_junk(&self, folder: &str, count: usize) {
        let bare = self.repository.bare.to_str().unwrap();
        self.repository.write("../junk", "junk");
        let blob = self.repository.git(&["hash-object", "-w", "../junk"]);
        self.put_ref(&format!("{folder}/junk"), &blob);
        let lines: String = (0..count)
            .map(|n| format!("create {folder}/{n:016x} {blob}\n"))
            .collect();
        self.repository.write("../lines", lines);
        let run = Command::new("git")
            .args(["-C", bare, "update-ref", "--stdin"])
            .stdin(std::fs::File::open(self.repository.work.join("../lines")).unwrap())
            .status()
            .unwrap();
        assert!(run.success());
    }

    /// HEAD is refused, with `reason` in the words and as `rule`; after going back, a good commit is followed.
    fn refused(&self, reason: &str, rule: impl Fn(&history::Rejected<rack::TreeError>) -> bool) {
        let error = self.judge().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(
            matches!(&error, Rejected::History(history) if rule(history)),
            "{error:?}"
        );
        self.good_commit_is_followed();
    }

    fn good_commit_is_followed(&self) {
        self.repository
            .git(&["reset", "-q", "--hard", &self.tree.head().id.to_string()]);
        self.repository.write("good.yaml", "good");
        let good = self.repository.commit(&self.key("config"));
        assert_eq!(self.judge().unwrap().head().id.to_string(), good);
    }

    /// Makes a commit object by hand on top of HEAD: `headers` makes the lines behind the committer's from what is to be signed.
    fn raw_commit(&self, headers: impl Fn(&[u8]) -> String) -> String {
        let repository = &self.repository;
        repository.git(&["add", "-A"]);
        let (tree, parent) = (repository.git(&["write-tree"]), repository.head());
        let person = "Tester <tester@example.org> 1785000000 +0000";
        let top = format!("tree {tree}\nparent {parent}\nauthor {person}\ncommitter {person}\n");
        let headers = headers(format!("{top}\nraw\n").as_bytes());
        repository.write("../raw", format!("{top}{headers}\nraw\n"));
        let id = repository.git(&["hash-object", "-t", "commit", "-w", "../raw"]);
        repository.git(&["reset", "-q", "--hard", &id]);
        id
    }
}

/// A signature as a header of a commit.
fn gpgsig(armored: &[u8]) -> String {
    let text = String::from_utf8(armored.to_vec()).unwrap();
    format!("gpgsig {}\n", text.trim_end().replace('\n', "\n "))
}

fn unauthorised(error: &history::Rejected<rack::TreeError>) -> bool {
    matches!(error, history::Rejected::Unauthorised { .. })
}

#[test]
fn a_hand_made_commit_with_a_good_signature_is_followed() {
    let world = World::new();
    let id = world.raw_commit(|signed| gpgsig(&world.key("config").sign("git", signed)));
    assert_eq!(world.judge().unwrap().head().id.to_string(), id);
}

#[test]
fn an_unsigned_commit_is_refused() {
    let world = World::new();
    let id = world.repository.commit_unsigned();
    world.refused(&id, unauthorised);
}

#[test]
fn an_unsigned_commit_below_a_signed_head_is_refused() {
    let world = World::new();
    let id = world.repository.commit_unsigned();
    world.repository.commit(&world.key("config"));
    world.refused(&id, unauthorised);
}

#[test]
fn a_commit_by_a_key_of_another_role_is_refused() {
    let world = World::new();
    let id = world.repository.commit(&world.key("payload"));
    world.refused(&id, unauthorised);
}

#[test]
fn a_signature_for_another_purpose_is_refused() {
    let world = World::new();
    let id = world.raw_commit(|signed| gpgsig(&world.key("config").sign("file", signed)));
    world.refused(&id, unauthorised);
}

#[test]
fn a_signature_of_another_commit_is_refused() {
    let world = World::new();
    let id = world.raw_commit(|_| gpgsig(&world.key("config").sign("git", b"another commit")));
    world.refused(&id, unauthorised);
}

#[test]
fn a_doubled_signature_is_refused() {
    let world = World::new();
    let id = world.raw_commit(|signed| gpgsig(&world.key("config").sign("git", signed)).repeat(2));
    world.refused(&id, |error| {
        matches!(error, history::Rejected::Commit { .. })
    });
}

#[test]
fn a_force_push_is_refused() {
    let world = World::new();
    world
        .repository
        .git(&["checkout", "-q", "--orphan", "other"]);
    world.repository.write("other.yaml", "other");
    world.repository.commit(&world.key("config"));
    world.refused("does not descend", |error| {
        matches!(error, history::Rejected::NotDescendant { .. })
    });
}

#[test]
fn an_old_signed_head_is_refused() {
    let mut world = World::new();
    let old = world.repository.head();
    world.repository.commit(&world.key("config"));
    world.tree = world.judge().unwrap();
    world.repository.git(&["reset", "-q", "--hard", &old]);
    world.refused("does not descend", |error| {
        matches!(error, history::Rejected::NotDescendant { .. })
    });
}

#[test]
fn a_commit_of_another_rack_is_refused() {
    let world = World::new();
    let other = TrustRoot::new(
        Hex([8; 16]),
        1,
        world.place.roles("root", &["config"], "payload"),
    )
    .unwrap();
    world.repository.write_root(&other, &[&world.key("root")]);
    let id = world.repository.commit(&world.key("config"));
    world.refused(&id, |error| {
        matches!(error, history::Rejected::RootChanged { .. })
    });
}

#[test]
fn a_rotated_root_is_followed_and_a_removed_key_is_not_any_more() {
    let mut world = World::new();
    let root = world.key("root");
    world
        .repository
        .write_root(&world.place.trust_root(2, &["second"]), &[&root]);
    world.repository.commit(&world.key("config"));
    world
        .repository
        .write_root(&world.place.trust_root(3, &["third"]), &[&root]);
    world.repository.commit(&world.key("second"));
    world.tree = world.judge().unwrap();
    assert_eq!(world.tree.head().root.version(), 3);
    // A tray that was off all the time, with version 1 baked in, comes to the same.
    let Outcome::New(fetched) = rack::fetch(
        &mut world.server.remote("rack"),
        "refs/heads/main",
        None,
        &Limits::RACK,
        &mut Silent,
    )
    .unwrap() else {
        panic!("unchanged")
    };
    assert_eq!(
        fetched
            .verify(&world.place.first_boot(&["config"]))
            .unwrap()
            .head()
            .root
            .version(),
        3
    );
    for removed in ["config", "second"] {
        let id = world.repository.commit(&world.key(removed));
        let error = world.judge().unwrap_err();
        assert!(error.to_string().contains(&id), "{error}");
        world
            .repository
            .git(&["reset", "-q", "--hard", &world.tree.head().id.to_string()]);
    }
}

#[test]
fn a_commit_cannot_authorise_its_own_key() {
    let world = World::new();
    let mallory = world.key("mallory");
    world
        .repository
        .write_root(&world.place.trust_root(2, &["mallory"]), &[&mallory]);
    let id = world.repository.commit(&mallory);
    world.refused(&id, unauthorised);
}

#[test]
fn a_root_that_root_keys_did_not_sign_is_refused() {
    let world = World::new();
    world.repository.write_root(
        &world.place.trust_root(2, &["config"]),
        &[&world.key("config")],
    );
    let id = world.repository.commit(&world.key("config"));
    world.refused(&id, |error| {
        matches!(error, history::Rejected::Root { version: 2, .. })
    });
}

#[test]
fn a_merge_of_unsigned_work_is_refused() {
    let world = World::new();
    world.repository.git(&["checkout", "-q", "-b", "side"]);
    world.repository.write("side.yaml", "side");
    let id = world.repository.commit_unsigned();
    world.repository.git(&["checkout", "-q", "main"]);
    world.repository.write("main.yaml", "main");
    world.repository.commit(&world.key("config"));
    let key = format!("user.signingkey={}", world.key("config").path.display());
    world
        .repository
        .git(&["-c", &key, "merge", "-q", "-S", "-m", "merge", "side"]);
    world.refused(&id, unauthorised);
}

#[test]
fn links_submodules_and_hidden_names_are_refused_even_when_signed() {
    let world = World::new();
    let repository = &world.repository;
    let blob = repository.git(&["hash-object", "-w", "trust/1/root.json"]);
    let (accepted, commit) = (world.tree.head().id.to_string(), repository.head());
    for (mode, object, path, words) in [
        ("120000", &blob, "link", "symbolic link"),
        ("160000", &commit, "module", "submodule"),
    ] {
        repository.git(&[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("{mode},{object},{path}"),
        ]);
        let key = format!("user.signingkey={}", world.key("config").path.display());
        repository.git(&["-c", &key, "commit", "-q", "-S", "-m", "odd"]);
        // History has nothing against it, but nobody gets such files to read.
        let tree = world.judge().unwrap();
        let error = chain(&tree.files().map(drop).unwrap_err());
        assert!(error.contains(words) && error.contains(path), "{error}");
        assert_eq!(tree.file("trust/1/root.json"), None);
        // Taken back by the next commit, it is forgotten.
        repository.git(&["rm", "-q", "--cached", path]);
        let good = repository.commit(&world.key("config"));
        assert_eq!(world.judge().unwrap().head().id.to_string(), good);
        assert!(world.judge().unwrap().file("trust/1/root.json").is_some());
        repository.git(&["reset", "-q", "--hard", &accepted]);
    }
    world.good_commit_is_followed();
}

#[test]
fn a_branch_that_points_to_a_tag_is_no_head() {
    let world = World::new();
    world.repository.commit(&world.key("config"));
    let key = format!("user.signingkey={}", world.key("config").path.display());
    world
        .repository
        .git(&["-c", &key, "tag", "-s", "-m", "renamed", "main-tag"]);
    world.repository.git(&["push", "-q", "origin", "main-tag"]);
    let tag = world.repository.git(&["rev-parse", "main-tag"]);
    // Git itself refuses to make such a branch: write the file.
    std::fs::write(
        world.repository.bare.join("refs/heads/main"),
        format!("{tag}\n"),
    )
    .unwrap();
    let Outcome::New(fetched) = rack::fetch(
        &mut world.server.remote("rack"),
        "refs/heads/main",
        Some(world.tree.snapshot()),
        &Limits::RACK,
        &mut Silent,
    )
    .unwrap() else {
        panic!("unchanged")
    };
    let error = chain(&fetched.verify(&world.tree.accepted()).unwrap_err());
    assert!(error.contains("is a tag, not a commit"), "{error}");
}

/// A working copy, read by `git cat-file`.
struct Clone<'a>(&'a Repository);

impl rack::LocalObjects for Clone<'_> {
    fn object(&self, id: &ObjectId) -> std::io::Result<Option<(String, Vec<u8>)>> {
        let git = |args: &[&str]| {
            Command::new("git")
                .arg("-C")
                .arg(&self.0.work)
                .args(args)
                .output()
        };
        let kind = git(&["cat-file", "-t", &id.to_string()])?;
        if !kind.status.success() {
            return Ok(None);
        }
        let kind = String::from_utf8(kind.stdout).unwrap().trim().to_owned();
        let contents = git(&["cat-file", &kind, &id.to_string()])?.stdout;
        Ok(Some((kind, contents)))
    }

    fn approvals(&self, _: &ObjectId) -> std::io::Result<Vec<Vec<u8>>> {
        Ok(vec![])
    }
}

#[test]
fn a_clone_is_judged_as_a_tray_would_without_a_server() {
    let world = World::new();
    let check = |id: &str| {
        rack::check_local(
            &Clone(&world.repository),
            &ObjectId::from_hex(id).unwrap(),
            &world.tree.accepted(),
            &Limits::RACK,
        )
    };
    world.repository.write("new.yaml", "new");
    let good = world.repository.commit(&world.key("config"));
    let tree = check(&good).unwrap();
    assert_eq!(tree.file("new.yaml"), Some(&b"new"[..]));
    assert_eq!(world.judge().unwrap().head().id, tree.head().id);
    let bad = world.repository.commit_unsigned();
    let (here, there) = (check(&bad).unwrap_err(), world.judge().unwrap_err());
    assert_eq!(chain(&here), chain(&there));
}

#[test]
fn a_branch_that_is_gone_is_named() {
    let world = World::new();
    let outcome = rack::fetch(
        &mut world.server.remote("rack"),
        "refs/heads/mian",
        Some(world.tree.snapshot()),
        &Limits::RACK,
        &mut Silent,
    );
    assert!(
        matches!(outcome, Err(FetchError::NoBranch { branch, there })
        if branch == "refs/heads/mian" && there.as_deref() == Some("main"))
    );
}

#[test]
fn with_a_threshold_of_two_an_approval_makes_the_difference_whatever_lies_beside_it() {
    let mut world = World::new();
    let mut roles = world
        .place
        .roles("root", &["config", "second", "third", "fourth"], "payload");
    roles.config.threshold = 2;
    world.repository.write_root(
        &TrustRoot::new(Hex([7; 16]), 2, roles).unwrap(),
        &[&world.key("root")],
    );
    world.repository.commit(&world.key("config"));
    world.tree = world.judge().unwrap();
    let id = world.repository.commit(&world.key("config"));
    let error = world.judge().unwrap_err();
    assert!(error.to_string().contains(&id), "{error}");
    // Under the names of other keys: something large, and a whole commit. Under names of nobody: more than is ever listed.
    world.repository.write("../large", "x".repeat(1 << 20));
    let large = world.repository.git(&["hash-object", "-w", "../large"]);
    let key = |name: &str| world.key(name).public();
    world.put_ref(&rack::approval_ref(&id, &key("third")), &large);
    world.put_ref(&rack::approval_ref(&id, &key("fourth")), &id);
    world.put_junk(&format!("{}{id}", rack::APPROVALS), 1100);
    let raw = world.repository.git(&["cat-file", "commit", &id]) + "\n";
    let signed = racklet_trust::commit::Commit::parse(raw.as_bytes())
        .unwrap()
        .signed_bytes()
        .to_vec();
    // The same key twice is one key.
    for (signer, followed) in [("config", false), ("second", true)] {
        world.repository.write(
            "../approval",
            world.key(signer).sign("approval@racklet.dev", &signed),
        );
        let blob = world.repository.git(&["hash-object", "-w", "../approval"]);
        world.put_ref(&rack::approval_ref(&id, &key(signer)), &blob);
        assert_eq!(world.judge().is_ok(), followed, "{signer}");
    }
}

#[test]
fn nobody_asks_for_approvals_where_one_key_is_enough() {
    let world = World::new();
    let id = world.repository.commit(&world.key("config"));
    world.put_junk(&format!("{}{id}", rack::APPROVALS), 1100);
    assert_eq!(world.judge().unwrap().head().id.to_string(), id);
}

/// The same commit with a line more behind its signature, which nobody signed.
fn respelt(raw: &str) -> String {
    let end = " -----END SSH SIGNATURE-----\n";
    raw.replacen(end, &format!("{end} \n"), 1)
}

/// Trays once took every spelling of a signed commit, kept it, and raised their floors to its name. Such a tray needs no new card.
#[test]
fn a_tray_that_kept_a_respelt_head_comes_back_to_the_honest_one_and_to_what_follows() {
    let world = World::new();
    let folder = world.place.dir.path().join("state");
    let store = rack::RackStore::new(Files, &folder);
    store.keep(Kept::Accepted, &world.tree).unwrap();
    // What the tray kept then: another commit object, and its name as the head.
    let honest = world.repository.head();
    let raw = world.repository.git(&["cat-file", "commit", &honest]) + "\n";
    let other = respelt(&raw);
    world.repository.write("../respelt", &other);
    let args = [
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--literally",
        "../respelt",
    ];
    let id = ObjectId::from_hex(&world.repository.git(&args)).unwrap();
    assert_ne!(id, world.tree.head().id);
    let file = folder.join("head");
    let mut kept = std::fs::read(&file).unwrap();
    kept.truncate(kept.len() - 32);
    let object = |raw: &str| {
        [
            &u32::try_from(raw.len()).unwrap().to_le_bytes(),
            raw.as_bytes(),
        ]
        .concat()
    };
    let kept = replaced(&kept, world.tree.head().id.as_bytes(), id.as_bytes());
    let mut kept = replaced(&kept, &object(&raw), &object(&other));
    let digest = racklet_trust::Digest::of(&kept).0;
    kept.extend(digest);
    std::fs::write(&file, kept).unwrap();
    let head = world.tree.head();
    let floors = Floors {
        head: Some((id, head.generation)),
        ..head.floors()
    };

    let root = world.place.baked(&["config"]);
    let error = store
        .reopen(Kept::Accepted, &root, &floors, &Limits::RACK)
        .unwrap_err();
    assert!(chain(&error).contains("not spelt as"), "{}", chain(&error));
    // Nothing is at hand now but the floors.
    let accepted = history::Accepted::nothing(root, floors);
    let fetch = || match rack::fetch(
        &mut world.server.remote("rack"),
        "refs/heads/main",
        None,
        &Limits::RACK,
        &mut Silent,
    ) {
        Ok(Outcome::New(fetched)) => fetched,
        other => panic!("{other:?}"),
    };
    let tree = fetch().verify(&accepted).unwrap();
    assert_eq!(tree.head().id.to_string(), honest);
    // Kept, it is what later ones must follow, also after a restart.
    store.keep(Kept::Accepted, &tree).unwrap();
    let root = world.place.baked(&["config"]);
    let floors = tree.accepted().floors;
    let again = store
        .reopen(Kept::Accepted, &root, &floors, &Limits::RACK)
        .unwrap()
        .unwrap();
    assert_eq!(again.head().id, tree.head().id);
    // A tray that was off until the owner's next commit takes that.
    world.repository.write("next.yaml", "next");
    let next = world.repository.commit(&world.key("config"));
    world.repository.push();
    assert_eq!(
        fetch().verify(&accepted).unwrap().head().id.to_string(),
        next
    );
    // The respelt one is never taken again.
    world
        .repository
        .git(&["update-ref", "refs/heads/respelt", &id.to_string()]);
    world
        .repository
        .git(&["push", "-q", "--force", "origin", "respelt:main"]);
    assert!(fetch().verify(&accepted).is_err());
}

/// `bytes` with the first `from` in them replaced.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
