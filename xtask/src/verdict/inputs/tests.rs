// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::*;

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

#[test]
fn each_change_of_the_checkout_changes_the_digest_of_its_place_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    git(top, &["init", "--quiet"]);
    for (name, text) in [
        ("a/lib.rs", "1"),
        ("b/lib.rs", "1"),
        ("ab", "1"),
        (".gitignore", "ignored\n"),
    ] {
        fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
        fs::write(top.join(name), text).unwrap();
    }
    git(top, &["add", "--all"]);
    let digests = || {
        let tree = Tree::read(top).unwrap();
        ["a/", "b/", "ab", ""].map(|place| tree.digest(&[place]).unwrap())
    };
    let mut before = digests();
    let changes: [(&str, &dyn Fn()); 4] = [
        ("written", &|| fs::write(top.join("a/lib.rs"), "2").unwrap()),
        // Not known to Git, and compiled all the same.
        ("added", &|| fs::write(top.join("a/new.rs"), "").unwrap()),
        ("made a program", &|| {
            fs::set_permissions(top.join("a/new.rs"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("removed", &|| {
            fs::remove_file(top.join("a/lib.rs")).unwrap()
        }),
    ];
    for (change, make) in changes {
        make();
        let after = digests();
        let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
        assert_eq!(changed, [true, false, false, true], "{change}");
        before = after;
    }
    fs::write(top.join("a/ignored"), "").unwrap();
    assert_eq!(digests(), before);
}

fn workspace() -> Workspace {
    let uses = |name: &str, kind: Option<&str>| json!({"name": name, "kind": kind, "path": "/w/x"});
    let package = |name: &str, uses: Vec<Value>| {
        json!({
            "name": name, "id": format!("path+file:///w/{name}"), "manifest_path": format!("/w/{name}/Cargo.toml"),
            "dependencies": uses,
            "targets": [
                {"kind": ["lib"], "name": name, "test": true}, {"kind": ["example"], "name": "e", "test": false},
                {"kind": ["test"], "name": "far", "test": true},
            ],
        })
    };
    let serde = json!({"name": "serde", "kind": null, "path": null});
    Workspace::of(&json!({"workspace_root": "/w", "packages": [
        package("trust", vec![serde]),
        package("fetch", vec![uses("trust", None), uses("testing", Some("dev"))]),
        package("testing", vec![uses("boards", Some("build")), uses("far-away", Some("dev"))]),
        package("boards", vec![]), package("far-away", vec![]),
        package("daemon", vec![uses("fetch", None)]),
        package(END_TO_END, vec![uses("trust", None)]),
    ]}))
    .unwrap()
}

#[test]
fn a_package_is_made_of_what_it_uses_and_what_its_own_tests_use() {
    let workspace = workspace();
    let of = |name| workspace.closure(name).into_iter().collect::<Vec<_>>();
    assert_eq!(of("trust"), ["trust"]);
    assert_eq!(of("fetch"), ["boards", "fetch", "testing", "trust"]);
    // What the tests of another package use is nothing to this one.
    assert_eq!(of("daemon"), ["daemon", "fetch", "trust"]);
    assert_eq!(workspace.programs.len(), 14);
}

#[test]
fn a_change_in_a_package_is_one_for_whoever_uses_it_and_nobody_else() {
    let workspace = workspace();
    let tree = |changed: &str| {
        let names = [
            "trust/src/lib.rs",
            "boards/rack.toml",
            "Cargo.lock",
            "docs/limits.md",
        ];
        let digest = |name: &str| if name == changed { "2" } else { "1" };
        Tree::of(
            names
                .map(|name| (name.to_owned(), digest(name).to_owned()))
                .into_iter(),
        )
    };
    let changed_by = |name| {
        ["trust", "fetch", "daemon", "boards"].map(|package| {
            workspace.sources(&tree(name), package, None).unwrap()
                != workspace.sources(&tree(""), package, None).unwrap()
        })
    };
    assert_eq!(changed_by("trust/src/lib.rs"), [true, true, true, false]);
    assert_eq!(changed_by("boards/rack.toml"), [false, true, false, true]);
    assert_eq!(changed_by("Cargo.lock"), [true; 4]);
    assert_eq!(changed_by("docs/limits.md"), [false; 4]);
}

#[test]
fn an_end_to_end_program_is_its_file_and_the_harness() {
    let workspace = workspace();
    let program = Program {
        package: END_TO_END.into(),
        kind: "test".into(),
        name: "far".into(),
    };
    let places = workspace.places(END_TO_END, Some(&program));
    let covered = |name: &str| places.iter().any(|place| is_in(name, place));
    let folder = END_TO_END;
    assert!(covered(&format!("{folder}/tests/far.rs")));
    assert!(covered(&format!("{folder}/src/scene.rs")));
    assert!(!covered(&format!("{folder}/tests/near.rs")));
    // Nor what people run: the demo and the figures start machines of their own.
    assert!(!covered(&format!("{folder}/tray/bench.rs")));
}

#[test]
fn what_was_read_and_is_no_input_is_found() {
    let workspace = Workspace::read().unwrap();
    let program = |package: &str| Program {
        package: package.into(),
        kind: "lib".into(),
        name: "x".into(),
    };
    let top = paths::workspace();
    let read = BTreeSet::from(
        ["lib/trust/src/lib.rs", "Cargo.lock", "README.md"].map(|name| top.join(name)),
    );
    let strays = |package| workspace.strays(&program(package), &read);
    assert_eq!(strays("racklet-fetch"), ["README.md"]);
    assert_eq!(
        strays("racklet-cpio"),
        ["README.md", "lib/trust/src/lib.rs"]
    );
    // Elsewhere on the machine is not the checkout: what is installed is an input of its own.
    let elsewhere = BTreeSet::from([PathBuf::from("/etc/passwd")]);
    assert!(
        workspace
            .strays(&program("racklet-cpio"), &elsewhere)
            .is_empty()
    );
}

#[test]
fn what_the_compiler_read_is_read_from_its_rule() {
    let folder = tempfile::tempdir().unwrap();
    let rule =
        "/t/libx-1.rmeta: x/src/lib.rs x/table.json\n\nx/src/lib.rs:\n# env-dep:HOME=/root\n";
    fs::write(folder.path().join("x-1.d"), rule).unwrap();
    for product in ["libx-1.rlib", "x-1"] {
        let read = compiled_from(&folder.path().join(product)).unwrap();
        let top = paths::workspace();
        assert_eq!(
            read,
            BTreeSet::from([top.join("x/src/lib.rs"), top.join("x/table.json")])
        );
    }
}

#[test]
fn variables_that_tools_go_by_count_and_those_of_a_terminal_do_not() {
    let of = |all: &[(&str, &str)]| {
        environment(all.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
    };
    for counts in [
        "RUSTFLAGS",
        "PROPTEST_CASES",
        "RACKLET_ACCEL",
        "TZ",
        "GIT_CONFIG_GLOBAL",
    ] {
        assert_ne!(of(&[(counts, "1")]), of(&[]), "{counts}");
    }
    assert_eq!(of(&[("TERM", "xterm"), ("RUSTUP_HOME", "/r")]), of(&[]));
}

#[test]
fn every_program_that_sources_start_by_name_is_among_the_tools() {
    // What all systems have, what is looked at otherwise, and what only this tool starts.
    const OTHERS: [&str; 25] = [
        "cargo",
        "rustc",
        "sh",
        "cp",
        "chmod",
        "kill",
        "sleep",
        "grep",
        "env",
        "true",
        "gcc",
        "ld",
        "make",
        "strip",
        "df",
        "id",
        "sudo",
        "timeout",
        "apt-cache",
        "dpkg-deb",
        "xz",
        // For `bench growth` and `bench vmm`, of which no test depends.
        "valgrind",
        "ldd",
        // In the initramfs of a test: artifacts.
        "vmm",
        "init",
    ];
    let mut unknown = BTreeSet::new();
    for name in Tree::read(&paths::workspace()).unwrap().files.into_keys() {
        if !name.ends_with(".rs") || name.starts_with("fuzz/") {
            continue;
        }
        let text = fs::read_to_string(paths::workspace().join(&name)).unwrap();
        for rest in text.split("Command::new(\"").skip(1) {
            let program = rest.split('"').next().unwrap();
            let tool = program.rsplit('/').next().unwrap();
            if !TOOLS.contains(&tool) && !OTHERS.contains(&tool) {
                unknown.insert(format!("{program} in {name}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}
