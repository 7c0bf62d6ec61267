// SPDX-License-Identifier: Apache-2.0
//! Format, lints, and what we depend on: licences, sources, duplicates, advisories.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    architecture, controllers, packages, paths,
    process::output,
    progress::{self, say},
    rust,
};

const DENY: &str = "0.20.2";

/// Everything that does not run the code.
pub(crate) fn run() -> Result<()> {
    sources()?;
    dependencies()
}

/// Format and lints: what the checkout alone decides.
pub(crate) fn sources() -> Result<()> {
    let workspace = paths::workspace();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.current_dir(&workspace).args(arguments);
        command
    };
    for component in ["fmt", "clippy"] {
        output(&mut cargo(&[component, "--version"])).with_context(|| {
            format!("cargo {component} is not there: `rustup component add rustfmt clippy`")
        })?;
    }
    progress::run("format", "fmt", 3, &mut cargo(&["fmt", "--all", "--check"]))
        .context("`cargo fmt --all` puts it right")?;
    progress::run(
        "lints",
        "clippy",
        120,
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    // The bootloader's own part, for its own targets; its library has been looked at above.
    let mut bootloader = cargo(&["clippy", "-p", "racklet-bootloader"]);
    for architecture in &architecture::ALL {
        bootloader.args(["--target", architecture.firmware]);
    }
    rust::require()?.apply(&mut bootloader, "core,alloc");
    bootloader.args(["--", "-D", "warnings"]);
    progress::run(
        "lints of the bootloader",
        "clippy-bootloader",
        30,
        &mut bootloader,
    )?;
    controllers::lint()
}

/// `cargo-deny`, if there is one.
pub(crate) fn deny() -> Result<Option<PathBuf>> {
    let own = paths::cache()?.join(format!("tools/cargo-deny-{DENY}/bin/cargo-deny"));
    Ok(own
        .is_file()
        .then_some(own)
        .or_else(|| packages::find("cargo-deny")))
}

/// Licences and sources, and what is known by now against a dependency.
pub(crate) fn dependencies() -> Result<()> {
    let program = match deny()? {
        Some(program) => program,
        None => {
            progress::run(
                "build cargo-deny, once",
                "cargo-deny",
                260,
                Command::new("cargo")
                    // Without optimisation: a new machine waits for it, and its checks take seconds either way.
                    .args([
                        "install",
                        "--debug",
                        "--locked",
                        "--version",
                        DENY,
                        "cargo-deny",
                        "--root",
                    ])
                    .arg(paths::cache()?.join(format!("tools/cargo-deny-{DENY}")))
                    // Not into a target folder somebody set for the workspace.
                    .env_remove("CARGO_TARGET_DIR"),
            )?;
            deny()?.context("cargo-deny was installed, but is not there")?
        }
    };
    let check_in = |folder: PathBuf, what: &[&str], bound: &str| {
        let mut command = Command::new("timeout");
        command
            .current_dir(folder)
            .arg(bound)
            .arg(&program)
            .args(["--all-features", "--config"])
            .arg(paths::workspace().join("deny.toml"))
            .arg("check")
            .args(what);
        command
    };
    const LISTED: &[&str] = &["bans", "licenses", "sources"];
    progress::run(
        "licences, sources, duplicates",
        "deny",
        5,
        &mut check_in(paths::workspace(), LISTED, "300"),
    )?;
    progress::run(
        "the same of the firmware",
        "deny-firmware",
        5,
        &mut check_in(controllers::workspace(), LISTED, "300"),
    )?;
    for (title, name, folder) in [
        ("advisories", "advisories", paths::workspace()),
        (
            "advisories of the firmware",
            "advisories-firmware",
            controllers::workspace(),
        ),
    ] {
        let mut command = check_in(folder, &["advisories"], "120");
        let Err(error) = progress::run(title, name, 10, &mut command) else {
            continue;
        };
        let log = paths::logs()?.join(format!("{name}.log"));
        if is_out_of_reach(&std::fs::read_to_string(&log).unwrap_or_default()) {
            say(
                "  **************************************************************************************",
            );
            say(
                "  * The advisory database (github.com/rustsec/advisory-db) is out of reach from here:  *",
            );
            say(
                "  * known vulnerabilities of dependencies were NOT CHECKED. Run `cargo xtask lint`     *",
            );
            say(
                "  * where it can be reached before a release.                                          *",
            );
            say(
                "  **************************************************************************************",
            );
            return Ok(());
        }
        return Err(error);
    }
    Ok(())
}

/// Whether the check could not be made, as opposed to having found something.
fn is_out_of_reach(log: &str) -> bool {
    let log = log.to_lowercase();
    !log.contains("advisories failed")
        && [
            "failed to fetch advisory database",
            "failed to clone",
            "failed to load advisory database",
            "advisory database",
        ]
        .iter()
        .any(|text| log.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_never_taken_for_a_missing_database() {
        assert!(is_out_of_reach(
            "[ERROR] failed to fetch advisory database https://github.com/rustsec/advisory-db"
        ));
        assert!(!is_out_of_reach(
            "error[vulnerability]: x\n ID: RUSTSEC-2026-0001\n advisory database\nadvisories FAILED"
        ));
        assert!(!is_out_of_reach(""));
    }
}
