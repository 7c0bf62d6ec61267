// SPDX-License-Identifier: Apache-2.0
//! System packages: which are needed, what for, and how they come onto the machine.
//!
//! What trays need is in `tests/apt-packages.txt`; what the hardware needs besides (KiCad is a gigabyte) is in
//! `kicad/apt-packages.txt` and asked for only by `cargo xtask hardware`.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    debian, paths,
    process::output,
    progress::{run, say},
};

/// A line of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Names, in order of preference: distributions differ. `a+b` are installed together, from the same source.
    names: Vec<String>,
    /// All of them must be so.
    proofs: Vec<Proof>,
    /// Why it is needed.
    pub(crate) reason: String,
}

/// What shows that a package is there, however it came.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Command(String),
    /// A command that says a version (`--version`) of at least this.
    AtLeast(String, Version),
    File(String),
    PythonModule(String),
}

/// Major and minor.
type Version = (u32, u32);

impl Package {
    pub(crate) fn name(&self) -> &str {
        &self.names[0]
    }

    fn first(names: &str) -> &str {
        names.split('+').next().unwrap_or(names)
    }

    /// Whether what the distribution itself has is too old (only Debian is known to have newer ones apart).
    fn needs_backports(&self) -> bool {
        let Some(least) = self.proofs.iter().find_map(|proof| match proof {
            Proof::AtLeast(_, least) => Some(least),
            _ => None,
        }) else {
            return false;
        };
        let name = Self::first(self.name());
        let policy = output(Command::new("apt-cache").args(["policy", name]));
        policy.is_ok_and(|text| candidate_in(&text).is_none_or(|version| version < *least))
    }

    pub(crate) fn is_there(&self) -> bool {
        self.proofs.iter().all(Proof::holds)
    }
}

impl Proof {
    fn holds(&self) -> bool {
        match self {
            Self::Command(name) => find(name).is_some(),
            Self::AtLeast(name, least) => find(name).is_some_and(|program| {
                output(Command::new(program).arg("--version"))
                    .is_ok_and(|text| version_in(&text).is_some_and(|version| version >= *least))
            }),
            Self::File(path) => Path::new(path).exists(),
            Self::PythonModule(name) => succeeds("python3", &["-c", &format!("import {name}")]),
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

/// All that trays need.
pub(crate) fn all() -> Result<Vec<Package>> {
    list("tests/apt-packages.txt")
}

/// What the hardware needs besides.
pub(crate) fn hardware() -> Result<Vec<Package>> {
    list("kicad/apt-packages.txt")
}

fn list(name: &str) -> Result<Vec<Package>> {
    let path = paths::workspace().join(name);
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
    let proofs = proof.split('&').map(parse_proof).collect::<Result<_>>()?;
    Ok(Package {
        names: names.split('|').map(str::to_owned).collect(),
        proofs,
        reason: reason.trim().into(),
    })
}

fn parse_proof(proof: &str) -> Result<Proof> {
    Ok(if let Some(module) = proof.strip_prefix("python:") {
        Proof::PythonModule(module.into())
    } else if proof.starts_with('/') {
        Proof::File(proof.into())
    } else if let Some((command, least)) = proof.split_once(">=") {
        let least = version_in(least).context("the least version, as in qemu>=8.2")?;
        Proof::AtLeast(command.into(), least)
    } else {
        Proof::Command(proof.into())
    })
}

/// What apt would install: the line `Candidate: 1:7.2+dfsg-7`, without the epoch.
fn candidate_in(policy: &str) -> Option<Version> {
    let line = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))?;
    version_in(
        line.trim()
            .split_once(':')
            .map_or(line, |(_, version)| version),
    )
}

/// The first number with a point in a text.
fn version_in(text: &str) -> Option<Version> {
    text.split(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .find_map(|word| {
            let mut parts = word.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
}

/// Installs what is missing, where that is allowed; otherwise says exactly what to type, and stops.
pub(crate) fn require_all() -> Result<()> {
    require(all()?)
}

/// Installs what is missing of these, likewise.
pub(crate) fn require(packages: Vec<Package>) -> Result<()> {
    let missing: Vec<_> = packages
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
    let root = is_root()?;
    let administrator = |program: &str| administrator(root, program);
    let apt = |arguments: &[&str]| {
        let mut command = administrator("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .args(arguments);
        command
    };
    let allowed = is_allowed(root);
    if allowed {
        // First: which version the distribution has is not known on a machine whose lists are old or were removed.
        run("apt-get update", "apt-update", 20, &mut apt(&["update"]))?;
    }
    let (newer, ordinary): (Vec<_>, Vec<_>) = missing
        .iter()
        .partition(|package| package.needs_backports());
    let ordinary: Vec<_> = ordinary.into_iter().flat_map(available).collect();
    let newer: Vec<_> = newer.into_iter().flat_map(available).collect();
    let backports = match newer.is_empty() {
        true => None,
        false => Some(debian::Backports::of_this_system()?),
    };
    let by_hand = by_hand(&ordinary, &newer, backports.as_ref());
    if !allowed {
        bail!(
            "installing needs your password, so please run this and then the same cargo command again:\n\n  {by_hand}"
        );
    }
    if let Some(source) = backports.as_ref().and_then(debian::Backports::missing) {
        say(&announcement(source, &newer));
        let write = format!("echo '{source}' > {}", debian::Backports::FILE);
        output(administrator("sh").args(["-c", &write]))?;
        run(
            "apt-get update, with backports",
            "apt-update",
            20,
            &mut apt(&["update"]),
        )?;
    }
    let install = ["install", "--no-install-recommends", "-y"];
    if !ordinary.is_empty() {
        let mut command = apt(&install);
        run(
            "apt-get install",
            "apt-install",
            60,
            command.args(&ordinary),
        )?;
    }
    if let Some(backports) = &backports {
        let mut command = apt(&install);
        let command = command.args(["-t", &backports.suite]).args(&newer);
        run(
            "apt-get install from backports",
            "apt-install-backports",
            60,
            command,
        )?;
    }
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

fn is_root() -> Result<bool> {
    let id = output(Command::new("id").arg("-u"))?;
    Ok(id.trim() == "0")
}

fn is_allowed(root: bool) -> bool {
    root || succeeds("sudo", &["-n", "true"])
}

/// A command with the rights to change the system.
fn administrator(root: bool, program: &str) -> Command {
    if root {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", program]);
    sudo
}

/// What is said before the system's package sources are changed.
fn announcement(source: &str, newer: &[String]) -> String {
    format!(
        "  This distribution's versions of {} are too old. Newer ones come from its backports, for which a package\n  \
         source is added for the whole system (`cargo xtask doctor --undo` takes it back):\n    {}: {source}",
        newer.join(", "),
        debian::Backports::FILE
    )
}

/// Takes the package source back that [`require`] added. What was installed from it stays.
pub(crate) fn undo() -> Result<()> {
    const FILE: &str = debian::Backports::FILE;
    let contents = match fs::read_to_string(FILE) {
        Ok(contents) => Some(contents),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("read {FILE}")),
    };
    match debian::Undo::of(contents.as_deref()) {
        debian::Undo::Nothing => {
            println!("Nothing to take back: {FILE} is not there.");
            return Ok(());
        }
        debian::Undo::Foreign => {
            bail!("{FILE} is not as it was written here: look into it and remove it yourself")
        }
        debian::Undo::Remove => {}
    }
    let root = is_root()?;
    if !is_allowed(root) {
        bail!(
            "removing it needs your password, so please run:\n\n  sudo rm {FILE} && sudo apt-get update"
        );
    }
    output(administrator(root, "rm").arg(FILE))?;
    println!(
        "Removed {FILE}. What was installed from it stays (`apt list --installed` shows it by its ~bpo); \
         apt forgets the source with its next update."
    );
    Ok(())
}

/// What to type where nothing may be installed without asking.
fn by_hand(ordinary: &[String], newer: &[String], backports: Option<&debian::Backports>) -> String {
    const INSTALL: &str = "sudo apt-get install --no-install-recommends -y";
    let mut steps = Vec::new();
    if let Some(source) = backports.and_then(debian::Backports::missing) {
        steps.push(format!(
            "echo '{source}' | sudo tee {}",
            debian::Backports::FILE
        ));
    }
    steps.push("sudo apt-get update".to_owned());
    if !ordinary.is_empty() {
        steps.push(format!("{INSTALL} {}", ordinary.join(" ")));
    }
    if let Some(backports) = backports {
        steps.push(format!(
            "{INSTALL} -t {} {}",
            backports.suite,
            newer.join(" ")
        ));
    }
    steps.join(" && ")
}

/// The first of its names that this distribution has; several if they come together.
fn available(package: &Package) -> Vec<String> {
    let names = package
        .names
        .iter()
        .find(|name| {
            output(Command::new("apt-cache").args(["madison", Package::first(name)]))
                .is_ok_and(|text| !text.trim().is_empty())
        })
        .unwrap_or(&package.names[0]);
    names.split('+').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_alternatives_a_proof_and_a_reason() {
        let package = parse("nginx-light|nginx    /usr/sbin/nginx   serves Git").unwrap();
        assert_eq!(package.names, ["nginx-light", "nginx"]);
        assert_eq!(package.proofs, [Proof::File("/usr/sbin/nginx".into())]);
        assert_eq!(package.reason, "serves Git");
        assert!(parse("git git").is_err());
    }

    #[test]
    fn packages_that_belong_together_are_proved_and_installed_together() {
        let package = parse("kicad+kicad-symbols sh&/no/such/file draws boards").unwrap();
        assert_eq!(package.proofs.len(), 2);
        assert!(!package.is_there());
        assert_eq!(available(&package), ["kicad", "kicad-symbols"]);
        assert!(parse("x sh&/ both").unwrap().is_there());
    }

    #[test]
    fn a_version_is_read_from_what_a_program_and_apt_say() {
        assert_eq!(
            version_in("QEMU emulator version 10.0.2 (Debian)"),
            Some((10, 0))
        );
        assert_eq!(version_in("no number"), None);
        let policy = "qemu-system-x86:\n  Installed: (none)\n  Candidate: 1:7.2+dfsg-7+deb12u18\n";
        assert_eq!(candidate_in(policy), Some((7, 2)));
        assert_eq!(candidate_in("x:\n  Candidate: 9.0.8-1\n"), Some((9, 0)));
        assert_eq!(candidate_in("x:\n  Candidate: (none)\n"), None);
    }

    #[test]
    fn what_is_too_old_is_not_there() {
        assert!(parse("git git>=1.5 keeps").unwrap().is_there());
        assert!(!parse("git git>=99.0 keeps").unwrap().is_there());
        assert!(parse("git git>=new keeps").is_err());
    }

    #[test]
    fn what_to_type_names_the_source_of_newer_packages() {
        let backports = debian::Backports::new("https://a.example", "bookworm", "");
        let text = by_hand(&["make".into()], &["qemu".into()], Some(&backports));
        assert!(text.starts_with("echo 'deb [signed-by="), "{text}");
        assert!(text.contains("-y make && "), "{text}");
        assert!(text.ends_with("-t bookworm-backports qemu"), "{text}");
        assert!(!by_hand(&["make".into()], &[], None).contains("backports"));
    }

    #[test]
    fn a_new_package_source_is_named_before_it_is_added() {
        let text = announcement("deb https://a.example/debian b main", &["qemu".into()]);
        for part in [
            "qemu",
            debian::Backports::FILE,
            "deb https://a.example/debian b main",
            "cargo xtask doctor --undo",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn every_package_of_the_list_says_what_it_is_for() {
        let packages = all().unwrap();
        assert!(packages.len() > 10);
        let hardware = hardware().unwrap();
        assert!(
            hardware
                .iter()
                .any(|package| package.name().starts_with("kicad"))
        );
        let mut both = packages.iter().chain(&hardware);
        assert!(both.all(|package| package.reason.len() > 10));
    }

    #[test]
    fn a_command_that_exists_is_there_and_one_that_does_not_is_not() {
        assert!(parse("x sh the shell").unwrap().is_there());
        assert!(!parse("x no-such-command-ever nothing").unwrap().is_there());
        assert!(!parse("x /no/such/file nothing").unwrap().is_there());
    }
}
