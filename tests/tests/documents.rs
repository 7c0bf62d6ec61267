// SPDX-License-Identifier: Apache-2.0
//! The documents say what is so: tests they name exist, links they make lead somewhere, dependencies are used where they say.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
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

/// A test function.
struct Test {
    path: PathBuf,
    ignored: bool,
}

/// All test functions by name, those inside `proptest!` included.
fn tests() -> BTreeMap<String, Vec<Test>> {
    let mut found: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    for path in files("*.rs") {
        let source = fs::read_to_string(&path).expect("a source file is readable");
        for (name, ignored) in tests_of(&source) {
            let path = path.clone();
            found.entry(name).or_default().push(Test { path, ignored });
        }
    }
    found
}

/// Names of the tests in a file, and whether a run leaves them out.
fn tests_of(source: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    // Attributes since the last thing that was none, with `#[test]` among them.
    let (mut marked, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            marked |= line == "#[test]";
            ignored |= line.starts_with("#[ignore") || line.contains("ignore)]");
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
            let name = rest.split(['(', '<']).next().unwrap_or(rest);
            found.push((name.to_owned(), ignored));
            (marked, ignored) = (false, false);
        } else if !line.starts_with("//") {
            (marked, ignored) = (false, false);
        }
    }
    found
}

/// The rows of the threat model: threat, state, what shows it.
fn threats() -> Vec<[String; 3]> {
    let page = fs::read_to_string(top().join("docs/threat-model.md")).expect("the page is there");
    page.lines()
        .filter(|line| line.starts_with('|'))
        .filter(|line| !line.starts_with("| threat |") && !line.starts_with("| --- |"))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
            let count = cells.len();
            cells
                .try_into()
                .unwrap_or_else(|_| panic!("{count} cells instead of three: {line}"))
        })
        .collect()
}

/// What a cell has between backticks.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_threat_model_names_exists_once_and_runs() {
    let tests = tests();
    let threats = threats();
    let named: Vec<&str> = threats.iter().flat_map(|row| named(&row[2])).collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    let mut faults = Vec::new();
    for name in named {
        match tests.get(name).map(Vec::as_slice) {
            None => faults.push(format!("{name}: there is no such test")),
            Some([one]) if !one.ignored => {}
            Some([_]) => faults.push(format!("{name}: is ignored")),
            Some(several) => {
                let places = several.iter().map(|test| test.path.display().to_string());
                let places: Vec<String> = places.collect();
                faults.push(format!("{name}: which one? {}", places.join(", ")));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_threat_is_promised_with_a_test_or_partly_with_what_is_missing_or_not_yet() {
    let mut faults = Vec::new();
    for [threat, state, shown] in threats() {
        let good = if state.starts_with("promised") {
            named(&shown).count() > 0
        } else {
            // "partly: x", "not yet: x": without the x nobody knows what to rely on.
            ["partly", "not yet"].iter().any(|word| {
                state
                    .strip_prefix(word)
                    .is_some_and(|rest| rest.len() > 2 && rest.starts_with([':', ' ']))
            })
        };
        if !good {
            faults.push(format!("{threat}: {state}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn tests_are_found_with_what_stands_before_them() {
    let source = "#[test]\n#[ignore = \"slow\"]\nfn slow() {}\n/// Why.\n#[test]\n// why\n    fn kept(x in 0..1) {}\n\
                  #[cfg_attr(x, ignore)]\n#[test]\nfn sometimes() {}\n#[test]\nmod other {\nfn none() {}\n";
    let expected = [("slow", true), ("kept", false), ("sometimes", true)];
    assert_eq!(
        tests_of(source),
        expected.map(|(name, ignored)| (name.to_owned(), ignored))
    );
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

/// Crates in the table of `docs/dependencies.md`, and the folders that it says use each.
fn said_of_dependencies(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let (name, folders) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
            let nowhere = folders == "nowhere";
            let folders: BTreeSet<String> = named(folders).map(str::to_owned).collect();
            assert_eq!(nowhere, folders.is_empty(), "folders or `nowhere`: {line}");
            (name.trim_matches('`').to_owned(), folders)
        })
        .collect()
}

/// Names of the crates that a manifest depends on, whatever for.
fn depends_on(manifest: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            // `[workspace.dependencies]` names what members may use and uses nothing itself.
            inside = table.ends_with("dependencies") && !table.starts_with("workspace.");
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            found.insert(name);
        }
    }
    found.remove("#");
    found
}

#[test]
fn dependencies_are_used_where_the_page_says() {
    let page = fs::read_to_string(top().join("docs/dependencies.md")).expect("the page is there");
    let said = said_of_dependencies(&page);
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files("*Cargo.toml") {
        let manifest = fs::read_to_string(&path).expect("a manifest is readable");
        let folder = path
            .parent()
            .and_then(|folder| folder.strip_prefix(top()).ok());
        let folder = folder.expect("it is below the top").display().to_string();
        for name in depends_on(&manifest) {
            used.entry(name.to_owned())
                .or_default()
                .insert(folder.clone());
        }
    }
    for name in [
        "nix",
        "rustix",
        "gix",
        "ring",
        "rustls",
        "hyper",
        "kvm-ioctls",
        "vm-memory",
        "netlink-packet-route",
        "zstd",
    ] {
        assert!(said.contains_key(name), "the page says nothing of {name}");
    }
    for (name, folders) in said {
        let found = used.remove(&name).unwrap_or_default();
        assert_eq!(
            found, folders,
            "{name}: who uses it, and who does the page say"
        );
    }
}

#[test]
fn what_the_workspace_offers_somebody_uses_and_says_why() {
    let root = fs::read_to_string(top().join("Cargo.toml")).expect("the manifest is readable");
    let manifests: Vec<String> = files("*Cargo.toml")
        .iter()
        .map(|path| fs::read_to_string(path).expect("a manifest is readable"))
        .collect();
    let used: BTreeSet<&str> = manifests.iter().flat_map(|text| depends_on(text)).collect();
    let offered = root
        .split("[workspace.dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("the workspace has dependencies");
    let mut reason = false;
    for line in offered.lines().map(str::trim) {
        match line.split_once(" = ") {
            _ if line.starts_with('#') => reason = true,
            Some((name, _)) => {
                assert!(used.contains(name), "nobody uses {name}");
                assert!(reason, "{name}: no reason stands above it");
            }
            None => reason &= !line.is_empty(),
        }
    }
}

#[test]
fn dependencies_are_found_in_every_way_to_write_them() {
    let manifest = "[package]\nname = \"x\"\n[workspace.dependencies]\nnone = \"1\"\n[dependencies]\n# why\none.workspace = true\n\
                    two = { workspace = true }\n[target.'cfg(unix)'.dev-dependencies]\nthree = \"3\"\n[lints]\nfour = true\n";
    assert_eq!(
        depends_on(manifest),
        BTreeSet::from(["one", "two", "three"])
    );
}

/// The fuzz targets that `// untrusted: a, b` marks above parsers name.
fn marked_untrusted(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("// untrusted: "))
        .flat_map(|names| names.split(", "))
}

#[test]
fn every_parser_of_what_others_wrote_has_its_fuzz_target_and_every_target_a_parser() {
    let fuzz = top().join("fuzz");
    let sources = files("*.rs").into_iter().filter(|path| {
        // Not the targets themselves, and not this file, which talks of marks.
        !path.starts_with(&fuzz) && !path.ends_with(file!())
    });
    let mut marked = BTreeSet::new();
    for path in sources {
        let source = fs::read_to_string(&path).expect("a source file is readable");
        marked.extend(marked_untrusted(&source).map(str::to_owned));
    }
    let written: BTreeSet<String> = files("fuzz/fuzz_targets/*.rs")
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest is readable");
    let built: BTreeSet<String> = manifest
        .split("[[bin]]")
        .skip(1)
        .filter_map(|bin| bin.split("name = \"").nth(1)?.split('"').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(
        written, built,
        "fuzz/fuzz_targets, and what fuzz/Cargo.toml builds"
    );
    assert_eq!(
        marked, written,
        "`// untrusted:` marks, and fuzz/fuzz_targets"
    );
    for seeds in files("fuzz/seeds/*") {
        let name = seeds
            .parent()
            .and_then(Path::file_name)
            .expect("a folder per target");
        let name = name.to_str().expect("our names are UTF-8");
        assert!(
            written.contains(name),
            "{}: nobody reads it",
            seeds.display()
        );
    }
}

#[test]
fn marks_are_read_one_by_one() {
    let source = "    // untrusted: one, two\n/// A `// untrusted: none` in the text.\n// untrusted: three\n";
    let found: Vec<&str> = marked_untrusted(source).collect();
    assert_eq!(found, ["one", "two", "three"]);
}
