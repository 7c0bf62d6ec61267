// SPDX-License-Identifier: Apache-2.0
//! A small good repository, and how tests look at what is said about a spoilt one.

use super::*;
use std::collections::BTreeMap;

pub(crate) const RACK: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Rack
metadata: {name: home}
spec:
  id: 0123456789abcdef0123456789abcdef
  pollSeconds: 2
";
pub(crate) const TRAY: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Tray
metadata:
  name: tray-1
  labels: {zone: left}
spec:
  board: qemu-x86_64
  memory: 64Gi
";
pub(crate) const RELEASE: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Release
metadata: {name: stable}
spec:
  payload:
    name: stable
    manifest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
";
pub(crate) const NETWORK: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Network
metadata: {name: lan}
spec:
  ipv4: 10.80.0.0/24
";
pub(crate) const WEB: &str = "\
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

pub(crate) type Files = BTreeMap<String, String>;

pub(crate) fn good() -> Files {
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

pub(crate) fn load_files(files: &Files) -> Result<RackState, Problems> {
    load(files.iter().map(|(path, text)| (path, text.as_bytes())))
}

pub(crate) fn state(files: &Files) -> RackState {
    load_files(files).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems after replacing `from` by `to` in one file of the good repository.
pub(crate) fn edited(path: &str, from: &str, to: &str) -> String {
    let mut files = good();
    let text = files.get_mut(path).expect("a file of the good repository");
    assert!(text.contains(from), "the test must change something");
    *text = text.replace(from, to);
    load_files(&files).expect_err("must be refused").to_string()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Each edit of a good file is refused with a message that begins so: it says where and what.
pub(crate) fn refused(path: &str, edits: &[(&str, &str, &str)]) {
    for (from, to, expected) in edits {
        let found = edited(path, from, to);
        assert!(
            found.lines().any(|line| line.starts_with(expected)),
            "{from:?} -> {to:?} gave:\n{found}\nnot:\n{expected}"
        );
    }
}

/// What is said about each file, with its line.
pub(crate) fn told(files: &Files) -> Vec<String> {
    let problems = load_files(files).expect_err("must be refused");
    problems.list().iter().map(ToString::to_string).collect()
}
