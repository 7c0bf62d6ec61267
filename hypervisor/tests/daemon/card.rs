// SPDX-License-Identifier: Apache-2.0
//! A card that fails under the daemon.

use crate::support::{Tray, workload};
use anyhow::Result;
use std::fs;

#[test]
fn a_card_that_keeps_nothing_does_not_keep_a_commit_from_being_applied() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let first = tray.push("one")?;
    tray.start()?;
    tray.converged(&first)?;
    // What is half written has this name, and now it cannot have it: as good as a card that takes no writes.
    fs::create_dir_all(tray.path("state/git/rack/head.tmp/in the way"))?;
    tray.workload("web", "[run]", "  env: { MESSAGE: two }\n")?;
    let second = tray.push("two")?;
    let state = tray.converged(&second)?;
    assert_eq!(workload(&state, "web")["current"], true);
    // Its floor is for this start only: on the card it would lead to no head.
    let told = tray.told.lock().expect("lock").clone();
    let raise = told.iter().rfind(|asked| asked["op"] == "raise");
    assert!(
        raise.is_some_and(|raise| raise["head"]["commit"] == *second && raise["inMemory"] == true),
        "{told:?}"
    );
    // And whoever asks is told how `init` says that the card is.
    tray.until("the state of the card is shown", |state| {
        let card = &state["state"];
        (card["readOnly"] == true && card["reason"] == "the card takes no writes").then_some(())
    })?;
    let said = "the head accepted is not kept on the card";
    assert!(tray.console().contains(said), "{}", tray.console());
    // A daemon that starts again finds the head before, and the repository has the newest.
    tray.kill()?;
    tray.start()?;
    tray.converged(&second)?;
    Ok(())
}
