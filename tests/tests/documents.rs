// SPDX-License-Identifier: Apache-2.0
//! The documents say what is so: tests they name exist, links they make lead somewhere.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the repository")
        .to_owned()
}

/// The files that Git knows, or would take, with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            ending,
        ])
        .current_dir(top())
        .output()
        .expect("git runs");
    String::from_utf8(listed.stdout)
        .expect("our names are UTF-8")
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| top().join(name))
        .filter(|path| path.is_file())
        .collect()
}

/// The names of all test functions, those inside `proptest!` included.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files("*.rs") {
        let source = fs::read_to_string(&path).expect("a source file is readable");
        let mut marked = false;
        for line in source.lines().map(str::trim) {
            if line == "#[test]" {
                marked = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
                names.insert(rest.split(['(', '<']).next().unwrap_or(rest).to_owned());
                marked = false;
            }
        }
    }
    names
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let tests = tests();
    let page = fs::read_to_string(top().join("docs/threat-model.md")).expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let named: Vec<&str> = rows
        .filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn a_promise_in_the_threat_model_names_its_test() {
    let page = fs::read_to_string(top().join("docs/threat-model.md")).expect("the page is there");
    let bare: Vec<&str> = page
        .lines()
        .filter(|line| line.contains("| promised") && !line.contains('`'))
        .collect();
    assert!(bare.is_empty(), "promised, and nothing shows it: {bare:#?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files("*.md") {
        let text = fs::read_to_string(&page).expect("a page is readable");
        let folder = page.parent().expect("a file is in a folder");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap_or(target);
            let elsewhere = path.is_empty() || path.contains("://") || path.contains(' ');
            if !elsewhere && !folder.join(path).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_source_file_names_its_licence() {
    let unnamed: Vec<_> = ["*.rs", "*.toml", "*.config", "*.yml", "*.svg", "*.sh"]
        .iter()
        .flat_map(|ending| files(ending))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            !text
                .lines()
                .take(3)
                .any(|line| line.contains("SPDX-License-Identifier:"))
        })
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:#?}");
}
