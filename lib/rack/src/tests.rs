// SPDX-License-Identifier: Apache-2.0
//! What a rack repository may say, and that all of what is wrong with it is told at once.

use super::testing::*;
use super::*;
use proptest::prelude::*;

#[test]
fn a_good_repository_becomes_state() {
    let state = state(&good());
    assert_eq!(state.poll.as_secs(), 2);
    assert_eq!(state.warnings, []);
    let web = &state.workloads[&name("web")];
    assert_eq!(web.command, ["/bin/server", "--port", "8080"]);
    assert_eq!(web.memory.mib(), 128);
    assert_eq!(web.cpus, 1);
    assert_eq!(web.restart_policy, RestartPolicy::Always);
    let address = web
        .network
        .as_ref()
        .and_then(|n| n.address)
        .expect("an address");
    assert_eq!(address.to_string(), "10.80.0.10");
    assert_eq!(
        state
            .release_of(&name("tray-1"))
            .expect("covered")
            .payload
            .name,
        name("stable")
    );
}

#[test]
fn what_no_kind_of_object_may_say_is_refused_with_place_and_remedy() {
    refused(
        "workloads/web.yaml",
        &[
            (
                "memory:",
                "memroy:",
                "workloads/web.yaml:9:3: spec: unknown field `memroy`; did you mean `memory`?",
            ),
            (
                "metadata: {name: web}",
                "metadata: {name: www}",
                "workloads/web.yaml:3:18: the object is named www, so its file must be named www.yaml",
            ),
            (
                "  memory: 128Mi\n",
                "  memory: 128Mi\n  restartPolicy: Allways\n",
                "workloads/web.yaml:10:18: spec.restartPolicy: unknown value `Allways`; did you mean `Always`?",
            ),
            (
                "  memory: 128Mi\n",
                "  memory: 128Mi\n  memory: 64Mi\n",
                "workloads/web.yaml:10:3: `memory` is given twice, first in line 9: keep one of them",
            ),
            (
                "  memory: 128Mi\n",
                "",
                "workloads/web.yaml:5:3: spec: `memory` is missing",
            ),
            (
                "kind: MicroVM",
                "kind: Tray",
                "workloads/web.yaml:2:7: a Tray does not belong into this file; a MicroVM does",
            ),
            (
                "v1alpha1",
                "v1",
                "workloads/web.yaml:1:13: apiVersion must be racklet.dev/v1alpha1",
            ),
        ],
    );
}

#[test]
fn all_problems_of_a_repository_come_at_once() {
    let mut files = good();
    files.insert(
        "rack.yaml".into(),
        RACK.replace("pollSeconds", "pollSecond"),
    );
    files.insert(
        "workloads/web.yaml".into(),
        WEB.replace("128Mi", "1Mi").replace("tray-1", "tray-7"),
    );
    files.insert("workloads/sub/x.yaml".into(), String::new());
    files.insert("trays/b.yml".into(), String::new());
    let problems = load_files(&files).expect_err("must be refused");
    let places: Vec<String> = problems
        .list()
        .iter()
        .map(|p| format!("{}:{}", p.file, p.line))
        .collect();
    assert_eq!(
        places,
        [
            "rack.yaml:6",
            "trays/b.yml:0",
            "workloads/sub/x.yaml:0",
            "workloads/web.yaml:5",
            "workloads/web.yaml:9"
        ]
    );
}

#[test]
fn all_mistakes_of_one_file_come_at_once_in_the_order_of_lines() {
    let mut files = good();
    files.insert(
        "workloads/web.yaml".into(),
        "\
apiVersion: racklet.dev/v1alpha1
kind: MicroVM
metadata: {name: web, lables: {a: b}}
spec:
  tray: [tray-1]
  rootfs:
    artifact: Server!
    digest: sha256:bbbb
  cpus: many
  memry: 0Mi
  user: {}
  graceSeconds: 601
  restartPolicy: Sometimes
  network: {name: lan, address: 10.81.0.10}
"
        .into(),
    );
    assert_eq!(
        told(&files),
        [
            "workloads/web.yaml:3:23: metadata: unknown field `lables`; did you mean `labels`?",
            "workloads/web.yaml:5:3: spec: `command` is missing",
            "workloads/web.yaml:5:9: spec.tray: write text: `tray: name`, not a list",
            "workloads/web.yaml:7:5: spec.rootfs: `manifest` is missing",
            "workloads/web.yaml:7:15: spec.rootfs.artifact: `Server!` is not a name: use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -",
            "workloads/web.yaml:8:5: spec.rootfs: unknown field `digest`; known here: artifact, manifest, repository",
            "workloads/web.yaml:9:9: spec.cpus: write a number: `cpus: 1`, not the text `many`",
            "workloads/web.yaml:10:3: spec: unknown field `memry`; did you mean `memory`?",
            "workloads/web.yaml:10:10: spec.memory: `0Mi` is not an amount of memory: write for example 256Mi or 1Gi",
            "workloads/web.yaml:11:9: spec.user: `gid` is missing",
            "workloads/web.yaml:11:9: spec.user: `uid` is missing",
            "workloads/web.yaml:12:17: spec.graceSeconds is 601, it must be 0 to 600",
            "workloads/web.yaml:13:18: spec.restartPolicy: unknown value `Sometimes`; known here: Always, OnFailure, Never",
            "workloads/web.yaml:14:33: spec.network: 10.81.0.10 is not a usable address of network lan (10.80.0.0/24)",
        ]
    );
}

/// Whatever is wrong, something passes in its place: otherwise the mistakes behind it would not be told.
#[test]
fn what_is_missing_or_of_a_wrong_type_hides_no_other_mistake() {
    let fields: [(&str, &str, &[&str]); 4] = [
        (
            "trays/tray-1.yaml",
            "Tray",
            &["board", "memory", "overcommit", "cpus", "identity"],
        ),
        ("releases/stable.yaml", "Release", &["payload", "rollout"]),
        ("networks/lan.yaml", "Network", &["ipv4", "ipv6", "nat"]),
        (
            "workloads/web.yaml",
            "MicroVM",
            &[
                "tray",
                "traySelector",
                "kernel",
                "rootfs",
                "cpus",
                "memory",
                "command",
                "workingDir",
                "user",
                "overlay",
                "graceSeconds",
                "watchdogSeconds",
                "env",
                "network",
                "restartPolicy",
                "backoff",
            ],
        ),
    ];
    for (path, kind, fields) in fields {
        // Labels are looked at only in an object that could be read.
        let label = "metadata:\n  labels: {'': x}\n";
        let wrong: String = fields
            .iter()
            .map(|field| format!("  {field}: [[]]\n"))
            .collect();
        for (spec, least) in [
            (String::new(), 1),
            ("spec: {}\n".into(), 0),
            (format!("spec:\n{wrong}"), fields.len()),
        ] {
            let files = Files::from([
                ("rack.yaml".to_owned(), RACK.to_owned()),
                (path.to_owned(), format!("{label}{spec}")),
            ]);
            let told = told(&files);
            // apiVersion, kind, name, label.
            assert!(told.len() >= 4 + least, "{told:#?}");
            assert!(
                told.iter().any(|line| line.contains(":2:11: label ``")),
                "{told:#?}"
            );
            assert!(
                told.iter()
                    .all(|line| line.starts_with(&format!("{path}:"))),
                "{told:#?}"
            );
            assert!(
                told.iter()
                    .any(|line| line.ends_with(&format!("write `kind: {kind}`"))),
                "{told:#?}"
            );
        }
    }
}

#[test]
fn a_mistake_in_one_file_makes_none_in_others() {
    for (tray, network) in [
        (
            TRAY.replace("64Gi", "64GB"),
            NETWORK.replace("10.80.0.0/24", "[]"),
        ),
        (
            TRAY.replace("metadata:", "metadata"),
            NETWORK.replace("spec:", "spec: ]"),
        ),
        (
            TRAY.replace("v1alpha1", "v9"),
            NETWORK.replace("kind: Network", "kind: Tray"),
        ),
        (String::new(), "- a\n".to_owned()),
    ] {
        let mut files = good();
        files.insert("trays/tray-1.yaml".into(), tray);
        files.insert("networks/lan.yaml".into(), network);
        let told = told(&files);
        let begin = |line: &String| line.split(':').next().map(str::to_owned);
        let about: Vec<String> = told.iter().filter_map(begin).collect();
        assert_eq!(
            about,
            ["networks/lan.yaml", "trays/tray-1.yaml"],
            "{told:#?}"
        );
    }
}

#[test]
fn at_most_fifty_mistakes_of_a_file_are_told() {
    let mut files = good();
    let many: String = (0..8_000)
        .map(|number| format!("  field-{number}: 1\n"))
        .collect();
    files.insert("rack.yaml".into(), format!("{RACK}{many}"));
    let told = told(&files);
    assert_eq!(told.len(), 51, "{told:#?}");
    assert_eq!(
        told[0],
        "rack.yaml: this file has more mistakes than the 50 told here: mend these first"
    );
    assert!(
        told[50].starts_with("rack.yaml:56:3: spec: unknown field `field-49`"),
        "{}",
        told[50]
    );
}

#[test]
fn a_repository_without_rack_yaml_says_what_to_do() {
    let problems = load(std::iter::empty::<(&str, &[u8])>()).expect_err("must be refused");
    assert!(problems.to_string().contains("racklet rack init"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,400}") {
        let _ = load([("rack.yaml", text.as_bytes()), ("workloads/a.yaml", text.as_bytes())]);
    }

    #[test]
    fn an_edit_of_a_good_file_makes_it_complain_about_that_file_alone(at in 0usize..WEB.len(), byte in any::<u8>(), cut in 0usize..8) {
        let mut bytes = WEB.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, [byte]);
        let files = good();
        let others = files.iter().map(|(p, t)| (p.as_str(), t.as_bytes())).filter(|(p, _)| *p != "workloads/web.yaml");
        if let Err(problems) = load(others.chain([("workloads/web.yaml", bytes.as_slice())])) {
            for problem in problems.list() {
                // Not about what was made up to go on reading, and about nobody else's file.
                prop_assert!(problem.line <= 20, "{problem}");
                prop_assert_eq!(&problem.file, "workloads/web.yaml");
            }
        }
    }
}

#[test]
fn the_guide_has_a_row_for_each_kind() {
    let guide = include_str!("../../../docs/guide/editing.md");
    for kind in KINDS {
        let (file, name, about) = (kind.file("<name>"), kind.name, kind.about);
        let row = format!("| `{file}` | `{name}` | {about} |");
        assert!(guide.contains(&row), "docs/guide/editing.md lacks: {row}");
    }
}
