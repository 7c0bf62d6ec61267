// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: the one command that says whether this checkout is good.
//!
//! What passed before with the same inputs is taken over ([`crate::verdict`]) and listed. What is run in any case: whatever
//! decides about trust, this tool's own tests (they read the whole checkout), the documents, and advisories about dependencies.

mod lanes;
mod outcome;
mod phases;
mod programs;
mod scratch;
mod trays;

use std::{collections::BTreeMap, path::Path, thread, time::Instant};

use anyhow::{Result, bail};

use crate::{
    architecture,
    arguments::Given,
    build, hardware, harness, lint, packages, paths,
    progress::say,
    verdict::Inputs,
    verdict::{
        Passed, Store,
        inputs::{Program, Tree, Workspace, surroundings},
    },
};
use outcome::Counts;
use phases::Phases;

pub(crate) const TAKES: &[(&str, &str)] = &[
    (
        "FILTER",
        "only tests whose name contains this, whatever is known of them",
    ),
    ("--again", "takes over nothing from earlier runs"),
    (
        "--traced",
        "watches (by strace) what each program opens: one that reads what is not among its inputs fails",
    ),
    (
        "--no-lint",
        "leaves out format, lints and dependency checks",
    ),
    (
        "--no-hardware",
        "leaves out the boards, which are checked only where KiCad is installed",
    ),
    ("--no-boot", "leaves out the tests that boot a tray"),
];

pub(crate) struct Arguments {
    filter: Option<String>,
    again: bool,
    traced: bool,
    no_lint: bool,
    no_hardware: bool,
    no_boot: bool,
}

impl From<&Given> for Arguments {
    fn from(given: &Given) -> Self {
        Self {
            filter: given.words.first().cloned(),
            again: given.has("--again"),
            traced: given.has("--traced"),
            no_lint: given.has("--no-lint"),
            no_hardware: given.has("--no-hardware"),
            no_boot: given.has("--no-boot"),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    // Before anything is built from it: what is changed from here on makes a verdict that is not kept.
    let tree = Tree::read(&paths::workspace())?;
    let mut phases = Phases::default();
    phases.begin("Setting up and building")?;
    // What boots is built for those who boot it.
    match arguments.no_boot {
        true => packages::require_all()?,
        false => {
            let all = Vec::from_iter(&architecture::ALL);
            build::everything(build::For::Tests, &all)?;
        }
    }
    // A mistake in what runs the tests would be in every verdict.
    let runner = tree.digest(&["xtask/src/test/", "xtask/src/verdict/"])?;
    let mut run = Run {
        workspace: Workspace::read()?,
        tree,
        surroundings: surroundings()?.with("how tests are run", runner),
        store: match arguments.filter {
            Some(_) => Store::closed(),
            None => Store::open(arguments.again || arguments.traced)?,
        },
        filter: arguments.filter.clone(),
        traced: arguments.traced,
        boots: !arguments.no_boot,
        counts: Counts::default(),
        taken_over: BTreeMap::new(),
        failed: Vec::new(),
    };
    if !arguments.no_lint {
        phases.begin("Checking")?;
        let inputs =
            run.with_surroundings(Inputs::default().with("checkout", run.tree.digest(&[""])?));
        if !run.takes_over("format and lints", "format and lints", &inputs) {
            let begun = Instant::now();
            lint::sources()?;
            run.passed("format and lints", &inputs, 1, begun)?;
        }
        lint::dependencies()?;
    }
    phases.begin("Unit and property tests, and boards beside them")?;
    let boards = match arguments.no_hardware || arguments.filter.is_some() {
        true => None,
        false => Boards::stale(&mut run)?,
    };
    // KiCad keeps one processor busy for minutes, and so do few of the programs.
    let judged = thread::scope(|scope| {
        let boards = boards.map(|boards| scope.spawn(|| boards.judge()));
        if let Err(error) = programs::run(&mut run) {
            run.fail("unit and property tests", &format!("{error:#}"));
        }
        boards.map(|boards| boards.join().expect("it panics nowhere"))
    });
    if let Some(judged) = judged {
        judged.told(&mut run)?;
    }
    if !arguments.no_boot {
        phases.begin("End-to-end tests, on trays in QEMU; what they said stays in target/e2e/")?;
        let accelerator = harness::accelerator()?;
        if let Err(error) = trays::run(&mut run, &accelerator) {
            run.fail("end-to-end tests", &format!("{error:#}"));
        }
    }
    phases.close()?;
    run.close(start)
}

/// Everything that one call of `cargo xtask test` knows.
struct Run {
    workspace: Workspace,
    tree: Tree,
    surroundings: Inputs,
    store: Store,
    filter: Option<String>,
    traced: bool,
    /// Whether what a tray boots is there, for who looks at it.
    boots: bool,
    counts: Counts,
    /// How many tests, by the program they are in.
    taken_over: BTreeMap<String, Passed>,
    failed: Vec<String>,
}

impl Run {
    fn with_surroundings(&self, inputs: Inputs) -> Inputs {
        inputs.and(&self.surroundings)
    }

    /// All that goes into a program which boots nothing.
    fn inputs_of(&self, program: &Program) -> Result<Inputs> {
        let package = &program.package;
        let sources = self.workspace.sources(&self.tree, package, Some(program))?;
        Ok(self.with_surroundings(sources))
    }

    /// Whether `what` has passed with these inputs; it is listed under `group` then.
    fn takes_over(&mut self, group: &str, what: &str, inputs: &Inputs) -> bool {
        let Some(passed) = self.store.find(what, inputs) else {
            return false;
        };
        let sum = self.taken_over.entry(group.into()).or_insert(Passed {
            tests: 0,
            seconds: 0,
        });
        sum.tests += passed.tests;
        sum.seconds += passed.seconds;
        true
    }

    /// Keeps that `what` passed, unless the checkout is no longer what the inputs say.
    fn passed(&self, what: &str, inputs: &Inputs, tests: u64, begun: Instant) -> Result<()> {
        if !self.tree.is_same(&Tree::read(&paths::workspace())?) {
            say(&format!(
                "  the checkout has changed meanwhile: it is not kept that {what} passed"
            ));
            return Ok(());
        }
        let seconds = begun.elapsed().as_secs();
        self.store.keep(what, inputs, Passed { tests, seconds })
    }

    fn fail(&mut self, what: &str, why: &str) {
        say(why);
        self.failed.push(what.into());
    }

    /// The list of what was taken over, and the sum of what was run, as `cargo test` closes.
    fn close(self, start: Instant) -> Result<()> {
        let sum = |of: fn(&Passed) -> u64| self.taken_over.values().map(of).sum::<u64>();
        if !self.taken_over.is_empty() {
            say(&format!(
                "\nTaken over, because it passed with exactly the same inputs (`--again` runs it): {} tests, {} s of work",
                sum(|passed| passed.tests),
                sum(|passed| passed.seconds),
            ));
            for (program, passed) in &self.taken_over {
                say(&format!("  {program}: {}", passed.tests));
            }
        }
        let seconds = start.elapsed().as_secs();
        say(&format!("\n{} min {} s in all", seconds / 60, seconds % 60));
        // A step that broke off counts as one failed test, so that this line never looks good when something was not.
        let failed = self.counts.failed.max(self.failed.len() as u64);
        let skipped = match self.counts.ignored {
            0 => String::new(),
            ignored => format!(", {ignored} skipped"),
        };
        println!("{} passed, {failed} failed{skipped}", self.counts.passed);
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        Ok(())
    }
}

/// The boards made again and compared, and the chain of checks over them: minutes of KiCad.
struct Boards {
    inputs: Inputs,
    /// Left out, where KiCad is not there, is not passed.
    complete: bool,
}

/// How that ended.
struct Judged {
    boards: Boards,
    begun: Instant,
    result: Result<()>,
}

impl Boards {
    const WHAT: &str = "boards";

    /// None where the same boards have passed.
    fn stale(run: &mut Run) -> Result<Option<Self>> {
        let complete = packages::hardware()?
            .iter()
            .all(packages::Package::is_there);
        let mut inputs = run.with_surroundings(Inputs::default());
        for package in ["racklet-kicad", "xtask"] {
            inputs = inputs.and(&run.workspace.sources(&run.tree, package, None)?);
        }
        let known = complete && run.takes_over(Self::WHAT, Self::WHAT, &inputs);
        Ok((!known).then_some(Self { inputs, complete }))
    }

    fn judge(self) -> Judged {
        let begun = Instant::now();
        Judged {
            result: hardware::check_if_installed(),
            boards: self,
            begun,
        }
    }
}

impl Judged {
    fn told(self, run: &mut Run) -> Result<()> {
        let Boards { inputs, complete } = &self.boards;
        match self.result {
            Ok(()) if *complete => run.passed(Boards::WHAT, inputs, 1, self.begun)?,
            Ok(()) => {}
            Err(error) => run.fail("hardware", &format!("{error:#}")),
        }
        Ok(())
    }
}

/// `path` as it is written in messages.
fn short(path: &Path) -> String {
    path.strip_prefix(paths::workspace())
        .unwrap_or(path)
        .display()
        .to_string()
}
