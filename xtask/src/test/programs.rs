// SPDX-License-Identifier: Apache-2.0
//! Unit and property tests, and the examples in the documentation: programs that boot nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Run, lanes,
    outcome::{self, Outcome},
    scratch::Scratch,
    short, trays,
};
use crate::{
    architecture, controllers, paths, tray,
    verdict::{
        Inputs,
        inputs::{ALL_READ, END_TO_END, Program, Workspace, compiled_from},
    },
};

/// Run each time: seconds, and a run that took over all the rest has still tested the part that all others lean on. What reads
/// the whole checkout (this tool's tests do) has no shorter list of inputs anyway.
const ALWAYS: [&str; 2] = ["racklet-trust", "xtask"];
/// Programs that are busy for longest, some of them with one processor: the first to begin, so that none is what all wait for at the end.
const LONG: [(&str, &str); 4] = [
    ("racklet-kicad", "mutations"),
    ("racklet-enclosure", "fit"),
    ("racklet-hypervisor", "daemon"),
    ("racklet-fetch", "arrival"),
];
/// Each has a thread per processor, and no program uses all of them all the time.
const PROGRAMS_AT_A_TIME: NonZero<usize> = NonZero::new(2).unwrap();
/// Programs whose tests wait nine tenths of their time, for servers that are slow on purpose and for daemons that look once a second.
const PATIENT: [(&str, &str); 3] = [
    ("racklet-fetch", "patience"),
    ("racklet-hypervisor", "daemon"),
    ("racklet-netd", "daemon"),
];
/// So many of their tests run at a time, where others have one per processor.
const AT_A_TIME: &str = "6";
const THREADS: &str = "RUST_TEST_THREADS";
/// Has guests for a tray's monitor as well as for its own, where that is built: which folder, and what of it.
const GUESTS: (&str, &str) = ("racklet-vmm", "bare_metal");
const TRAY: &str = "RACKLET_TEST_RULES_TRAY";
const TRAYS_PROGRAMS: [&str; 2] = ["programs/vmm", "programs/nested"];
const EXAMPLES: &str = "examples in the documentation";
/// Of the firmware, what runs on this machine: its core, and the models of the boards with what is tested against them.
const FIRMWARE: &str = "racklet-firmware-core";
const MODELS: &str = "racklet-firmware-model";

pub(super) fn run(run: &mut Run) -> Result<()> {
    let all: Vec<Program> = run
        .workspace
        .programs
        .iter()
        .filter(|program| program.package != END_TO_END || program.kind != "test")
        .cloned()
        .collect();
    let mut stale = Vec::new();
    for program in all {
        let (what, inputs) = (program.to_string(), inputs_of(run, &program)?);
        if ALWAYS.contains(&&*program.package) || !run.takes_over(&what, &what, &inputs) {
            stale.push(program);
        }
    }
    let (harness, rest): (Vec<_>, Vec<_>) = stale
        .into_iter()
        .partition(|program| program.package == END_TO_END);
    // With all packages at once, features are those of a whole build, and nothing is compiled a second time for this.
    let only_always = rest
        .iter()
        .all(|program| ALWAYS.contains(&&*program.package));
    let chosen: Vec<&str> = match only_always {
        true => ALWAYS.iter().flat_map(|package| ["-p", *package]).collect(),
        false => vec!["--workspace", "--exclude", END_TO_END],
    };
    let scratch = Scratch::make();
    each(run, &rest, &chosen, &scratch)?;
    if !harness.is_empty() {
        each(
            run,
            &harness,
            &["-p", END_TO_END, "--lib", "--bins"],
            &scratch,
        )?;
    }
    examples(run)?;
    firmware(run)
}

fn each(run: &mut Run, stale: &[Program], chosen: &[&str], scratch: &Scratch) -> Result<()> {
    let built = built(&run.workspace, chosen)?;
    let mut jobs = Vec::new();
    for program in stale {
        let path = built
            .get(program)
            .with_context(|| format!("cargo built no {program}"))?;
        jobs.push(Job {
            program,
            path,
            inputs: inputs_of(run, program)?,
        });
    }
    // A stable sort: what is not among them stays in its order.
    jobs.sort_by_key(|job| !LONG.contains(&(&*job.program.package, &*job.program.name)));
    let this = &*run;
    let ended = lanes::each(jobs, PROGRAMS_AT_A_TIME, |job| {
        let mut said = format!("     Running {} ({})\n", job.program, short(job.path));
        let outcome = job.run(this, scratch, &mut said);
        // Whole, so that a line below a program's name is that program's.
        print!("{said}");
        outcome
    });
    for (job, outcome) in ended {
        let outcome = outcome?;
        run.counts += outcome.counts;
        if !outcome.good {
            run.failed.push(job.program.to_string());
        }
    }
    Ok(())
}

/// One program to run.
struct Job<'a> {
    program: &'a Program,
    path: &'a Path,
    inputs: Inputs,
}

impl Job<'_> {
    /// Runs it, and keeps that it passed: an interrupted run has paid for what was finished.
    fn run(&self, run: &Run, scratch: &Scratch, said: &mut String) -> Result<Outcome> {
        let program = self.program;
        let begun = Instant::now();
        let log = paths::logs()?.join(format!("{program}.opened").replace('/', "-"));
        let mut command = match run.traced {
            true => outcome::traced(self.path, &log),
            false => Command::new(self.path),
        };
        command
            .args(&run.filter)
            .current_dir(run.workspace.folder(&program.package))
            .envs(
                scratch
                    .of(&program.package)
                    .map(|folder| ("TMPDIR", folder)),
            );
        if has_guests(program) && run.boots {
            command.env(TRAY, tray::folder(architecture::HERE));
        }
        if is_patient(program) && env::var_os(THREADS).is_none() {
            command.env(THREADS, AT_A_TIME);
        }
        let mut outcome = outcome::of(&mut command, |line| {
            let _ = writeln!(said, "{line}");
        })?;
        if !outcome.good {
            return Ok(outcome);
        }
        if run.traced {
            let strays = run.workspace.strays(program, &outcome::opened(&log)?);
            if !strays.is_empty() {
                let _ = writeln!(said, "{}", undeclared(program, &strays));
                outcome.good = false;
                return Ok(outcome);
            }
        }
        run.passed(
            &program.to_string(),
            &self.inputs,
            outcome.counts.passed,
            begun,
        )?;
        Ok(outcome)
    }
}

fn has_guests(program: &Program) -> bool {
    (&*program.package, &*program.name) == GUESTS
}

fn inputs_of(run: &Run, program: &Program) -> Result<Inputs> {
    let inputs = run.inputs_of(program)?;
    match has_guests(program) && run.boots {
        true => Ok(inputs.and(&trays::digests(architecture::HERE, &TRAYS_PROGRAMS)?)),
        false => Ok(inputs),
    }
}

fn is_patient(program: &Program) -> bool {
    PATIENT.contains(&(&*program.package, &*program.name))
}

/// Has cargo build the programs, gives where they are, and looks whether the compiler read anything that is not among the inputs.
pub(super) fn built(workspace: &Workspace, chosen: &[&str]) -> Result<BTreeMap<Program, PathBuf>> {
    let mut command = Command::new("cargo");
    command
        .args([
            "test",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .args(chosen)
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let out = command.output().context("start cargo test")?;
    if !out.status.success() {
        bail!("the tests do not compile");
    }
    let mut programs = BTreeMap::new();
    let mut seen: BTreeMap<Program, BTreeSet<PathBuf>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let Some((program, file)) = workspace.built(&message) else {
            continue;
        };
        if matches!(program.kind.as_str(), "lib" | "bin" | "test") && in_deps(&file) {
            seen.entry(program.clone())
                .or_default()
                .extend(compiled_from(&file)?);
        }
        if message["profile"]["test"] == true {
            programs.insert(program, file);
        }
    }
    for (program, read) in &seen {
        let strays = workspace.strays(program, read);
        if !strays.is_empty() {
            bail!(undeclared(program, &strays));
        }
    }
    Ok(programs)
}

/// Whether cargo keeps what the compiler read beside this product; final places (`target/debug/init`) have a copy.
fn in_deps(product: &Path) -> bool {
    product
        .parent()
        .is_some_and(|folder| folder.ends_with("deps"))
}

pub(super) fn undeclared(program: &Program, strays: &[String]) -> String {
    format!(
        "{program} reads what is not among its inputs, so that a change there would not run it again: {}\n\
         Name it in ALSO_READ in xtask/src/verdict/inputs.rs",
        strays.join(", ")
    )
}

/// Cargo compiles these itself, so that there is no program to look at: one verdict about all.
fn examples(run: &mut Run) -> Result<()> {
    let mut inputs = run.with_surroundings(Inputs::default());
    for program in run
        .workspace
        .programs
        .iter()
        .filter(|program| program.kind == "lib")
    {
        inputs = inputs.and(&run.workspace.sources(&run.tree, &program.package, None)?);
    }
    if run.takes_over(EXAMPLES, EXAMPLES, &inputs) {
        return Ok(());
    }
    let begun = Instant::now();
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--exclude", END_TO_END, "--doc"])
        .arg("--")
        .args(&run.filter)
        .current_dir(paths::workspace());
    // Several programs, and as many last lines: they are counted by what each says, and judged by how all of it ended.
    let mut counts = outcome::Counts::default();
    let outcome = outcome::of(&mut command, |line| {
        counts += outcome::Counts::told(line).unwrap_or_default();
        println!("{line}");
    })?;
    run.counts += counts;
    match outcome.good && counts.failed == 0 {
        true => run.passed(EXAMPLES, &inputs, counts.passed, begun),
        false => {
            run.failed.push(EXAMPLES.into());
            Ok(())
        }
    }
}

/// A workspace of its own, of which two crates run here: one verdict about both.
fn firmware(run: &mut Run) -> Result<()> {
    let mut sources = controllers::SOURCES.to_vec();
    sources.extend(ALL_READ);
    let inputs = Inputs::default().with("sources of the firmware", run.tree.digest(&sources)?);
    let inputs = run.with_surroundings(inputs);
    if run.takes_over(FIRMWARE, FIRMWARE, &inputs) {
        return Ok(());
    }
    let begun = Instant::now();
    let both = [
        "test", "-p", FIRMWARE, "-p", MODELS, "--lib", "--tests", "--",
    ];
    let mut command = controllers::cargo(&both);
    command.args(&run.filter);
    // Several programs, each with its counts.
    let mut counts = outcome::Counts::default();
    let outcome = outcome::of(&mut command, |line| {
        println!("{line}");
        counts += outcome::Counts::told(line).unwrap_or_default();
    })?;
    run.counts += counts;
    match outcome.good && counts.failed == 0 {
        true => run.passed(FIRMWARE, &inputs, counts.passed, begun),
        false => {
            run.failed.push(FIRMWARE.into());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch::IN_MEMORY;

    #[test]
    fn what_is_run_otherwise_than_the_rest_is_there() {
        let workspace = Workspace::read().unwrap();
        for (package, name) in PATIENT.into_iter().chain(LONG).chain([GUESTS]) {
            let is = |it: &Program| it.package == package && it.name == name;
            assert!(workspace.programs.iter().any(is), "{package} {name}");
        }
        for package in IN_MEMORY {
            let is = |it: &Program| it.package == package;
            assert!(workspace.programs.iter().any(is), "{package}");
        }
    }
}
