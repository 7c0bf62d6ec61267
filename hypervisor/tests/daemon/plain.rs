// SPDX-License-Identifier: Apache-2.0
//! Plain files beside the rack repository.

use crate::support::{BOUND, Tray};
use anyhow::{Context, Result};
use racklet_tests::until::until;
use serde_json::json;
use std::fs;

const BRANCH: &str = "refs/heads/main";

/// How often the server was asked for the plain file of the branch, and how often for anything of Git's.
fn asked(tray: &Tray) -> Result<(usize, usize)> {
    let log = fs::read_to_string(tray.server.logs().join("nginx-access.log"))?;
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    Ok((
        count(&format!("GET /static/rack/{BRANCH} ")),
        count("git-upload-pack"),
    ))
}

#[test]
fn looks_cost_no_git_while_a_plain_file_names_the_head_in_force_and_news_is_heard_all_the_same()
-> Result<()> {
    let mut tray = Tray::new()?;
    let (folder, url) = tray.server.plain("rack");
    let file = folder.join(BRANCH);
    fs::create_dir_all(file.parent().context("a folder")?)?;
    let repository = json!({
        "url": tray.server.url("rack"), "static": url,
        "ca": fs::read_to_string(tray.server.authority())?,
    });
    tray.hand_over_value("tray.json", "/repository", repository)?;
    tray.workload("web", "[run]", "")?;
    let first = tray.push("one")?;
    fs::write(&file, format!("{first}\n"))?;
    tray.start()?;
    tray.converged(&first)?;
    let (looks, git) = asked(&tray)?;
    let now = until("looks at the plain file", BOUND, || {
        let now = asked(&tray)?;
        Ok((now.0 >= looks + 3).then_some(now))
    })?;
    assert_eq!(now.1, git, "Git was asked although nothing is new");

    tray.workload("other", "[run]", "")?;
    let second = tray.push("two")?;
    fs::write(&file, format!("{second}\n"))?;
    tray.converged(&second)?;
    Ok(())
}
