// SPDX-License-Identifier: Apache-2.0
//! The rack repository, from the real Git over real HTTPS to files that may be parsed.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use racklet_fetch::{
    disk::Files,
    limits::Limits,
    progress::Silent,
    rack::{self, Fetched, Kept, Outcome, RackStore, RackTree},
};
use racklet_trust::floors::Floors;
use support::{git::Place, server::Server, world::World};

const LIMITS: &Limits = &Limits::RACK;

fn fetch(server: &Server, before: Option<&RackTree>) -> Box<Fetched> {
    let outcome = rack::fetch(
        &mut server.remote("rack"),
        "refs/heads/main",
        before.map(RackTree::snapshot),
        LIMITS,
        &mut Silent,
    )
    .unwrap();
    match outcome {
        Outcome::New(fetched) => fetched,
        Outcome::Unchanged => panic!("unchanged"),
    }
}

#[test]
fn a_signed_head_is_followed_on_first_boot() {
    for format in ["sha1", "sha256"] {
        let World {
            place,
            repository,
            server,
            ..
        } = World::rack(format);
        let tree = fetch(&server, None)
            .verify(&place.first_boot(&["config"]))
            .unwrap();
        assert_eq!(tree.head().id.to_string(), repository.head());
        assert_eq!(tree.file("rack.yaml"), Some(&b"kind: Rack\n"[..]));
        assert_eq!(tree.files().unwrap().count(), 3);
    }
}

#[test]
fn an_edit_is_followed_by_fetching_what_is_new() {
    for format in ["sha1", "sha256"] {
        let World {
            place,
            repository,
            server,
            ..
        } = World::rack(format);
        // Incompressible, so that bytes on the wire tell.
        let ballast: String = (0u64..20_000)
            .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        repository.write("ballast", &ballast);
        repository.commit(&place.key("config"));
        repository.push();
        let first = fetch(&server, None)
            .verify(&place.first_boot(&["config"]))
            .unwrap();
        for n in 0..3 {
            repository.write("ballast", format!("{ballast}{n}"));
            repository.commit(&place.key("config"));
        }
        repository.push();
        let mut remote = server.remote("rack");
        let Outcome::New(new) = rack::fetch(
            &mut remote,
            "refs/heads/main",
            Some(first.snapshot()),
            LIMITS,
            &mut Silent,
        )
        .unwrap() else {
            panic!("unchanged")
        };
        let second = new.verify(&first.accepted()).unwrap();
        assert_eq!(second.head().generation, first.head().generation + 3);
        assert_eq!(
            second.file("ballast"),
            Some(format!("{ballast}2").as_bytes())
        );
        assert!(remote.received() < 20_000, "{} bytes", remote.received());
    }
}

#[test]
fn an_unchanged_head_costs_two_small_requests() {
    let World {
        place,
        repository: _repository,
        server,
        ..
    } = World::rack("sha1");
    let tree = fetch(&server, None)
        .verify(&place.first_boot(&["config"]))
        .unwrap();
    server.log.lock().unwrap().clear();
    let outcome = rack::fetch(
        &mut server.remote("rack"),
        "refs/heads/main",
        Some(tree.snapshot()),
        LIMITS,
        &mut Silent,
    )
    .unwrap();
    assert!(matches!(outcome, Outcome::Unchanged));
    assert_eq!(server.log.lock().unwrap().len(), 2);
}

#[test]
fn the_kept_head_is_there_without_a_network() {
    let World {
        place,
        repository,
        server,
        ..
    } = World::rack("sha1");
    let tree = fetch(&server, None)
        .verify(&place.first_boot(&["config"]))
        .unwrap();
    let store = RackStore::new(Files, place.dir.path().join("state/git/rack"));
    assert!(
        store
            .reopen(
                Kept::Accepted,
                &place.baked(&["config"]),
                &Floors::default(),
                LIMITS
            )
            .unwrap()
            .is_none()
    );
    store.keep(Kept::Accepted, &tree).unwrap();
    let again = store
        .reopen(
            Kept::Accepted,
            &place.baked(&["config"]),
            &Floors::default(),
            LIMITS,
        )
        .unwrap()
        .unwrap();
    assert_eq!(
        (again.head().id, again.head().generation),
        (tree.head().id, tree.head().generation)
    );
    assert_eq!(
        again.files().unwrap().collect::<Vec<_>>(),
        tree.files().unwrap().collect::<Vec<_>>()
    );
    let error = store
        .reopen(
            Kept::Accepted,
            &place.baked(&["someone-else"]),
            &Floors::default(),
            LIMITS,
        )
        .unwrap_err();
    assert!(
        support::chain(&error).contains(&repository.head()),
        "{error}"
    );
}

/// The kept heads' generations: accepted, in force.
fn kept(
    place: &Place,
    store: &RackStore<Files>,
    floors: &Floors,
) -> [Result<Option<u64>, String>; 2] {
    let root = place.baked(&["config"]);
    let generation = |reopened: Result<Option<RackTree>, rack::ReopenError>| match reopened {
        Ok(tree) => Ok(tree.map(|tree| tree.head().generation)),
        Err(error) => Err(support::chain(&error)),
    };
    [
        generation(store.reopen(Kept::Accepted, &root, floors, LIMITS)),
        generation(store.reopen(Kept::InForce, &root, floors, LIMITS)),
    ]
}

#[test]
fn what_was_in_force_is_kept_beside_a_newer_head_and_is_where_a_lost_one_begins_again() {
    let World {
        place,
        repository,
        server,
        ..
    } = World::rack("sha256");
    let store = RackStore::new(Files, place.dir.path().join("state/git/rack"));
    let good = fetch(&server, None)
        .verify(&place.first_boot(&["config"]))
        .unwrap();
    store.keep(Kept::Accepted, &good).unwrap();
    store.keep(Kept::InForce, &good).unwrap();
    repository.write("rack.yaml", "kind: Typo\n");
    repository.commit(&place.key("config"));
    repository.push();
    let typo = fetch(&server, Some(&good))
        .verify(&good.accepted())
        .unwrap();
    store.keep(Kept::Accepted, &typo).unwrap();
    let floors = typo.head().floors();
    assert_eq!(kept(&place, &store, &floors), [Ok(Some(2)), Ok(Some(1))]);

    // The accepted head is lost: it is reached again from the one in force, by descent.
    std::fs::remove_file(place.dir.path().join("state/git/rack/head")).unwrap();
    let base = store
        .reopen(Kept::InForce, &place.baked(&["config"]), &floors, LIMITS)
        .unwrap()
        .unwrap();
    let again = fetch(&server, Some(&base))
        .verify(&base.accepted())
        .unwrap();
    assert_eq!(again.head().id, typo.head().id);
}
