// SPDX-License-Identifier: Apache-2.0
//! Packages taken from Debian without installing them: downloaded and verified by apt against Debian's own keys, with lists of
//! its own that leave the machine's configuration alone. The archive is the one that the system uses already; on Ubuntu
//! `RACKLET_DEBIAN_MIRROR` has to name one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    hash, paths,
    process::output,
    progress::{run, say},
};

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Deb {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) sha256: String,
}

/// Downloads the newest version of `package` that begins with `version`: from the machine's own distribution if it has one,
/// otherwise from Debian 13 and its backports. What is in the cache is used as it is.
pub(crate) fn download(package: &str, version: &str) -> Result<Deb> {
    download_for(HERE, package, version)
}

/// The architecture of the machines that this is developed on, as Debian calls it.
const HERE: &str = "amd64";

/// The same for a package of this architecture. Another than the machine's own comes from Debian 13: what the machine's own lists have
/// under that name is not it.
pub(crate) fn download_for(architecture: &str, package: &str, version: &str) -> Result<Deb> {
    let record = record(architecture, package);
    if let Some(deb) = cached(&record, version)? {
        return Ok(deb);
    }
    let own = Apt {
        options: Vec::new(),
    };
    if architecture == HERE
        && let Ok(exact) = own.newest(package, version)
    {
        match own.fetch(package, &exact, &record) {
            Ok(deb) => return Ok(deb),
            // The machine's lists may be older than its archive; our own, below, are new.
            Err(error) => say(&format!(
                "  {package} {exact} from this distribution: {error:#}"
            )),
        }
    }
    let apt = Apt::of_debian(architecture)?;
    let exact = apt.newest(package, version)?;
    apt.fetch(package, &exact, &record)
}

/// What the cache calls a package: two architectures may have it.
fn record(architecture: &str, package: &str) -> String {
    match architecture {
        HERE => package.to_owned(),
        other => format!("{package}-{other}"),
    }
}

/// What the cache says it has of a package, unverified.
pub(crate) fn recorded(package: &str) -> Result<Option<Deb>> {
    let folder = paths::cache()?.join("debs");
    let Ok(text) = fs::read_to_string(folder.join(format!("{package}.json"))) else {
        return Ok(None);
    };
    let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let deb = Deb {
        path: folder.join(field("file")),
        version: field("version"),
        sha256: field("sha256"),
    };
    Ok(deb.path.is_file().then_some(deb))
}

fn cached(package: &str, version: &str) -> Result<Option<Deb>> {
    let Some(deb) = recorded(package)? else {
        return Ok(None);
    };
    let good = deb.version.starts_with(version) && hash::of_file(&deb.path)? == deb.sha256;
    Ok(good.then_some(deb))
}

/// What is in the files that tell apt where packages come from.
fn system_sources() -> String {
    let folder = fs::read_dir("/etc/apt/sources.list.d");
    let parts = folder
        .into_iter()
        .flatten()
        .flatten()
        .map(|part| part.path());
    [PathBuf::from("/etc/apt/sources.list")]
        .into_iter()
        .chain(parts)
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first Debian archive in such files, in either of their formats, without the `/debian` at its end.
fn mirror_in(sources: &str) -> Option<String> {
    sources
        .lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_ascii_whitespace)
        .filter(|word| word.starts_with("http"))
        .find_map(|word| word.trim_end_matches('/').strip_suffix("/debian"))
        .map(str::to_owned)
}

/// Debian's newer packages for this system.
#[derive(Debug)]
pub(crate) struct Backports {
    /// As `apt-get -t` takes it.
    pub(crate) suite: String,
    line: String,
    known: bool,
}

impl Backports {
    /// Where the system is told of them if it does not know them.
    pub(crate) const FILE: &str = "/etc/apt/sources.list.d/racklet-backports.list";

    pub(crate) fn of_this_system() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        let sources = system_sources();
        let (Some("debian"), Some(codename), Some(mirror)) = (
            field("ID").as_deref(),
            field("VERSION_CODENAME"),
            mirror_in(&sources),
        ) else {
            bail!(
                "this distribution's versions of the packages above are too old, and only Debian is known to have newer ones \
                 apart (backports): install newer ones by hand"
            );
        };
        Ok(Self::new(&mirror, &codename, &sources))
    }

    pub(crate) fn new(mirror: &str, codename: &str, sources: &str) -> Self {
        let suite = format!("{codename}-backports");
        let known = sources
            .lines()
            .filter(|line| line.starts_with("Suites:") || line.starts_with("deb "))
            .any(|line| line.split_ascii_whitespace().any(|word| word == suite));
        let line = format!("deb [signed-by={KEYS}] {mirror}/debian {suite} main");
        Self { suite, line, known }
    }

    /// The line that has to be added to the system's sources, if any.
    pub(crate) fn missing(&self) -> Option<&str> {
        (!self.known).then_some(&*self.line)
    }
}

/// What `doctor --undo` does about [`Backports::FILE`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// It is not there.
    Nothing,
    /// It is as we wrote it.
    Remove,
    /// Somebody has written into it since.
    Foreign,
}

impl Undo {
    /// Judges what is in the file: one line of ours, nothing else that apt would read.
    pub(crate) fn of(contents: Option<&str>) -> Self {
        let Some(contents) = contents else {
            return Self::Nothing;
        };
        let mut lines = contents
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let ours = |line: &str| {
            line.starts_with(&format!("deb [signed-by={KEYS}] "))
                && line.ends_with("-backports main")
        };
        match (lines.next(), lines.next()) {
            (Some(line), None) if ours(line) => Self::Remove,
            _ => Self::Foreign,
        }
    }
}

struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn of_debian(architecture: &str) -> Result<Self> {
        if !Path::new(KEYS).exists() {
            bail!(
                "{KEYS} is not there: install debian-archive-keyring, so that what Debian signs can be verified"
            );
        }
        let folder = match architecture {
            HERE => "apt".to_owned(),
            other => format!("apt-{other}"),
        };
        let folder = paths::made(paths::cache()?.join(folder))?;
        paths::made(folder.join("lists/partial"))?;
        paths::made(folder.join("archives/partial"))?;
        let mirror = match env::var("RACKLET_DEBIAN_MIRROR") {
            Ok(mirror) => mirror,
            Err(_) => mirror_in(&system_sources()).context(
                "this system's apt sources name no Debian archive: set RACKLET_DEBIAN_MIRROR to the address of one, \
                 without the `/debian` at its end; what comes from there is verified against Debian's keys",
            )?,
        };
        let sources = format!(
            "deb [signed-by={KEYS}] {mirror}/debian trixie main non-free-firmware\n\
             deb [signed-by={KEYS}] {mirror}/debian trixie-backports main\n\
             deb [signed-by={KEYS}] {mirror}/debian-security trixie-security main\n"
        );
        fs::write(folder.join("sources.list"), sources)?;
        fs::write(folder.join("status"), "")?;
        let at = |name: &str| folder.join(name).display().to_string();
        let options = vec![
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", folder.display()),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            // The cache of a user is not readable for apt's own user.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let apt = Self { options };
        run(
            "Debian's package lists",
            "debian-lists",
            20,
            apt.command("apt-get").arg("update"),
        )?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    fn newest(&self, package: &str, version: &str) -> Result<String> {
        let table = output(self.command("apt-cache").args(["madison", package]))?;
        newest_in(&table, version)
            .with_context(|| format!("no package {package} of version {version}* is on offer"))
    }

    fn fetch(&self, package: &str, version: &str, record: &str) -> Result<Deb> {
        let folder = paths::cache()?.join("debs");
        let scratch = folder.join(format!("{record}.download"));
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        paths::made(scratch.clone())?;
        run(
            &format!("download {package} {version} from Debian"),
            &format!("download-{package}"),
            30,
            self.command("apt-get")
                .args(["download", &format!("{package}={version}")])
                .current_dir(&scratch),
        )?;
        let file = fs::read_dir(&scratch)?
            .next()
            .context("apt-get downloaded nothing")??
            .path();
        let name = file.file_name().context("a file has a name")?;
        let deb = Deb {
            path: folder.join(name),
            version: version.into(),
            sha256: hash::of_file(&file)?,
        };
        fs::rename(&file, &deb.path)?;
        fs::remove_dir(&scratch)?;
        let told = serde_json::json!({
            "file": name.to_string_lossy(), "version": deb.version, "sha256": deb.sha256,
        });
        fs::write(folder.join(format!("{record}.json")), told.to_string())?;
        Ok(deb)
    }
}

/// apt lists the newest first.
fn newest_in(table: &str, version: &str) -> Option<String> {
    table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|candidate| candidate.starts_with(version))
        .map(str::to_owned)
}

/// Unpacks a package into a folder of the cache named by its hash; once.
pub(crate) fn unpack(deb: &Deb) -> Result<PathBuf> {
    let folder = paths::cache()?.join("unpacked").join(&deb.sha256);
    if !folder.exists() {
        let partial = folder.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        paths::made(partial.clone())?;
        output(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&deb.path)
                .arg(&partial),
        )?;
        fs::rename(&partial, &folder)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages
  rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages
  rust-src | 1.85.0+dfsg3-1 | http://mirror.example/debian trixie/main amd64 Packages
";

    #[test]
    fn the_debian_archive_is_found_among_the_systems_sources() {
        let old = "# deb http://old.example/debian x\ndeb [signed-by=/k] https://a.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(old).as_deref(), Some("https://a.example"));
        let new = "Types: deb\nURIs: http://b.example/debian-security http://b.example/debian\n";
        assert_eq!(mirror_in(new).as_deref(), Some("http://b.example"));
        assert_eq!(mirror_in("deb http://c.example/ubuntu noble main\n"), None);
    }

    #[test]
    fn backports_are_added_once() {
        let new = Backports::new("https://a.example", "bookworm", "Suites: bookworm\n");
        assert!(
            new.missing()
                .unwrap()
                .ends_with("https://a.example/debian bookworm-backports main")
        );
        for known in [
            "Suites: bookworm bookworm-backports\n",
            "deb http://x/debian bookworm-backports main\n",
        ] {
            assert_eq!(
                Backports::new("https://a.example", "bookworm", known).missing(),
                None
            );
        }
    }

    #[test]
    fn only_what_was_added_is_taken_back() {
        let backports = Backports::new("https://a.example", "bookworm", "");
        let line = backports.missing().unwrap();
        assert_eq!(Undo::of(None), Undo::Nothing);
        assert_eq!(Undo::of(Some(&format!("{line}\n"))), Undo::Remove);
        assert_eq!(
            Undo::of(Some(&format!("# a note\n{line}\n\n"))),
            Undo::Remove
        );
        for other in [
            String::new(),
            format!("{line}\n{line}\n"),
            format!("{line} contrib\n"),
            "deb https://b.example/debian bookworm-backports main\n".to_owned(),
        ] {
            assert_eq!(Undo::of(Some(&other)), Undo::Foreign, "{other}");
        }
    }

    #[test]
    fn the_newest_of_the_wanted_version_is_chosen() {
        let exact = "1.95.0+dfsg1-2~bpo13+1";
        assert_eq!(newest_in(TABLE, "1.95.0+").as_deref(), Some(exact));
        assert_eq!(
            newest_in(TABLE, "").as_deref(),
            Some("1.96.1+dfsg1-2~bpo13+1")
        );
        assert_eq!(newest_in(TABLE, "1.9.0+"), None);
    }
}
