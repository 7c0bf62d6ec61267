// SPDX-License-Identifier: Apache-2.0
//! What goes into a test program: the sources that it is compiled from and reads, the compiler, this machine, the surroundings.
//!
//! Sources, not the program's bytes: these differ from one checkout to the next (folders are compiled in), and a verdict should be
//! worth the same in all of them. That the list of sources is complete is not believed: after each build, what the compiler read
//! ([`strays`]) has to be in it; `cargo xtask test --traced` asks the same of what a program opens while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Inputs, digest_of};
use crate::{hash, packages, paths, process::output};

/// What packages read outside of their own folder and those of the packages they use.
const ALSO_READ: [(&str, &[&str]); 3] = [
    // Tables in them are compared with what the code says.
    ("racklet-kicad", &["docs/hardware/"]),
    ("racklet-enclosure", &["docs/hardware/"]),
    ("racklet-cli", &["docs/answers.schema.json", "firmware/"]),
];

/// What decides for every package how it is compiled.
pub(crate) const ALL_READ: [&str; 3] = ["Cargo.toml", "Cargo.lock", ".cargo/"];

/// Programs that tests start. Most come from packages, of which the versions are looked at; one that a user put in front of these
/// (`/usr/local/bin/git`) is told apart by its bytes.
const TOOLS: [&str; 52] = [
    "bash",
    "cpio",
    "date",
    "dd",
    "debugfs",
    "dnsmasq",
    "dtc",
    "dumpe2fs",
    "e2fsck",
    "fcgiwrap",
    "fdtoverlay",
    "fdtput",
    "fio",
    "fsck.erofs",
    "fsck.vfat",
    "fsverity",
    "git",
    "gzip",
    "ip",
    "iperf3",
    "kicad-cli",
    "losetup",
    "mcopy",
    "mdel",
    "mdir",
    "minfo",
    "mke2fs",
    "mkfifo",
    "mkfs.erofs",
    "mount",
    "nginx",
    "ngspice",
    "openscad",
    "openssl",
    "partx",
    "patch",
    "python3",
    "qemu-nbd",
    "qemu-system-aarch64",
    "qemu-system-arm",
    "qemu-system-x86_64",
    "setpriv",
    "sfdisk",
    "sha256sum",
    "sgdisk",
    "ssh-add",
    "ssh-agent",
    "ssh-keygen",
    "strace",
    "tar",
    "umount",
    "unshare",
];

/// The checkout: its files, those that Git would take included, by path, with their digests.
#[derive(Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
    /// Digests that were asked for before: most packages are in most programs.
    known: Mutex<BTreeMap<String, String>>,
}

impl Tree {
    /// As it is now.
    pub(crate) fn read(top: &Path) -> Result<Self> {
        let listed = output(
            Command::new("git")
                .args([
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                ])
                .current_dir(top),
        )?;
        let (mut names, mut files) = (Vec::new(), Vec::new());
        for name in listed.split_terminator('\0') {
            let path = top.join(name);
            // What was removed and not committed yet is no longer part of the checkout.
            if let Ok(about) = fs::metadata(&path)
                && about.is_file()
            {
                let runs = about.permissions().mode() & 0o111 != 0;
                names.push((name.to_owned(), if runs { "program" } else { "file" }));
                files.push(path);
            }
        }
        let digests = hash::of_files(&files)?;
        let all = names.into_iter().zip(digests);
        Ok(Self::of(all.map(|((name, kind), digest)| {
            (name, format!("{kind} {digest}"))
        })))
    }

    fn of(files: impl Iterator<Item = (String, String)>) -> Self {
        Self {
            files: files.collect(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.files == other.files
    }

    /// Of the files at these places: a path, or a folder's with `/` at its end; `""` is everything.
    pub(crate) fn digest(&self, places: &[&str]) -> Result<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known.get(&places.join("\n")) {
            return Ok(digest.clone());
        }
        let files = self.files.iter();
        let files = files.filter(|(name, _)| places.iter().any(|place| is_in(name, place)));
        let digest = hash::of_parts(files.flat_map(|(name, digest)| [name.as_str(), digest]))?;
        known.insert(places.join("\n"), digest.clone());
        Ok(digest)
    }
}

fn is_in(name: &str, place: &str) -> bool {
    name == place || (name.starts_with(place) && (place.is_empty() || place.ends_with('/')))
}

/// A program of tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    pub(crate) package: String,
    /// `lib`, `bin` or `test`.
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind.as_str() {
            "lib" => write!(f, "{}", self.package),
            kind => write!(f, "{} ({kind} {})", self.package, self.name),
        }
    }
}

/// A package of the workspace.
#[derive(Debug, Default)]
struct Member {
    /// With `/` at its end.
    folder: String,
    /// The members that its own code, or its tests', is compiled with.
    uses: BTreeSet<String>,
    /// The same for its tests alone.
    tests_use: BTreeSet<String>,
}

/// The packages of the workspace, and the programs of their tests.
#[derive(Debug)]
pub(crate) struct Workspace {
    members: BTreeMap<String, Member>,
    ids: BTreeMap<String, String>,
    pub(crate) programs: Vec<Program>,
}

impl Workspace {
    pub(crate) fn read() -> Result<Self> {
        let told = output(
            Command::new("cargo")
                .args(["metadata", "--no-deps", "--format-version", "1"])
                .current_dir(paths::workspace()),
        )?;
        Self::of(&serde_json::from_str(&told)?)
    }

    fn of(metadata: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let top = text(&metadata["workspace_root"]);
        let (mut members, mut ids, mut programs) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let name = text(&package["name"]);
            ids.insert(text(&package["id"]), name.clone());
            let manifest = text(&package["manifest_path"]);
            let folder = manifest
                .strip_prefix(&top)
                .and_then(|rest| rest.strip_prefix('/')?.strip_suffix("Cargo.toml"))
                .with_context(|| format!("{manifest} is not in {top}"))?;
            let mut member = Member {
                folder: folder.into(),
                ..Member::default()
            };
            for used in package["dependencies"].as_array().into_iter().flatten() {
                if used["path"].is_string() {
                    let uses = match used["kind"] == "dev" {
                        true => &mut member.tests_use,
                        false => &mut member.uses,
                    };
                    uses.insert(text(&used["name"]));
                }
            }
            for target in package["targets"].as_array().into_iter().flatten() {
                if target["test"] == true {
                    programs.push(Program {
                        package: name.clone(),
                        kind: text(&target["kind"][0]),
                        name: text(&target["name"]),
                    });
                }
            }
            members.insert(name, member);
        }
        Ok(Self {
            members,
            ids,
            programs,
        })
    }

    /// Where cargo runs a package's tests.
    pub(crate) fn folder(&self, package: &str) -> PathBuf {
        let member = self.members.get(package);
        paths::workspace().join(member.map_or("", |member| &member.folder))
    }

    /// The package and the folders that its tests are compiled from.
    fn closure(&self, package: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut next = vec![package];
        if let Some(member) = self.members.get(package) {
            next.extend(member.tests_use.iter().map(String::as_str));
        }
        while let Some(name) = next.pop() {
            if let Some((name, member)) = self.members.get_key_value(name)
                && found.insert(name.as_str())
            {
                next.extend(member.uses.iter().map(String::as_str));
            }
        }
        found
    }

    /// What of the checkout belongs to a package itself, so far as `program` is concerned.
    ///
    /// The end-to-end tests are one package of many programs that have nothing to do with each other and cost minutes each: a
    /// program of theirs is its own file and the harness.
    fn places(&self, package: &str, program: Option<&Program>) -> Vec<String> {
        let Some(member) = self.members.get(package) else {
            return Vec::new();
        };
        let folder = &member.folder;
        let mut places = match program {
            Some(program) if package == END_TO_END => {
                let mut places = vec![format!("{folder}src/"), format!("{folder}Cargo.toml")];
                match program.kind.as_str() {
                    "test" => {
                        places.push(format!("{folder}tests/{}.rs", program.name));
                        places.push(format!("{folder}tests/{}/", program.name));
                    }
                    "bin" => places.push(format!("{folder}{}/", program.name)),
                    _ => {}
                }
                places
            }
            _ => vec![folder.clone()],
        };
        for (_, also) in ALSO_READ.iter().filter(|(name, _)| *name == package) {
            places.extend(also.iter().map(|place| (*place).to_owned()));
        }
        places
    }

    /// The sources of a package with all that it is compiled with.
    pub(crate) fn sources(
        &self,
        tree: &Tree,
        package: &str,
        program: Option<&Program>,
    ) -> Result<Inputs> {
        let mut inputs = Inputs::default().with("how all is compiled", tree.digest(&ALL_READ)?);
        for used in self.closure(package) {
            let places = self.places(used, program);
            let places: Vec<&str> = places.iter().map(String::as_str).collect();
            inputs = inputs.with(format!("sources of {used}"), tree.digest(&places)?);
        }
        Ok(inputs)
    }

    /// Which program a message of cargo's is about: a built test, a library that one is made of.
    pub(crate) fn built(&self, message: &Value) -> Option<(Program, PathBuf)> {
        if message["reason"] != "compiler-artifact" {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let program = Program {
            package: self.ids.get(message["package_id"].as_str()?)?.clone(),
            kind: text(&message["target"]["kind"][0]),
            name: text(&message["target"]["name"]),
        };
        let file = message["executable"]
            .as_str()
            .or_else(|| message["filenames"][0].as_str())?;
        Some((program, file.into()))
    }

    /// Files of the checkout that the compiler, or the program, read and that are not among the inputs.
    pub(crate) fn strays(&self, program: &Program, read: &BTreeSet<PathBuf>) -> Vec<String> {
        let mut places: Vec<String> = ALL_READ.map(str::to_owned).into();
        for used in self.closure(&program.package) {
            places.extend(self.places(used, Some(program)));
        }
        // Not sources: what was built, which is made from them, and Git's own.
        places.extend(["target/", ".git", ".git/"].map(str::to_owned));
        let (top, target) = (paths::workspace(), paths::target());
        read.iter()
            .filter(|path| path.is_file() && !path.starts_with(&target))
            .filter_map(|path| path.strip_prefix(&top).ok()?.to_str())
            .filter(|name| !places.iter().any(|place| is_in(name, place)))
            .map(str::to_owned)
            .collect()
    }
}

/// The package of the end-to-end tests.
pub(crate) const END_TO_END: &str = "racklet-tests";

/// What the compiler read for this product: cargo keeps it beside, as a rule of make.
pub(crate) fn compiled_from(product: &Path) -> Result<BTreeSet<PathBuf>> {
    let name = product.file_stem().unwrap_or_default().to_string_lossy();
    let name = match product.extension() {
        // `libx-1.rlib` comes with `x-1.d`, the program `x-1` as well.
        Some(_) => name.strip_prefix("lib").unwrap_or(&name).to_owned(),
        None => name.into_owned(),
    };
    let rule = product.with_file_name(name + ".d");
    let text = fs::read_to_string(&rule).with_context(|| format!("read {}", rule.display()))?;
    let top = paths::workspace();
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, files)| files.split(' '))
        .map(|file| top.join(file))
        .collect())
}

/// What compiles, what is installed, and what of the surroundings tests can see.
pub(crate) fn surroundings() -> Result<Inputs> {
    let told = |program: &str, arguments: &[&str]| {
        output(
            Command::new(program)
                .args(arguments)
                .current_dir(paths::workspace()),
        )
    };
    let compiler = [told("rustc", &["-vV"])?, told("cargo", &["-V"])?];
    // Whatever is installed: libraries, interpreters and firmware count as much as the programs that tests call by name.
    let installed = told(
        "dpkg-query",
        &[
            "-W",
            "-f",
            "${Package} ${Version} ${Architecture} ${db:Status-Status}\n",
        ],
    )?;
    let found: Vec<(&str, PathBuf)> = TOOLS
        .into_iter()
        .filter_map(|tool| Some((tool, packages::find(tool)?)))
        .collect();
    let files: Vec<&PathBuf> = found.iter().map(|(_, path)| path).collect();
    let digests = hash::of_files(&files)?;
    let tools = found.iter().zip(&digests);
    let tools: Vec<&str> = tools
        .flat_map(|((tool, _), digest)| [*tool, digest])
        .collect();
    Ok(Inputs::default()
        .with(
            "compiler",
            hash::of_parts(compiler.iter().map(String::as_str))?,
        )
        .with("installed packages", hash::of_parts([installed.as_str()])?)
        .with("tools", hash::of_parts(tools)?)
        .with("kernel and rights", rights()?)
        .with("environment", environment(env::vars_os())?))
}

/// What this process may do, on which kernel: some tests do more where they may.
fn rights() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let mut parts: Vec<String> = status
        .lines()
        .filter(|line| {
            [
                "Uid:",
                "Gid:",
                "CapEff:",
                "CapBnd:",
                "NoNewPrivs:",
                "Seccomp:",
            ]
            .iter()
            .any(|name| line.starts_with(name))
        })
        .map(str::to_owned)
        .collect();
    for setting in [
        "kernel/osrelease",
        "user/max_user_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ] {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting));
        parts.push(format!("{setting} {}", value.unwrap_or_default()));
    }
    for device in ["/dev/kvm", "/dev/net/tun", "/dev/fuse", "/dev/loop-control"] {
        let opens = fs::File::options().read(true).write(true).open(device);
        parts.push(format!("{device} {}", opens.is_ok()));
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for file in [
        PathBuf::from("/etc/gitconfig"),
        "/etc/ssl/openssl.cnf".into(),
        home.join(".gitconfig"),
        home.join(".config/git/config"),
        home.join(".ssh/config"),
    ] {
        parts.push(digest_of(&file)?);
    }
    hash::of_parts(parts.iter().map(String::as_str))
}

/// The variables that compilers, tools and our own programs go by.
fn environment(
    variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<String> {
    let counts = |name: &str| {
        [
            "RUST",
            "RACKLET_",
            "PROPTEST_",
            "GIT_",
            "SSH_ASKPASS",
            "LC_",
            "CARGO_BUILD_",
            "CARGO_PROFILE_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
            || [
                "LANG",
                "LANGUAGE",
                "TZ",
                "CC",
                "CFLAGS",
                "LDFLAGS",
                "LD_PRELOAD",
                "LD_LIBRARY_PATH",
            ]
            .contains(&name)
            || name == "CARGO_ENCODED_RUSTFLAGS"
    };
    let found: BTreeSet<String> = variables
        // rustup sets these for whatever it starts, and the compiler's version is looked at.
        .filter(|(name, _)| !name.to_string_lossy().starts_with("RUSTUP_"))
        .filter(|(name, _)| counts(&name.to_string_lossy()))
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        // Cargo puts this checkout's folders in front of libraries'; all checkouts are to be alike.
        .map(|text| text.replace(&*paths::target().to_string_lossy(), "target"))
        .collect();
    hash::of_parts(found.iter().map(String::as_str))
}

#[cfg(test)]
mod tests;
