// SPDX-License-Identifier: Apache-2.0
//! The end-to-end tests: each function by itself, two at a time, and each with a verdict of its own.

use std::{
    collections::VecDeque,
    fs,
    io::Write as _,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Run, lanes,
    outcome::{self, Outcome},
    programs::{built, undeclared},
};
use crate::{
    hash, paths,
    progress::say,
    tray,
    verdict::{
        Inputs,
        inputs::{END_TO_END, Program},
    },
};

/// Each is a whole machine: more at a time than this only makes all of them late.
const AT_A_TIME: NonZero<usize> = NonZero::new(2).unwrap();

/// Programs whose functions look at one machine, and so run, pass and fail together.
const TOGETHER: [&str; 3] = ["microvm", "microvm_arm64", "tray_life"];

/// Boots nothing and takes a second, but reads every file: always run.
const DOCUMENTS: &str = "documents";

/// Copies and compiles what is here, and boots nothing: what it depends on is every file.
const ADDING: &str = "adding";

/// What a program of tests boots, where that is not everything: in `target/racklet`, or `programs/` for those of a tray. It sees
/// nothing else, so that a row which names too little makes its tests fail.
const BOOTED: [(&str, &[&str]); 3] = [
    (
        "boot_slots",
        &[
            "kernel/tray/bzImage",
            "os/bootloader.efi",
            "os/probe.efi",
            "bin/busybox",
        ],
    ),
    (
        "microvm",
        &[
            "kernel/tray/bzImage",
            "kernel/tray/modules",
            "kernel/guest/vmlinux",
            "programs/nested",
            "programs/vmm",
            "programs/guest-init",
            "programs/racklet-vmm",
        ],
    ),
    (
        "microvm_arm64",
        &[
            "arm64/Image",
            "arm64/host",
            "arm64/guest",
            "arm64/programs/nested",
            "arm64/programs/vmm",
            "arm64/programs/guest-init",
        ],
    ),
];

/// QEMU's own translator, as `RACKLET_ACCEL` names it.
const EMULATED: &str = "tcg";

/// Where the programs of a tray are, seen from `target/racklet`, and those for arm64.
const PROGRAMS: &str = "programs/";
const ARM64: &str = "arm64/programs/";

/// One process of tests.
struct Job {
    program: Program,
    path: PathBuf,
    /// One function, or all that the program has.
    function: Option<String>,
    inputs: Inputs,
}

impl Job {
    fn what(&self) -> String {
        match &self.function {
            Some(function) => format!("{}::{function}", self.program.name),
            None => self.program.name.clone(),
        }
    }
}

pub(super) fn run(run: &mut Run, accelerator: &str) -> Result<()> {
    let built = built(&run.workspace, &["-p", END_TO_END, "--test", "*"])?;
    let everything = everything(run)?;
    let mut jobs = VecDeque::new();
    for (program, path) in built {
        let inputs = run
            .inputs_of(&program)?
            .and(&match booted(&program) {
                Some(names) => digests(names)?,
                None if program.name == ADDING => {
                    Inputs::default().with("checkout", run.tree.digest(&[""])?)
                }
                None => everything.clone(),
            })
            .with("processor", accelerator);
        for function in functions(run, &program, &path)? {
            let job = Job {
                program: program.clone(),
                path: path.clone(),
                function,
                inputs: inputs.clone(),
            };
            let known = program.name != DOCUMENTS
                && run.takes_over(&format!("{} (trays)", program.name), &job.what(), &inputs);
            match TOGETHER.contains(&&*program.name) {
                _ if known => {}
                // The longest first, so that none of them is what everybody waits for at the end.
                true => jobs.push_front(job),
                false => jobs.push_back(job),
            }
        }
    }
    let total = jobs.len();
    if total == 0 {
        return Ok(());
    }
    say(&format!("  {total} to run, {AT_A_TIME} at a time"));
    let over = AtomicUsize::new(0);
    let this = &*run;
    let results = lanes::each(jobs, AT_A_TIME, |job| {
        let begun = Instant::now();
        let ended = done(this, job, accelerator, begun);
        tell(job, &ended, begun, over.fetch_add(1, Relaxed) + 1, total);
        ended
    });
    for (job, ended) in results {
        match ended {
            Ok(Ended { outcome, .. }) => {
                run.counts += outcome.counts;
                if !outcome.good {
                    run.failed.push(job.what());
                }
            }
            Err(_) => run.failed.push(job.what()),
        }
    }
    Ok(())
}

struct Ended {
    outcome: Outcome,
    /// All that was said, to be shown where that is not good.
    log: PathBuf,
}

/// Whether a tray's kernel said that a processor of its has no timer any more.
fn lost_a_timer(said: &str) -> bool {
    said.contains("kthread timer wakeup didn't happen")
}

/// Runs it; once more, where its emulated machine lost an interrupt. That is QEMU's fault and not the tray's (10.0.2, TCG, second
/// processor, seen twice in some three hundred starts), and nothing that a tray does can be told from such a run.
fn done(run: &Run, job: &Job, accelerator: &str, begun: Instant) -> Result<Ended> {
    let ended = tried(run, job, accelerator, begun)?;
    let stood_still = || fs::read_to_string(&ended.log).is_ok_and(|said| lost_a_timer(&said));
    if ended.outcome.good || accelerator != EMULATED || !stood_still() {
        return Ok(ended);
    }
    say(&format!(
        "  {}: a processor of its emulated machine lost its timer, and nothing went on; once more",
        job.what()
    ));
    tried(run, job, accelerator, begun)
}

/// Runs it, and keeps it when it passed: an interrupted run has paid for what was finished.
fn tried(run: &Run, job: &Job, accelerator: &str, begun: Instant) -> Result<Ended> {
    let what = job.what();
    let logs = paths::made(paths::target().join("e2e/log"))?;
    let log = logs.join(format!("{what}.log"));
    let trace = logs.join(format!("{what}.opened"));
    let mut said = fs::File::create(&log)?;
    let mut command = match run.traced {
        true => outcome::traced(&job.path, &trace),
        false => Command::new(&job.path),
    };
    match &job.function {
        Some(function) => command.args(["--exact", function]),
        None => command.args(&run.filter),
    };
    command
        .arg("--test-threads=1")
        .current_dir(run.workspace.folder(END_TO_END))
        .stderr(said.try_clone()?)
        .env("RACKLET_ACCEL", accelerator);
    if let Some(names) = booted(&job.program) {
        command.env("RACKLET_ARTIFACTS", view(&what, names)?);
    }
    let outcome = outcome::of(&mut command, |line| {
        // Evidence; what counts is told by the outcome.
        let _ = writeln!(said, "{line}");
    })?;
    if run.traced {
        let strays = run
            .workspace
            .strays(&job.program, &outcome::opened(&trace)?);
        if !strays.is_empty() {
            bail!(undeclared(&job.program, &strays));
        }
    }
    if outcome.good && outcome.counts.passed > 0 {
        run.passed(&what, &job.inputs, outcome.counts.passed, begun)?;
    }
    Ok(Ended { outcome, log })
}

fn tell(job: &Job, ended: &Result<Ended>, begun: Instant, number: usize, total: usize) {
    let what = job.what();
    let seconds = begun.elapsed().as_secs();
    let result = match ended {
        Ok(Ended { outcome, .. }) if outcome.good && job.function.is_none() => {
            format!("{} passed", outcome.counts.passed)
        }
        Ok(Ended { outcome, .. }) if outcome.good && outcome.counts.passed == 0 => "ignored".into(),
        Ok(Ended { outcome, .. }) if outcome.good => "ok".into(),
        Ok(Ended { log, .. }) => {
            println!("{}", fs::read_to_string(log).unwrap_or_default());
            "FAILED".into()
        }
        Err(error) => format!("FAILED: {error:#}"),
    };
    println!("test {what} ... {result} ({seconds} s, {number} of {total})");
}

/// The functions that each get a process; `None` stands for all of a program at once.
fn functions(run: &Run, program: &Program, path: &Path) -> Result<Vec<Option<String>>> {
    let list = Command::new(path)
        .args(["--list", "--format", "terse"])
        .output()
        .with_context(|| format!("start {}", path.display()))?;
    let text = String::from_utf8_lossy(&list.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let wanted = |name: &&str| {
        run.filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter))
    };
    let names: Vec<&str> = names.filter(wanted).collect();
    let together = TOGETHER.contains(&&*program.name) || program.name == DOCUMENTS;
    Ok(match together {
        true => names.first().map(|_| None).into_iter().collect(),
        false => names.iter().map(|name| Some((*name).into())).collect(),
    })
}

fn booted(program: &Program) -> Option<&'static [&'static str]> {
    let row = BOOTED.iter().find(|(name, _)| *name == program.name)?;
    Some(row.1)
}

/// Where an artifact of [`BOOTED`] is.
fn place(name: &str) -> Result<PathBuf> {
    if let Some(program) = name.strip_prefix(ARM64) {
        return Ok(tray::arm64_folder().join(program));
    }
    Ok(match name.strip_prefix(PROGRAMS) {
        Some(program) => tray::folder().join(program),
        None => paths::products()?.join(name),
    })
}

fn digests(names: &[&str]) -> Result<Inputs> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for name in names {
        let path = place(name)?;
        match path.is_dir() {
            false => files.push(((*name).to_owned(), path)),
            true => {
                for entry in fs::read_dir(&path)? {
                    let entry = entry?;
                    let file = entry.file_name();
                    files.push((format!("{name}/{}", file.to_string_lossy()), entry.path()));
                }
            }
        }
    }
    let places: Vec<&PathBuf> = files.iter().map(|(_, path)| path).collect();
    let digests = hash::of_files(&places)?;
    let all = files.iter().zip(digests);
    Ok(all.fold(Inputs::default(), |inputs, ((name, _), digest)| {
        inputs.with(format!("artifact {name}"), digest)
    }))
}

/// A folder with these artifacts and no others.
fn view(what: &str, names: &[&str]) -> Result<PathBuf> {
    let folder = paths::target().join("e2e/artifacts").join(what);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in names {
        let link = folder.join(name);
        paths::made(link.parent().context("a name in a folder")?.into())?;
        std::os::unix::fs::symlink(place(name)?, &link)?;
    }
    Ok(folder)
}

/// Whatever was built: a tray's test starts from all of it, and who adds an artifact need not think of this.
fn everything(run: &Run) -> Result<Inputs> {
    // The user's tool has folders of this checkout compiled in: what it was built from is looked at instead.
    let mut inputs = run.workspace.sources(&run.tree, "racklet-cli", None)?;
    let products = paths::products()?;
    let mut next: Vec<PathBuf> = ["bin", "kernel", "os"]
        .map(|name| products.join(name))
        .into();
    next.push(tray::folder());
    while let Some(path) = next.pop() {
        let name = path.display().to_string();
        if path == products.join("bin/racklet") || name.ends_with(".made-from") {
            continue;
        }
        if !path.is_dir() {
            let name = path.strip_prefix(paths::target()).unwrap_or(&path);
            inputs = inputs.with(
                format!("artifact {}", name.display()),
                hash::of_file(&path)?,
            );
            continue;
        }
        let programs_only = path == tray::folder();
        for entry in fs::read_dir(&path).with_context(|| format!("read {name}"))? {
            let entry = entry?.path();
            // Cargo's own folders and rules lie beside the programs.
            if !programs_only || (entry.is_file() && entry.extension().is_none()) {
                next.push(entry);
            }
        }
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_lost_its_timer_is_told_from_one_that_failed() {
        let rcu = "[  127.358847] rcu: rcu_sched kthread timer wakeup didn't happen for 15750 jiffies! g-1171 f0x0";
        assert!(lost_a_timer(&format!("Error: tray-1\n    {rcu}\n")));
        assert!(!lost_a_timer(
            "rcu: rcu_sched kthread starved for 15751 jiffies!"
        ));
    }

    #[test]
    fn rows_about_single_programs_name_programs_that_are_there() {
        let folder = paths::workspace().join("tests/tests");
        let rows = BOOTED.iter().map(|(name, _)| *name);
        for name in rows.chain(TOGETHER).chain([DOCUMENTS, ADDING]) {
            assert!(folder.join(format!("{name}.rs")).is_file(), "{name}");
        }
    }
}
