// SPDX-License-Identifier: Apache-2.0
//! What a rack repository may say, and how every refusal reads.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const RACK: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Rack
metadata: {name: home}
spec:
  id: 0123456789abcdef0123456789abcdef
  pollSeconds: 2
";
const TRAY: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Tray
metadata:
  name: tray-1
  labels: {zone: left}
spec:
  board: qemu-x86_64
  memory: 64Gi
";
const RELEASE: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Release
metadata: {name: stable}
spec:
  payload:
    name: stable
    manifest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
";
const NETWORK: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Network
metadata: {name: lan}
spec:
  ipv4: 10.80.0.0/24
";
const WEB: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: MicroVM
metadata: {name: web}
spec:
  tray: tray-1
  rootfs:
    artifact: server
    manifest: sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
  memory: 128Mi
  command: [/bin/server, --port, 8080]
  env: {MODE: demo}
  network: {name: lan, address: 10.80.0.10}
";

type Files = BTreeMap<String, String>;

fn good() -> Files {
    [
        ("rack.yaml", RACK),
        ("trays/tray-1.yaml", TRAY),
        ("releases/stable.yaml", RELEASE),
        ("networks/lan.yaml", NETWORK),
        ("workloads/web.yaml", WEB),
        ("README.md", "not: [yaml"),
        ("trust/1/root.json", "{}"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into()
}

fn load_files(files: &Files) -> Result<RackState, Problems> {
    load(files.iter().map(|(path, text)| (path, text.as_bytes())))
}

fn state(files: &Files) -> RackState {
    load_files(files).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems after replacing `from` by `to` in one file of the good repository.
fn edited(path: &str, from: &str, to: &str) -> String {
    let mut files = good();
    let text = files.get_mut(path).expect("a file of the good repository");
    assert!(text.contains(from), "the test must change something");
    *text = text.replace(from, to);
    load_files(&files).expect_err("must be refused").to_string()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

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
fn every_refusal_says_where_and_what() {
    let web = "workloads/web.yaml";
    for (path, from, to, expected) in [
        (
            web,
            "memory:",
            "memroy:",
            "workloads/web.yaml:9:3: spec: unknown field `memroy`; did you mean `memory`?",
        ),
        (
            web,
            "128Mi",
            "128M",
            "workloads/web.yaml:9:11: spec.memory: `128M` is not an amount of memory: write for example 256Mi or 1Gi",
        ),
        (
            web,
            "128Mi",
            "16Mi",
            "workloads/web.yaml:9:11: spec.memory is 16Mi, it must be 32Mi to 64Gi",
        ),
        (
            web,
            "tray: tray-1",
            "tray: tray-2",
            "workloads/web.yaml:5:9: there is no tray `tray-2`; did you mean `tray-1`?",
        ),
        (
            web,
            "name: lan",
            "name: wan",
            "workloads/web.yaml:12:19: there is no network `wan`; did you mean `lan`?",
        ),
        (
            web,
            "10.80.0.10",
            "10.80.0.1",
            "workloads/web.yaml:12:33: spec.network: 10.80.0.1 is the gateway of network lan: choose another",
        ),
        (
            web,
            "10.80.0.10",
            "10.80.1.1",
            "workloads/web.yaml:12:33: spec.network: 10.80.1.1 is not a usable address of network lan (10.80.0.0/24)",
        ),
        (
            web,
            "/bin/server",
            "''",
            "workloads/web.yaml:10:12: spec.command: the first entry must name a program",
        ),
        (
            web,
            "  memory: 128Mi\n",
            "  memory: 128Mi\n  overlay: 1Gi\n",
            "workloads/web.yaml:10:12: spec.overlay is 1Gi, it is kept in memory and must be less than spec.memory (128Mi)",
        ),
        (
            web,
            "  memory: 128Mi\n",
            "  memory: 128Mi\n  workingDir: ../x\n",
            "workloads/web.yaml:10:15: spec.workingDir: write an absolute path without `..`",
        ),
        (
            web,
            "{MODE:",
            "{MO=DE:",
            "workloads/web.yaml:11:8: spec.env: `MO=DE` is not a variable's name",
        ),
        (
            web,
            "sha256:b",
            "sha256:B",
            "workloads/web.yaml:8:15: spec.rootfs.manifest: `sha256:Bbb",
        ),
        (
            web,
            "metadata: {name: web}",
            "metadata: {name: www}",
            "workloads/web.yaml:3:18: the object is named www, so its file must be named www.yaml",
        ),
        (
            web,
            "  memory: 128Mi\n",
            "  memory: 128Mi\n  restartPolicy: Allways\n",
            "workloads/web.yaml:10:18: spec.restartPolicy: unknown value `Allways`; did you mean `Always`?",
        ),
        (
            web,
            "  memory: 128Mi\n",
            "  memory: 128Mi\n  cpus: 0\n",
            "workloads/web.yaml:10:9: spec.cpus is 0, it must be 1 to 32",
        ),
        (
            web,
            "  memory: 128Mi\n",
            "  memory: 128Mi\n  memory: 64Mi\n",
            "workloads/web.yaml:10:3: `memory` is given twice, first in line 9: keep one of them",
        ),
        (
            web,
            "  memory: 128Mi\n",
            "",
            "workloads/web.yaml:5:3: spec: `memory` is missing",
        ),
        (
            web,
            "  tray: tray-1\n",
            "",
            "workloads/web.yaml:3:18: spec: say where it runs, with `tray` or `traySelector`",
        ),
        (
            web,
            "kind: MicroVM",
            "kind: Tray",
            "workloads/web.yaml:2:7: a Tray does not belong into this file; a MicroVM does",
        ),
        (
            web,
            "v1alpha1",
            "v1",
            "workloads/web.yaml:1:13: apiVersion must be racklet.dev/v1alpha1",
        ),
        (
            "rack.yaml",
            "pollSeconds: 2",
            "pollSeconds: 0",
            "rack.yaml:6:16: pollSeconds is 0, it must be 1 to 3600",
        ),
        (
            "rack.yaml",
            "0123456789abcdef0123456789abcdef",
            "1",
            "rack.yaml:5:7: spec.id: `1` is not a rack id",
        ),
        (
            "networks/lan.yaml",
            "10.80.0.0/24",
            "10.80.0.1/24",
            "networks/lan.yaml:5:9: spec.ipv4: `10.80.0.1/24` has bits set behind its prefix: did you mean 10.80.0.0/24?",
        ),
        (
            "networks/lan.yaml",
            "ipv4: 10.80.0.0/24",
            "ipv6: 10.80.0.0/24",
            "networks/lan.yaml:5:9: spec.ipv6: 10.80.0.0/24 is of the other address family",
        ),
        (
            "trays/tray-1.yaml",
            "board: qemu-x86_64",
            "board: qemu-x86_64\n  identity: ssh-rsa AAAA",
            "trays/tray-1.yaml:8:13: spec.identity: write the tray's public key",
        ),
        (
            "releases/stable.yaml",
            "spec:\n",
            "spec:\n  rollout: {trays: [tray-9]}\n",
            "releases/stable.yaml:5:21: there is no tray `tray-9`; did you mean `tray-1`?",
        ),
    ] {
        let found = edited(path, from, to);
        assert!(
            found.lines().any(|line| line.starts_with(expected)),
            "{from:?} -> {to:?} gave:\n{found}\nnot:\n{expected}"
        );
    }
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

/// What is said about each file, with its line.
fn told(files: &Files) -> Vec<String> {
    let problems = load_files(files).expect_err("must be refused");
    problems.list().iter().map(ToString::to_string).collect()
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
            &["board", "memory", "cpus", "identity"],
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

#[test]
fn two_workloads_cannot_claim_one_address() {
    let mut files = good();
    files.insert(
        "workloads/api.yaml".into(),
        WEB.replace("name: web", "name: api"),
    );
    let problems = load_files(&files).expect_err("must be refused").to_string();
    assert_eq!(
        problems,
        "workloads/web.yaml:12:33: spec.network: workload api has the address 10.80.0.10 as well"
    );
}

#[test]
fn two_releases_cannot_claim_one_tray() {
    let mut files = good();
    files.insert(
        "releases/edge.yaml".into(),
        RELEASE.replace("name: stable", "name: edge"),
    );
    let problems = load_files(&files).expect_err("must be refused").to_string();
    assert!(
        problems.contains("tray tray-1 is covered by release edge as well"),
        "{problems}"
    );
}

#[test]
fn networks_may_not_overlap_and_stay_inside_the_rack() {
    let mut files = good();
    files.insert(
        "networks/wide.yaml".into(),
        NETWORK
            .replace("lan", "wide")
            .replace("10.80.0.0/24", "10.80.0.0/16"),
    );
    files.insert(
        "rack.yaml".into(),
        format!("{RACK}  networkPrefixes: [10.80.0.0/23]\n"),
    );
    let problems = load_files(&files).expect_err("must be refused").to_string();
    assert!(
        problems.contains("10.80.0.0/16 overlaps with network lan"),
        "{problems}"
    );
    assert!(
        problems.contains("10.80.0.0/16 is outside `spec.networkPrefixes`"),
        "{problems}"
    );
}

#[test]
fn networks_that_a_tray_would_refuse_are_refused_here() {
    for bad in [
        "127.0.0.0/8",
        "224.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/8",
        "10.80.0.0/+24",
    ] {
        let said = edited("networks/lan.yaml", "10.80.0.0/24", bad);
        assert!(said.contains("networks/lan.yaml:5:"), "{bad}: {said}");
    }
    let said = edited("networks/lan.yaml", "ipv4: 10.80.0.0/24", "ipv6: fe80::/64");
    assert!(said.contains("fe80::/10"), "{said}");
}

#[test]
fn what_finds_no_room_on_its_tray_is_refused() {
    let mut files = good();
    let tray = TRAY.replace("memory: 64Gi", "memory: 1Gi\n  cpus: 2");
    files.insert("trays/tray-1.yaml".to_owned(), tray);
    assert_eq!(state(&files).warnings, []);
    for number in 0..20 {
        let workload = WEB
            .replace("name: web}", &format!("name: big-{number}}}"))
            .replace("memory: 128Mi", "memory: 8Gi")
            .replace(", address: 10.80.0.10", "");
        files.insert(format!("workloads/big-{number}.yaml"), workload);
    }
    let problems = load_files(&files).expect_err("20 times 8 GiB on 1 GiB");
    assert_eq!(problems.list().len(), 20, "{problems}");
    assert!(
        problems
            .to_string()
            .contains("workloads/big-0.yaml:9:11: spec.memory: on tray tray-1 it needs 8200 MiB"),
        "{problems}"
    );
    files.retain(|name, _| !name.contains("big"));
    files.insert(
        "workloads/web.yaml".to_owned(),
        WEB.replace("  memory:", "  cpus: 3\n  memory:"),
    );
    let problems = load_files(&files).expect_err("3 of 2 processors");
    assert!(
        problems
            .to_string()
            .contains("spec.cpus is 3, the tray has 2"),
        "{problems}"
    );
    // Without a word about it only the tray itself can tell.
    files.insert(
        "trays/tray-1.yaml".to_owned(),
        TRAY.replace("  memory: 64Gi\n", ""),
    );
    assert!(
        state(&files).warnings[0]
            .to_string()
            .contains("without `memory`")
    );
}

#[test]
fn a_tray_without_release_is_only_a_warning() {
    let mut files = good();
    files.remove("releases/stable.yaml");
    let state = state(&files);
    assert_eq!(state.warnings.len(), 1);
    assert_eq!(state.warnings[0].file, "trays/tray-1.yaml");
}

#[test]
fn chosen_addresses_are_distinct_usable_and_stable() {
    let mut files = good();
    for i in 0..200 {
        let own = format!("vm-{i}");
        let text = WEB
            .replace("name: web", &format!("name: {own}"))
            .replace(", address: 10.80.0.10", "");
        files.insert(format!("workloads/{own}.yaml"), text);
    }
    let state = state(&files);
    let lan = state.networks[&name("lan")].ipv4.expect("v4");
    let mut seen = std::collections::BTreeSet::new();
    for (workload, spec) in &state.workloads {
        let address = spec
            .network
            .as_ref()
            .and_then(|n| n.address)
            .expect("an address");
        assert!(
            lan.is_host(address.into()) && lan.nth(1) != Some(address.into()),
            "{workload}: {address}"
        );
        assert!(seen.insert(address), "{workload}: {address} twice");
    }
    assert_eq!(state, self::state(&files));
}

#[test]
fn a_full_network_is_reported() {
    let mut files = good();
    files.insert("networks/lan.yaml".into(), NETWORK.replace("/24", "/30"));
    files.insert(
        "workloads/web.yaml".into(),
        WEB.replace(", address: 10.80.0.10", ""),
    );
    assert!(load_files(&files).is_ok(), "one workload fits");
    files.insert(
        "workloads/api.yaml".into(),
        WEB.replace("name: web", "name: api")
            .replace(", address: 10.80.0.10", ""),
    );
    let problems = load_files(&files).expect_err("two do not").to_string();
    assert!(
        problems.contains("network lan has no free address"),
        "{problems}"
    );
}

#[test]
fn a_selector_places_on_one_matching_tray_and_stays_there() {
    let mut files = good();
    for i in 2..6 {
        files.insert(
            format!("trays/tray-{i}.yaml"),
            TRAY.replace("tray-1", &format!("tray-{i}")),
        );
    }
    files.insert(
        "trays/other.yaml".into(),
        TRAY.replace("tray-1", "other")
            .replace("zone: left", "zone: right"),
    );
    files.insert(
        "workloads/web.yaml".into(),
        WEB.replace("tray: tray-1", "traySelector: {matchLabels: {zone: left}}"),
    );
    let tray = state(&files).workloads[&name("web")].tray.clone();
    assert_ne!(tray, name("other"));
    let bystander = (1..6)
        .map(|i| name(&format!("tray-{i}")))
        .find(|t| *t != tray)
        .expect("several");
    files.remove(&format!("trays/{bystander}.yaml"));
    assert_eq!(
        state(&files).workloads[&name("web")].tray,
        tray,
        "a bystander left"
    );
    files.remove(&format!("trays/{tray}.yaml"));
    assert_ne!(state(&files).workloads[&name("web")].tray, tray);
}

#[test]
fn a_tray_gets_only_what_concerns_it() {
    let mut files = good();
    files.insert("trays/tray-2.yaml".into(), TRAY.replace("tray-1", "tray-2"));
    let state = state(&files);
    let one = resolve(&state, &name("tray-1")).expect("exists");
    let two = resolve(&state, &name("tray-2")).expect("exists");
    assert_eq!((one.workloads.len(), one.networks.len()), (1, 1));
    assert_eq!((two.workloads.len(), two.networks.len()), (0, 0));
    assert!(two.release.is_some());
    assert!(resolve(&state, &name("tray-3")).is_err());
}

#[test]
fn a_plan_names_each_tray_object_and_field() {
    let old = state(&good());
    let mut files = good();
    files.insert(
        "workloads/web.yaml".into(),
        WEB.replace("demo", "prod").replace("128Mi", "256Mi"),
    );
    files.insert(
        "workloads/api.yaml".into(),
        WEB.replace("name: web", "name: api")
            .replace("0.10", "0.11"),
    );
    let new = state(&files);
    let text = |plan: Vec<TrayPlan>| -> Vec<String> {
        plan.iter()
            .flat_map(|t| t.changes.iter().map(move |c| format!("{} {c}", t.tray)))
            .collect()
    };
    assert_eq!(
        text(plan(Some(&old), &new)),
        [
            "tray-1 + workload api",
            "tray-1 ~ workload web: env {\"MODE\":\"demo\"} -> {\"MODE\":\"prod\"}, memory \"128Mi\" -> \"256Mi\", overlay \"32Mi\" -> \"64Mi\"",
        ]
    );
    assert_eq!(
        text(plan(Some(&new), &old)).first().map(String::as_str),
        Some("tray-1 - workload api")
    );
    assert_eq!(
        text(plan(None, &old)),
        [
            "tray-1 + release payload",
            "tray-1 + network lan",
            "tray-1 + workload web"
        ]
    );
    assert_eq!(plan(Some(&old), &old), []);
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_knows_every_kind_and_field() {
    for kind in KINDS {
        let schema = json_schema(kind).expect("a schema").to_string();
        assert!(
            schema.contains("\"additionalProperties\":false"),
            "{kind}: {schema}"
        );
        assert!(
            schema.contains(&format!("\"const\":\"{kind}\"")),
            "{kind}: {schema}"
        );
    }
    let microvm = json_schema("MicroVM").expect("a schema").to_string();
    for field in [
        "traySelector",
        "restartPolicy",
        "initialSeconds",
        "matchLabels",
    ] {
        assert!(microvm.contains(field), "{field} is missing in {microvm}");
    }
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
