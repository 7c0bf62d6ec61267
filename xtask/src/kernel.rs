// SPDX-License-Identifier: Apache-2.0
//! The kernels of `image/kernel/recipes`, from the distribution's `linux-source-6.12`.
//!
//! Built reproducibly and kept by the hash of everything that goes in: source package, options, compiler. What is taken
//! from the cache is checked against its list of hashes first; what does not match is built again.
//!
//! Modules lie beside the kernel in the order in which they can be loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    architecture::Architecture,
    debian::{self, Deb},
    hash, paths,
    process::output,
    progress::{self, say},
};

const PACKAGE: &str = "linux-source-6.12";
/// The key of the step that downloads it.
pub(crate) const DOWNLOAD: &str = "download-linux-source-6.12";

/// The kernels and what each is made of; beside its fragments.
const RECIPES: &str = include_str!("../../image/kernel/recipes");

/// A kernel: its name and the fragments it is made of, in order.
struct Recipe {
    name: &'static str,
    architecture: &'static Architecture,
    /// Seconds on two slow cores.
    guess: u64,
    /// What is kept of the build: under which name, and the target of the kernel's own build that makes it.
    keeps: Vec<(&'static str, &'static str)>,
    fragments: Vec<&'static str>,
    /// What is changed of the source.
    patches: Vec<&'static str>,
}

/// The recipes, in the order in which they are built.
fn recipes() -> Vec<Recipe> {
    let lines = RECIPES.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut next = || words.next().expect("image/kernel/recipes has its columns");
            let (name, architecture, guess, keeps) = (next(), next(), next(), next());
            let (patches, fragments) = words.partition(|word| word.ends_with(".patch"));
            Recipe {
                name,
                architecture: Architecture::named(architecture).expect("the second column is one"),
                guess: guess.parse().expect("the third column is a number"),
                keeps: keeps
                    .split(',')
                    .map(|pair| pair.split_once('=').expect("the fourth has pairs"))
                    .collect(),
                fragments,
                patches,
            }
        })
        .collect()
}

impl Recipe {
    /// For people, and the key under which is noted how long it takes.
    fn title(&self) -> String {
        format!("{} for {}", self.name, self.architecture.name)
    }

    fn key(&self) -> String {
        format!("kernel-{}-{}", self.name, self.architecture.name)
    }

    /// What a finished kernel consists of, besides modules.
    fn files(&self) -> impl Iterator<Item = &'static str> {
        let kept = self.keeps.iter().map(|(name, _)| *name);
        kept.chain(["config", "version", "source"])
    }

    /// Where the kernel's build puts what a target of it makes.
    fn made(&self, build: &Path, target: &str) -> PathBuf {
        let boot = build
            .join("arch")
            .join(self.architecture.kernel)
            .join("boot");
        match target {
            "vmlinux" => build.join(target),
            tree if tree.ends_with(".dtb") => boot.join("dts").join(tree),
            image => boot.join(image),
        }
    }
}

/// Where a kernel's files are, in the target folder.
pub(crate) fn folder(architecture: &Architecture, name: &str) -> Result<PathBuf> {
    Ok(architecture.products()?.join("kernel").join(name))
}

/// What the doctor is told of a kernel.
pub(crate) struct Told {
    pub(crate) title: String,
    pub(crate) key: String,
    pub(crate) architecture: &'static Architecture,
    /// Seconds that it takes to build.
    pub(crate) guess: u64,
    /// Whether it is in the cache, where it is not verified for this.
    pub(crate) there: bool,
}

/// Which kernels there are, and which of them need not be built.
pub(crate) fn cached() -> Result<Vec<Told>> {
    let deb = debian::recorded(PACKAGE)?;
    let told = |recipe: &Recipe| -> Result<Told> {
        // Without a compiler there is no key, and surely no kernel.
        let there = match (&deb, Tools::of(recipe.architecture)) {
            (Some(deb), Ok(tools)) => {
                let entry = tools.entry(recipe, &Texts::of(recipe)?, deb)?;
                entry.join("sha256").is_file()
            }
            _ => false,
        };
        Ok(Told {
            title: recipe.title(),
            key: recipe.key(),
            architecture: recipe.architecture,
            guess: recipe.guess,
            there,
        })
    };
    recipes().iter().map(told).collect()
}

/// Whether the source package and what is in it need not be brought.
pub(crate) fn source_is_there() -> Result<(bool, bool)> {
    Ok(match debian::recorded(PACKAGE)? {
        Some(deb) => (true, source_folder(&deb)?.exists()),
        None => (false, false),
    })
}

/// What a kernel depends on besides its source and its fragments.
struct Tools {
    compiler: String,
    linker: String,
}

impl Tools {
    fn of(architecture: &Architecture) -> Result<Self> {
        let version = |tool| output(Command::new(architecture.tool(tool)).arg("--version"));
        Ok(Self {
            compiler: version("gcc")?,
            linker: version("ld")?,
        })
    }

    /// Where in the cache the kernel is that is made of this.
    fn entry(&self, recipe: &Recipe, texts: &Texts, deb: &Deb) -> Result<PathBuf> {
        let mut parts = vec![deb.sha256.as_str(), &self.compiler, &self.linker];
        parts.push(recipe.architecture.name);
        parts.extend(recipe.keeps.iter().flat_map(|(name, made)| [*name, *made]));
        // A comment that was reworded builds no kernel, nor does a line that was moved.
        parts.extend(options(&texts.fragments).into_values());
        parts.extend(texts.patches.iter().map(String::as_str));
        Ok(paths::cache()?.join("kernels").join(hash::of_parts(parts)?))
    }
}

/// Builds or reuses the named kernels, all of them if none is named, for these architectures, and puts them into the target folder.
pub(crate) fn build(names: &[String], architectures: &[&Architecture]) -> Result<()> {
    let recipes = recipes();
    if let Some(unknown) = names
        .iter()
        .find(|name| recipes.iter().all(|recipe| recipe.name != **name))
    {
        let known: BTreeSet<_> = recipes.iter().map(|recipe| recipe.name).collect();
        bail!(
            "there is no kernel {unknown}; there are {}",
            Vec::from_iter(known).join(", ")
        );
    }
    let deb = debian::download(PACKAGE, "6.12.")?;
    let chosen = recipes
        .iter()
        .filter(|recipe| names.is_empty() || names.iter().any(|name| name == recipe.name))
        .filter(|recipe| architectures.contains(&recipe.architecture));
    for recipe in chosen {
        let texts = Texts::of(recipe)?;
        let tools = Tools::of(recipe.architecture)?;
        let entry = tools.entry(recipe, &texts, &deb)?;
        if !is_intact(recipe, &entry)? {
            make(recipe, &texts, &deb, &entry)?;
        }
        let to = folder(recipe.architecture, recipe.name)?;
        // Modules of an older kernel must not stay.
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        for (_, file) in listed(&fs::read_to_string(entry.join("sha256"))?) {
            let place = to.join(file);
            paths::made(place.parent().expect("it is in a folder").to_owned())?;
            fs::copy(entry.join(file), &place)
                .with_context(|| format!("copy {file} of kernel {}", recipe.title()))?;
        }
    }
    Ok(())
}

/// A recipe's fragments and patches, read.
struct Texts {
    fragments: Vec<String>,
    patches: Vec<String>,
}

impl Texts {
    fn of(recipe: &Recipe) -> Result<Self> {
        let read = |file: String| {
            let path = paths::workspace().join("image/kernel").join(file);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let fragments = recipe.fragments.iter();
        let patches = recipe.patches.iter();
        Ok(Self {
            fragments: fragments
                .map(|name| read(format!("{name}.config")))
                .collect::<Result<_>>()?,
            patches: patches
                .map(|name| read(format!("patches/{name}")))
                .collect::<Result<_>>()?,
        })
    }
}

/// Digests and names in a list as `sha256sum` writes it.
fn listed(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| line.split_once("  "))
}

/// Whether every file is as it was when it was put there.
fn is_intact(recipe: &Recipe, entry: &Path) -> Result<bool> {
    let Ok(list) = fs::read_to_string(entry.join("sha256")) else {
        return Ok(false);
    };
    let spoilt = |path: &Path| {
        say(&format!(
            "  {} in the cache is not what was put there: building it again",
            paths::short(path)
        ));
        Ok(false)
    };
    if let Some(missing) = recipe
        .files()
        .find(|file| listed(&list).all(|(_, name)| name != *file))
    {
        return spoilt(&entry.join(missing));
    }
    let files: Vec<PathBuf> = listed(&list).map(|(_, name)| entry.join(name)).collect();
    if let Some(missing) = files.iter().find(|path| !path.is_file()) {
        return spoilt(missing);
    }
    let digests = hash::of_files(&files)?;
    for ((wanted, _), (path, found)) in listed(&list).zip(files.iter().zip(&digests)) {
        if wanted != found {
            return spoilt(path);
        }
    }
    Ok(true)
}

fn make(recipe: &Recipe, texts: &Texts, deb: &Deb, entry: &Path) -> Result<()> {
    let Texts { fragments, patches } = texts;
    let mut source = unpacked(deb)?;
    if !patches.is_empty() {
        source = patched(&source, patches)
            .with_context(|| format!("patch the source of kernel {}", recipe.title()))?;
    }
    let Recipe { architecture, .. } = recipe;
    let build = paths::products()?.join("kernel-build").join(recipe.key());
    if build.exists() {
        fs::remove_dir_all(&build)?;
    }
    paths::made(build.clone())?;
    let jobs = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let make = |targets: &[&str]| {
        let mut command = Command::new("make");
        command
            .arg("-C")
            .arg(&source)
            .arg(format!("O={}", build.display()))
            .arg(format!("-j{jobs}"))
            .arg(format!("ARCH={}", architecture.kernel))
            .arg(format!("CROSS_COMPILE={}", architecture.cross))
            .args(targets)
            .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
            .env("KBUILD_BUILD_USER", "racklet")
            .env("KBUILD_BUILD_HOST", "racklet")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("SOURCE_DATE_EPOCH", "0")
            .env("LC_ALL", "C")
            // Ours are for cargo; the kernel's build would take them for its own.
            .env_remove("MAKEFLAGS")
            .env_remove("CFLAGS")
            .env_remove("RUSTFLAGS");
        command
    };
    let title = |what: &str| format!("kernel {}: {what}", recipe.title());
    progress::run(
        &title("configuration"),
        "kernel-config",
        10,
        &mut make(&["tinyconfig"]),
    )?;
    let path = build.join(".config");
    let config = format!("{}\n{}", fs::read_to_string(&path)?, fragments.join("\n"));
    fs::write(&path, config)?;
    progress::run(
        &title("configuration, completed"),
        "kernel-config",
        10,
        &mut make(&["olddefconfig"]),
    )?;
    let config = fs::read_to_string(&path)?;
    let lost = not_taken(fragments, &config);
    if !lost.is_empty() {
        bail!(
            "kernel {}: these lines of its fragments did not take effect (a dependency is missing?):\n  {}",
            recipe.title(),
            lost.join("\n  ")
        );
    }
    let mut targets: Vec<&str> = recipe.keeps.iter().map(|(_, made)| *made).collect();
    let with_modules = config.lines().any(|line| line == "CONFIG_MODULES=y");
    targets.extend(with_modules.then_some("modules"));
    progress::run(
        &title("compile"),
        &recipe.key(),
        recipe.guess,
        &mut make(&targets),
    )?;

    let version = fs::read_to_string(build.join("include/config/kernel.release"))?;
    let partial = entry.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    paths::made(partial.clone())?;
    let strip = |what: &str, from: &Path, to: &Path| {
        let mut command = Command::new(architecture.tool("strip"));
        output(command.arg(what).arg("-o").arg(to).arg(from))
    };
    for (name, target) in &recipe.keeps {
        let (from, to) = (recipe.made(&build, target), partial.join(name));
        match *target {
            "vmlinux" => strip("--strip-all", &from, &to).map(drop)?,
            _ => fs::copy(&from, &to)
                .map(drop)
                .with_context(|| format!("copy {}", from.display()))?,
        }
    }
    let mut files: Vec<String> = recipe.files().map(str::to_owned).collect();
    if with_modules {
        paths::made(partial.join("modules"))?;
        for (place, module) in load_order(modules(&build)?)?.into_iter().enumerate() {
            let file = format!("modules/{place:02}-{}.ko", module.name);
            strip("--strip-debug", &module.path, &partial.join(&file))?;
            files.push(file);
        }
    }
    fs::write(partial.join("config"), config)?;
    fs::write(partial.join("version"), version)?;
    fs::write(
        partial.join("source"),
        format!("{} sha256:{}\n", deb.version, deb.sha256),
    )?;
    let paths: Vec<PathBuf> = files.iter().map(|file| partial.join(file)).collect();
    let list: String = files
        .iter()
        .zip(hash::of_files(&paths)?)
        .map(|(file, digest)| format!("{digest}  {file}\n"))
        .collect();
    fs::write(partial.join("sha256"), list)?;
    if entry.exists() {
        fs::remove_dir_all(entry)?;
    }
    fs::rename(&partial, entry).context("put the kernel into the cache")?;
    // Half a gigabyte that nobody needs again.
    fs::remove_dir_all(&build).context("remove the build folder")?;
    if !patches.is_empty() {
        fs::remove_dir_all(&source).context("remove the patched source")?;
    }
    Ok(())
}

/// A module as it was built, and the names of those that have to be loaded before it.
#[derive(Debug)]
struct Module {
    name: String,
    path: PathBuf,
    needs: Vec<String>,
}

/// All modules of a build; `modules.order` lists their objects.
fn modules(build: &Path) -> Result<Vec<Module>> {
    let order = fs::read_to_string(build.join("modules.order")).context("read modules.order")?;
    let module = |line: &str| {
        let path = build.join(line).with_extension("ko");
        let name = path.file_stem().context("a module without a name")?;
        let contents = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Module {
            name: spelt(&name.to_string_lossy()),
            needs: needs(&contents)
                .with_context(|| format!("{} does not say what it needs", path.display()))?,
            path,
        })
    };
    order.lines().map(module).collect()
}

/// The kernel takes `-` and `_` in a module's name for the same.
fn spelt(name: &str) -> String {
    name.replace('_', "-")
}

/// What a module says that it needs: its `depends=` among the texts of `.modinfo`, which end in a zero byte each.
fn needs(module: &[u8]) -> Option<Vec<String>> {
    let key = b"\0depends=";
    let start = module.windows(key.len()).position(|bytes| bytes == key)? + key.len();
    let text = module[start..].split(|byte| *byte == 0).next()?;
    let names = std::str::from_utf8(text).ok()?.split(',');
    Some(names.filter(|name| !name.is_empty()).map(spelt).collect())
}

/// The modules in an order in which each can be loaded; by name where either may come first.
fn load_order(mut modules: Vec<Module>) -> Result<Vec<Module>> {
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ordered: Vec<Module> = Vec::new();
    while !modules.is_empty() {
        let ready = |module: &Module| {
            let there = |name: &String| ordered.iter().any(|done| done.name == *name);
            module.needs.iter().all(there)
        };
        let Some(next) = modules.iter().position(ready) else {
            bail!("modules need what is not there, or each other: {modules:?}");
        };
        let module = modules.remove(next);
        ordered.push(module);
    }
    Ok(ordered)
}

fn source_folder(deb: &Deb) -> Result<PathBuf> {
    Ok(paths::cache()?.join("linux-source").join(&deb.sha256))
}

/// The kernel's source, unpacked; once.
fn unpacked(deb: &Deb) -> Result<PathBuf> {
    let folder = source_folder(deb)?;
    if folder.exists() {
        return Ok(folder);
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    paths::made(partial.clone())?;
    let package = debian::unpack(deb)?;
    progress::run(
        "unpack the kernel's source",
        "kernel-unpack",
        60,
        Command::new("tar")
            .arg("-xf")
            .arg(package.join(format!("usr/src/{PACKAGE}.tar.xz")))
            .arg("-C")
            .arg(&partial)
            .arg("--strip-components=1"),
    )?;
    fs::remove_dir_all(&package)?;
    fs::rename(&partial, &folder)?;
    Ok(folder)
}

/// A copy of the source with these patches, beside it; there is one at a time, since whoever builds holds the cache.
fn patched(source: &Path, patches: &[String]) -> Result<PathBuf> {
    let copy = source.with_extension("patched");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    // By links, 80,000 of them: `patch` writes a file anew, and the original stays as it is.
    output(Command::new("cp").arg("-al").arg(source).arg(&copy))?;
    for text in patches {
        let file = source.with_extension("patch");
        fs::write(&file, text)?;
        // Exactly where it says: another source wants another look at the patch.
        let mut apply = Command::new("patch");
        apply.args(["-p1", "--fuzz=0", "--batch", "--forward"]);
        output(apply.arg("-d").arg(&copy).arg("-i").arg(file))?;
    }
    Ok(copy)
}

/// What fragments ask for, by symbol. A later fragment overrides an earlier one.
fn options(fragments: &[String]) -> BTreeMap<&str, &str> {
    let lines = fragments.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| Some((symbol(line)?, line)))
        .collect()
}

/// The fragments' lines that the final configuration does not agree with.
fn not_taken(fragments: &[String], config: &str) -> Vec<String> {
    let has = |line: &str| config.lines().any(|other| other == line);
    let is_set = |name: &str| {
        config.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('='))
        })
    };
    options(fragments)
        .into_iter()
        .filter(|(name, line)| {
            if line.starts_with('#') {
                is_set(name)
            } else {
                !has(line)
            }
        })
        .map(|(_, line)| line.to_owned())
        .collect()
}

fn symbol(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        let end = rest.find(" is not set")?;
        return Some(&line[2..2 + "CONFIG_".len() + end]);
    }
    line.starts_with("CONFIG_")
        .then(|| line.split('=').next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_line_that_the_kernel_dropped_is_named() {
        let fragments = [
            "# note\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x y\"\nCONFIG_D=y\n".to_owned(),
            "# CONFIG_D is not set\n".to_owned(),
        ];
        let good = "CONFIG_A=y\nCONFIG_C=\"x y\"\nCONFIG_DD=y\n";
        assert_eq!(not_taken(&fragments, good), Vec::<String>::new());
        let bad = "CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=\"x y\"\nCONFIG_D=y\n";
        assert_eq!(
            not_taken(&fragments, bad),
            [
                "CONFIG_A=y",
                "# CONFIG_B is not set",
                "# CONFIG_D is not set"
            ]
        );
    }

    #[test]
    fn a_kernel_in_the_cache_that_was_changed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let entry = folder.path();
        fs::create_dir(entry.join("modules")).unwrap();
        let recipe = &recipes()[0];
        let files: Vec<_> = recipe.files().chain(["modules/00-llc.ko"]).collect();
        let mut list = String::new();
        for file in &files {
            fs::write(entry.join(file), file).unwrap();
            list += &format!("{}  {file}\n", hash::of_file(&entry.join(file)).unwrap());
        }
        assert!(!is_intact(recipe, entry).unwrap());
        fs::write(entry.join("sha256"), &list).unwrap();
        assert!(is_intact(recipe, entry).unwrap());
        for file in &files {
            fs::write(entry.join(file), "other").unwrap();
            assert!(!is_intact(recipe, entry).unwrap(), "{file} was changed");
            fs::remove_file(entry.join(file)).unwrap();
            assert!(!is_intact(recipe, entry).unwrap(), "{file} is gone");
            fs::write(entry.join(file), file).unwrap();
        }
        let (_, short) = list.split_once('\n').unwrap();
        fs::write(entry.join("sha256"), short).unwrap();
        assert!(!is_intact(recipe, entry).unwrap(), "the list lacks a file");
    }

    #[test]
    fn modules_are_loaded_after_what_they_need() {
        let module = |name: &str, needs: &[u8]| Module {
            name: name.to_owned(),
            path: PathBuf::new(),
            needs: super::needs(&[b"license=GPL\0depends=", needs, b"\0name=x\0"].concat())
                .unwrap(),
        };
        let names = |modules| -> Option<Vec<String>> {
            let ordered = load_order(modules).ok()?;
            Some(ordered.into_iter().map(|module| module.name).collect())
        };
        let modules = vec![
            module("bridge", b"stp,llc"),
            module("kvm-amd", b"kvm_x86"),
            module("llc", b""),
            module("stp", b"llc"),
            module("kvm-x86", b""),
        ];
        let order = ["kvm-x86", "kvm-amd", "llc", "stp", "bridge"].map(str::to_owned);
        assert_eq!(names(modules), Some(order.to_vec()));
        assert_eq!(names(vec![module("a", b"b"), module("b", b"a")]), None);
        assert_eq!(names(vec![module("a", b"gone")]), None);
        assert_eq!(super::needs(b"no such text"), None);
    }

    #[test]
    fn a_kernel_is_built_anew_for_another_option_and_not_for_another_comment() {
        let deb = Deb {
            version: "6.12.1-1".into(),
            sha256: "0".repeat(64),
            path: PathBuf::new(),
        };
        let tools = Tools {
            compiler: "gcc 12".into(),
            linker: "ld 2.40".into(),
        };
        let [recipe, other, ..] = &recipes()[..] else {
            panic!("there are several");
        };
        let texts = |fragments: &[&str], patches: &[&str]| Texts {
            fragments: fragments.iter().map(|&text| text.to_owned()).collect(),
            patches: patches.iter().map(|&text| text.to_owned()).collect(),
        };
        let of = |fragment: &str| tools.entry(recipe, &texts(&[fragment], &[]), &deb).unwrap();
        let entry = of("# Why.\nCONFIG_A=y\n# CONFIG_B is not set\n");
        assert_eq!(entry, of("CONFIG_A=y\n# CONFIG_B is not set\n# Because.\n"));
        assert_ne!(entry, of("# Why.\nCONFIG_A=m\n# CONFIG_B is not set\n"));
        assert_ne!(entry, of("# Why.\nCONFIG_A=y\n"));
        // Nor for a line that was moved, into another fragment too; the last one counts.
        let moved = texts(
            &["# CONFIG_B is not set\nCONFIG_A=m\n", "CONFIG_A=y\n"],
            &[],
        );
        assert_eq!(entry, tools.entry(recipe, &moved, &deb).unwrap());
        let kept = tools.entry(other, &moved, &deb).unwrap();
        assert_ne!(entry, kept, "other files are kept of the build");
        // And of another source.
        let patched = |patch: &str| {
            let texts = texts(&["CONFIG_A=y\n# CONFIG_B is not set\n"], &[patch]);
            tools.entry(recipe, &texts, &deb).unwrap()
        };
        assert_ne!(entry, patched("+one"));
        assert_ne!(patched("+one"), patched("+two"));
    }

    #[test]
    fn a_patch_changes_a_copy_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "one\ntwo\nthree\n").unwrap();
        let patch = "--- a/file\n+++ b/file\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
        let copy = patched(&source, &[patch.to_owned()]).unwrap();
        assert_eq!(
            fs::read_to_string(copy.join("file")).unwrap(),
            "one\n2\nthree\n"
        );
        assert_eq!(
            fs::read_to_string(source.join("file")).unwrap(),
            "one\ntwo\nthree\n"
        );
        // What fits nearly does not fit.
        let other = patch.replace(" three", " four");
        assert!(patched(&source, &[other]).is_err());
    }

    #[test]
    fn every_fragment_and_patch_of_a_recipe_is_there() {
        let recipes = recipes();
        assert!(!recipes.is_empty());
        for recipe in &recipes {
            let texts = Texts::of(recipe).unwrap();
            assert_eq!(texts.fragments.len(), recipe.fragments.len());
            for (name, text) in recipe.patches.iter().zip(&texts.patches) {
                for said in ["What it does:", "Why:", "Upstream:"] {
                    assert!(text.contains(said), "{name} does not say: {said}");
                }
            }
            // Each architecture has both kernels, and no fragment of another.
            let own = format!("-{}", recipe.architecture.name);
            let (own, shared): (Vec<_>, Vec<_>) = recipe
                .fragments
                .iter()
                .copied()
                .partition(|it| it.ends_with(&own));
            assert_eq!(own.len(), shared.len(), "{}", recipe.title());
        }
    }
}
