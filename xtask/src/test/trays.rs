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
    architecture::Architecture,
    controllers, harness, hash, paths,
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

/// Has a BMC beside its tray, and so goes by the sources of the firmware as well.
const CONSOLE: &str = "console";

/// Boards that an emulator has, and what of the end-to-end tests runs on each: the first, which everybody has, runs all of it.
///
/// Another architecture's processor is emulated everywhere, and a tray on it costs several times as much: these are the ways through
/// bootloader, kexec and KVM, and what a network or a card does wrong is the same code on all.
const BOARDS: [(&str, &[&str]); 2] = [
    ("qemu-x86_64", &[]),
    (
        "qemu-aarch64",
        &["boot_slots", "microvm_arm64", "raspberry_pi", "tray_life"],
    ),
];

/// Not on the first. A Raspberry Pi is a machine of its own in QEMU, and started with what is built for this architecture.
const ELSEWHERE: [&str; 2] = ["microvm_arm64", "raspberry_pi"];

/// What a program of tests boots, where that is not everything: in its board's folder of `target/racklet`, or `programs/` for those of
/// a tray. It sees nothing else, so that a row which names too little makes its tests fail.
const BOOTED: [(&str, &[&str]); 3] = [
    (
        "boot_slots",
        &[
            "kernel/tray/uefi",
            "os/bootloader.efi",
            "os/probe.efi",
            "busybox",
        ],
    ),
    (
        "microvm",
        &[
            "kernel/tray/kexec",
            "kernel/tray/modules",
            "kernel/guest/monitor",
            "programs/nested",
            "programs/vmm",
            "programs/guest-init",
            "programs/racklet-vmm",
        ],
    ),
    (
        "microvm_arm64",
        &[
            "kernel/tray/kexec",
            "kernel/tray/modules",
            "kernel/guest/monitor",
            "programs/nested",
            "programs/vmm",
            "programs/guest-init",
        ],
    ),
];

/// QEMU's own translator, as `RACKLET_ACCEL` names it.
const EMULATED: &str = "tcg";

/// Where the programs of a tray are, seen from there.
const PROGRAMS: &str = "programs/";

/// One process of tests.
struct Job {
    program: Program,
    path: PathBuf,
    /// One function, or all that the program has.
    function: Option<String>,
    board: &'static str,
    inputs: Inputs,
}

impl Job {
    fn what(&self) -> String {
        let what = match &self.function {
            Some(function) => format!("{}::{function}", self.program.name),
            None => self.program.name.clone(),
        };
        match self.board == BOARDS[0].0 {
            true => what,
            false => format!("{what}@{}", self.board),
        }
    }
}

pub(super) fn run(run: &mut Run, accelerator: &str) -> Result<()> {
    let built = built(&run.workspace, &["-p", END_TO_END, "--test", "*"])?;
    let mut jobs = VecDeque::new();
    for ((program, path), board) in built
        .iter()
        .flat_map(|it| boards(&it.0.name).map(move |b| (it, b)))
    {
        let architecture = Architecture::of_board(board)?;
        let inputs = run
            .inputs_of(program)?
            .and(&match booted(program) {
                Some(names) => digests(architecture, names)?,
                None if program.name == ADDING => {
                    Inputs::default().with("checkout", run.tree.digest(&[""])?)
                }
                None if program.name == CONSOLE => everything(run, architecture)?
                    .with("controllers", run.tree.digest(&controllers::SOURCES)?),
                None => everything(run, architecture)?,
            })
            .with("processor", accelerator);
        for function in functions(run, program, path)? {
            let job = Job {
                program: program.clone(),
                path: path.clone(),
                function,
                board,
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
        .env(harness::BOARD, job.board)
        .env("RACKLET_ACCEL", accelerator);
    if let Some(names) = booted(&job.program) {
        let architecture = Architecture::of_board(job.board)?;
        command.env("RACKLET_ARTIFACTS", view(&what, architecture, names)?);
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

/// The boards that a program of tests runs on.
fn boards(program: &str) -> impl Iterator<Item = &'static str> {
    let [(first, _), others @ ..] = &BOARDS;
    let first = (!ELSEWHERE.contains(&program)).then_some(*first);
    let others = others
        .iter()
        .filter(move |(_, runs)| runs.contains(&program));
    first
        .into_iter()
        .chain(others.map(|(board, _)| *board))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Where an artifact of [`BOOTED`] is.
fn place(architecture: &Architecture, name: &str) -> Result<PathBuf> {
    Ok(match name.strip_prefix(PROGRAMS) {
        Some(program) => tray::folder(architecture).join(program),
        None => architecture.products()?.join(name),
    })
}

pub(super) fn digests(architecture: &Architecture, names: &[&str]) -> Result<Inputs> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for name in names {
        let path = place(architecture, name)?;
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
fn view(what: &str, architecture: &Architecture, names: &[&str]) -> Result<PathBuf> {
    let folder = paths::target().join("e2e/artifacts").join(what);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in names {
        let link = folder.join(architecture.name).join(name);
        paths::made(link.parent().context("a name in a folder")?.into())?;
        std::os::unix::fs::symlink(place(architecture, name)?, &link)?;
    }
    Ok(folder)
}

/// Whatever was built for it: a tray's test starts from all of it, and who adds an artifact need not think of this.
fn everything(run: &Run, architecture: &Architecture) -> Result<Inputs> {
    // The user's tool has folders of this checkout compiled in: what it was built from is looked at instead.
    let mut inputs = run.workspace.sources(&run.tree, "racklet-cli", None)?;
    let products = paths::products()?;
    let programs = tray::folder(architecture);
    let mut next = vec![
        products.join("bin"),
        architecture.products()?,
        programs.clone(),
    ];
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
        let programs_only = path == programs;
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
        let on_boards = BOARDS.iter().flat_map(|(_, runs)| *runs).copied();
        let named = [DOCUMENTS, ADDING].into_iter().chain(ELSEWHERE);
        for name in rows.chain(TOGETHER).chain(on_boards).chain(named) {
            assert!(folder.join(format!("{name}.rs")).is_file(), "{name}");
        }
    }

    #[test]
    fn every_board_that_an_emulator_has_boots_in_tests() {
        for folder in fs::read_dir(paths::workspace().join("boards/trays")).unwrap() {
            let folder = folder.unwrap();
            let text = fs::read_to_string(folder.path().join("board.toml")).unwrap();
            let name = folder.file_name();
            let is_run = BOARDS.iter().any(|(board, _)| name == *board);
            assert_eq!(text.contains("\n[emulator]\n"), is_run, "{name:?}");
        }
        assert_eq!(Vec::from_iter(boards("tray_card")), ["qemu-x86_64"]);
        assert_eq!(Vec::from_iter(boards("tray_life")).len(), 2);
        for program in ELSEWHERE {
            assert_eq!(Vec::from_iter(boards(program)), ["qemu-aarch64"]);
        }
    }
}
