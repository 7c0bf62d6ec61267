// SPDX-License-Identifier: Apache-2.0
//! A test in a process of its own, which may confine itself for good or be killed.

use std::process::Command;

const NAME: &str = "RACKLET_TEST_ALONE";

/// Where a test finds itself.
pub(crate) enum Alone {
    /// In its own process: the test is to be done.
    Here,
    /// In the process of all tests; the other one has succeeded.
    There,
}

/// Runs the test with this path (`module_path!()` and its name) in another process, and fails when it fails there.
pub(crate) fn alone(path: &str) -> Alone {
    let (_, name) = path.split_once("::").expect("the crate's name comes first");
    if std::env::var_os(NAME).is_some_and(|given| given == name) {
        return Alone::Here;
    }
    let program = std::env::current_exe().expect("a test knows its program");
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env(NAME, name)
        .output()
        .expect("the test's program can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Alone::There
}
