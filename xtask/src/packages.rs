// SPDX-License-Identifier: Apache-2.0
//! System packages: which are needed, what for, and how they come onto the machine.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    paths,
    progress::{run, say},
};

/// A line of `tests/apt-packages.txt`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Names, in order of preference: distributions differ.
    names: Vec<String>,
    proof: Proof,
    /// Why it is needed.
    pub(crate) reason: String,
}

/// What shows that a package is there, however it came.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Command(String),
    File(String),
    PythonModule(String),
}

impl Package {
    pub(crate) fn name(&self) -> &str {
        &self.names[0]
    }

    pub(crate) fn is_there(&self) -> bool {
        match &self.proof {
            Proof::Command(name) => find(name).is_some(),
            Proof::File(path) => Path::new(path).exists(),
            Proof::PythonModule(name) => succeeds("python3", &["-c", &format!("import {name}")]),
        }
    }
}

/// The program's path, looking where administrators' programs are too.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Whether the command can be run and succeeds.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// All that is needed.
pub(crate) fn all() -> Result<Vec<Package>> {
    let path = paths::workspace().join("tests/apt-packages.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| parse(line).with_context(|| format!("{}: {line}", path.display())))
        .collect()
}

fn parse(line: &str) -> Result<Package> {
    let (names, rest) = line.split_once(' ').context("a name, a proof, a reason")?;
    let (proof, reason) = rest
        .trim()
        .split_once(' ')
        .context("a name, a proof, a reason")?;
    let proof = if let Some(module) = proof.strip_prefix("python:") {
        Proof::PythonModule(module.into())
    } else if proof.starts_with('/') {
        Proof::File(proof.into())
    } else {
        Proof::Command(proof.into())
    };
    Ok(Package {
        names: names.split('|').map(str::to_owned).collect(),
        proof,
        reason: reason.trim().into(),
    })
}

/// Installs what is missing, where that is allowed; otherwise says exactly what to type, and stops.
pub(crate) fn require_all() -> Result<()> {
    let missing: Vec<_> = all()?
        .into_iter()
        .filter(|package| !package.is_there())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say("System packages that are missing:");
    for package in &missing {
        say(&format!("  {:24} {}", package.name(), package.reason));
    }
    if find("apt-get").is_none() {
        bail!(
            "there is no apt-get here: install what the list above names by hand, then run this again"
        );
    }
    let root = racklet_tests::process::output(Command::new("id").arg("-u"))?.trim() == "0";
    let wanted = || missing.iter().map(available);
    let by_hand = format!(
        "sudo apt-get update && sudo apt-get install --no-install-recommends -y {}",
        wanted().collect::<Vec<_>>().join(" ")
    );
    let apt = |arguments: &[&str]| {
        let mut command = if root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        };
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .args(arguments);
        command
    };
    if !root && !succeeds("sudo", &["-n", "true"]) {
        bail!(
            "installing needs your password, so please run this and then the same cargo command again:\n\n  {by_hand}"
        );
    }
    run("apt-get update", "apt-update", 20, &mut apt(&["update"]))?;
    let names: Vec<_> = wanted().collect();
    let mut install = apt(&["install", "--no-install-recommends", "-y"]);
    run("apt-get install", "apt-install", 60, install.args(&names))?;
    let still: Vec<_> = missing
        .iter()
        .filter(|package| !package.is_there())
        .map(Package::name)
        .collect();
    if !still.is_empty() {
        bail!(
            "apt-get succeeded, yet these are not there: {}; try by hand:\n\n  {by_hand}",
            still.join(", ")
        );
    }
    Ok(())
}

/// The first of its names that this distribution has.
fn available(package: &Package) -> String {
    package
        .names
        .iter()
        .find(|name| {
            racklet_tests::process::output(Command::new("apt-cache").args(["madison", name]))
                .is_ok_and(|text| !text.trim().is_empty())
        })
        .unwrap_or(&package.names[0])
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_alternatives_a_proof_and_a_reason() {
        let package = parse("nginx-light|nginx    /usr/sbin/nginx   serves Git").unwrap();
        assert_eq!(package.names, ["nginx-light", "nginx"]);
        assert_eq!(package.proof, Proof::File("/usr/sbin/nginx".into()));
        assert_eq!(package.reason, "serves Git");
        assert!(parse("git git").is_err());
    }

    #[test]
    fn every_package_of_the_list_says_what_it_is_for() {
        let packages = all().unwrap();
        assert!(packages.len() > 10);
        assert!(packages.iter().all(|package| package.reason.len() > 10));
    }

    #[test]
    fn a_command_that_exists_is_there_and_one_that_does_not_is_not() {
        assert!(parse("x sh the shell").unwrap().is_there());
        assert!(!parse("x no-such-command-ever nothing").unwrap().is_there());
        assert!(!parse("x /no/such/file nothing").unwrap().is_there());
    }
}
