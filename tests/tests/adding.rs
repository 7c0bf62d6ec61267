// SPDX-License-Identifier: Apache-2.0
//! `docs/adding/*` can be followed: what each page says to write is written into a copy of this repository, and what it says to run
//! runs.
//!
//! A page says: a path and `:` before a block of code, and the file is new; a path, `below` and a line that the file has, and the
//! block is put below it; a block of `console`, and what follows `$ ` is run, which prints the lines that stand below it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use racklet_tests::{
    artifacts::{target, workspace},
    process::output,
};

/// One thing that a page says to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    New {
        path: String,
        text: String,
    },
    Below {
        path: String,
        anchor: String,
        text: String,
    },
    Run {
        command: String,
        prints: String,
    },
}

/// The blocks of a page that say what to do.
fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    let mut before = "";
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if !line.trim().is_empty() {
                before = line;
            }
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if language == "console" {
            for line in &block {
                match (line.strip_prefix("$ "), steps.last_mut()) {
                    (Some(command), _) => steps.push(Step::Run {
                        command: command.to_owned(),
                        prints: String::new(),
                    }),
                    (None, Some(Step::Run { prints, .. })) => prints.push_str(&format!("{line}\n")),
                    _ => bail!("a console that begins with an answer: {line}"),
                }
            }
            continue;
        }
        let text: String = block.iter().map(|line| format!("{line}\n")).collect();
        let quoted: Vec<&str> = before.split('`').skip(1).step_by(2).collect();
        steps.push(match quoted[..] {
            [path] if before.ends_with(':') => Step::New {
                path: path.to_owned(),
                text,
            },
            [path, anchor] if before.contains("`, below `") => Step::Below {
                path: path.to_owned(),
                anchor: anchor.to_owned(),
                text,
            },
            _ => bail!("nothing says where this block goes: {before}"),
        });
    }
    Ok(steps)
}

/// The copy, and the files in it as the pages left them.
struct Copy {
    folder: PathBuf,
    files: BTreeMap<String, String>,
}

impl Copy {
    /// Reads what Git has, or would take. A copy of an earlier run is brought up to date: what is the same keeps its time, so that
    /// nothing is compiled for that.
    fn new() -> Result<Self> {
        let folder = target().join("adding");
        let listed = output(
            Command::new("git")
                .args([
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                ])
                .current_dir(workspace()),
        )?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // What is no text is no part of a page, and pictures and boards are not compiled.
            if let Ok(text) = fs::read_to_string(workspace().join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self { folder, files })
    }

    fn follow(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::New { path, text } => {
                let before = self.files.insert(path.clone(), text.clone());
                ensure!(before.is_none(), "{path} is there already");
            }
            Step::Below { path, anchor, text } => {
                let file = self
                    .files
                    .get_mut(path)
                    .with_context(|| format!("no file {path}"))?;
                let at = format!("\n{anchor}\n");
                let count = file.matches(&at).count();
                ensure!(
                    count == 1,
                    "{path} has the line {anchor:?} {count} times, not once"
                );
                *file = file.replacen(&at, &format!("{at}{text}"), 1);
            }
            Step::Run { .. } => {}
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        for (path, text) in &self.files {
            let place = self.folder.join(path);
            if fs::read_to_string(&place).is_ok_and(|there| there == *text) {
                continue;
            }
            fs::create_dir_all(place.parent().context("a file in a folder")?)?;
            fs::write(&place, text).with_context(|| format!("write {}", place.display()))?;
        }
        remove_others(&self.folder, &self.folder, &self.files)?;
        // Tests ask Git which files there are.
        for git in [&["init", "--quiet"][..], &["add", "--all"]] {
            output(Command::new("git").args(git).current_dir(&self.folder))?;
        }
        Ok(())
    }

    fn run(&self, command: &str, prints: &str) -> Result<()> {
        let done = Command::new("bash")
            .args(["-c", command])
            .current_dir(&self.folder)
            // Not the checkout's own: cargo tells two checkouts apart by nothing there, and programs of tests that are about to
            // run would be replaced by those of the copy.
            .env("CARGO_TARGET_DIR", target().join("adding-build"))
            .output()
            .context("start bash")?;
        let said = String::from_utf8_lossy(&done.stdout);
        let errors = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "$ {command}\n{said}{errors}");
        let tests = said
            .lines()
            .filter(|line| line.starts_with("test result: ok. "));
        let passed = tests
            .filter(|line| !line.starts_with("test result: ok. 0 passed"))
            .count();
        ensure!(
            !command.starts_with("cargo test") || passed > 0,
            "$ {command}\nran no test:\n{said}"
        );
        ensure!(
            said.contains(prints),
            "$ {command}\nprinted:\n{said}instead of:\n{prints}"
        );
        Ok(())
    }
}

/// Removes what an earlier run left and this one has not.
fn remove_others(top: &Path, folder: &Path, keep: &BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.ends_with(".git") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            remove_others(top, &path, keep)?;
        } else if !keep.contains_key(&*path.strip_prefix(top)?.to_string_lossy()) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[test]
fn every_page_of_what_to_add_can_be_followed() -> Result<()> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(workspace().join("docs/adding"))? {
        let path = entry?.path();
        let page = fs::read_to_string(&path)?;
        let name = path
            .file_name()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        pages.insert(name.clone(), steps(&page).with_context(|| name)?);
    }
    ensure!(pages.len() >= 5, "pages are missing: {:?}", pages.keys());
    let mut copy = Copy::new()?;
    for (page, steps) in &pages {
        for step in steps {
            copy.follow(step)
                .with_context(|| format!("docs/adding/{page}"))?;
        }
        let runs = |step: &Step| matches!(step, Step::Run { .. });
        ensure!(
            steps.iter().any(runs),
            "docs/adding/{page} shows nothing to run"
        );
    }
    copy.write()?;
    for (page, steps) in &pages {
        for step in steps {
            if let Step::Run { command, prints } = step {
                copy.run(command, prints)
                    .with_context(|| format!("docs/adding/{page}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_page_says_where_each_block_goes() -> Result<()> {
    let page = "Text.\n\n`a/b.rs`:\n\n```rust\none\n```\n\nThen `c.rs`, below `x`:\n\n```rust\ntwo\n```\n\n```console\n$ ls\nb.rs\n```\n";
    assert_eq!(
        steps(page)?,
        [
            Step::New {
                path: "a/b.rs".into(),
                text: "one\n".into()
            },
            Step::Below {
                path: "c.rs".into(),
                anchor: "x".into(),
                text: "two\n".into()
            },
            Step::Run {
                command: "ls".into(),
                prints: "b.rs\n".into()
            },
        ]
    );
    assert!(steps("Nothing said.\n\n```rust\nx\n```\n").is_err());
    Ok(())
}
