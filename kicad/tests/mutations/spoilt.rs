// SPDX-License-Identifier: Apache-2.0
//! Copies of committed projects, to be spoilt.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use racklet_kicad::{
    boards::{self, Board},
    check::project::Link,
    cli::{Kicad, Project},
    sexpr::Sexpr,
};

/// The smaller board.
const DRC: &str = "bmc";

/// A copy of a project, with its intent.
pub(crate) struct Spoilt {
    kicad: Kicad,
    pub(crate) project: Project,
    meant: Board,
    _scratch: tempfile::TempDir,
}

impl Spoilt {
    /// Of each committed project; none where KiCad is not installed.
    pub(crate) fn all() -> Vec<Self> {
        static IS_INSTALLED: LazyLock<bool> = LazyLock::new(Kicad::is_installed);
        if !*IS_INSTALLED {
            eprintln!("left out: KiCad 9 is not installed (`cargo xtask hardware` installs it)");
            return Vec::new();
        }
        let projects = Project::all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(projects.len() >= 2, "{projects:?}");
        projects.iter().map(Self::copy).collect()
    }

    /// Whether a test here spoils it for KiCad's rules of boards.
    pub(crate) fn is_for_drc(&self) -> bool {
        self.project.name == DRC
    }

    /// Of each that has a board.
    pub(crate) fn boards() -> Vec<Self> {
        let (with, without): (Vec<_>, Vec<_>) = Self::all().into_iter().partition(Self::has_board);
        for it in without {
            eprintln!("LEFT OUT: {} has no board yet", it.project.name);
        }
        with
    }

    /// The BMC's alone: for KiCad's rules of boards, which take seconds each.
    pub(crate) fn bmc() -> Vec<Self> {
        Self::of(DRC)
    }

    /// Of the board called `name`, once there is one.
    pub(crate) fn of(name: &str) -> Vec<Self> {
        let mut boards = Self::boards();
        boards.retain(|it| it.project.name == name);
        boards
    }

    fn copy(project: &Project) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        Self {
            kicad: Kicad::new().unwrap(),
            project: project.copied(scratch.path()).unwrap(),
            meant: boards::find(&project.name).unwrap(),
            _scratch: scratch,
        }
    }

    pub(crate) fn has_board(&self) -> bool {
        self.project.file("kicad_pcb").is_file()
    }

    /// Changes the board's file.
    pub(crate) fn board(&self, spoil: impl FnOnce(&mut Vec<Sexpr>)) {
        let path = self.project.file("kicad_pcb");
        let mut board = Sexpr::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        spoil(board.items_mut().unwrap());
        fs::write(path, board.to_string()).unwrap();
    }

    /// Replaces a text that the file with this ending has.
    pub(crate) fn replace(&self, ending: &str, from: &str, to: &str) {
        Self::replace_in(&self.project.file(ending), from, to);
    }

    /// Replaces a text that some sheet has, there and only there, once.
    pub(crate) fn on_a_sheet(&self, from: &str, to: &str) {
        Self::replace_in(&self.sheet_with(from), from, to);
    }

    /// The first sheet that has this text.
    pub(crate) fn sheet_with(&self, text: &str) -> PathBuf {
        let listed = fs::read_dir(&self.project.folder).unwrap();
        let mut sheets: Vec<_> = listed.map(|it| it.unwrap().path()).collect();
        sheets.retain(|path| path.extension().is_some_and(|it| it == "kicad_sch"));
        sheets.sort();
        let has = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(text);
        let found = sheets.into_iter().find(has);
        found.unwrap_or_else(|| panic!("{}: no sheet has {text}", self.project.name))
    }

    fn replace_in(path: &Path, from: &str, to: &str) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{} has no {from}", path.display());
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Leaves out the rule of creepage, the one that has KiCad compare every net with every other: 19 of the 26 seconds of processor time
    /// that its rules take on the BMC. No other rule looks at what it finds.
    pub(crate) fn no_creepage(&self) {
        let path = self.project.file("kicad_dru");
        let rules = fs::read_to_string(&path).unwrap();
        let (before, rest) = rules
            .split_once("(rule \"creepage at the input\"")
            .expect("the rule has this name");
        let (rule, behind) = rest.split_once("\n\n").expect("it ends its paragraph");
        assert!(rule.contains("constraint creepage") && !rule.contains("(rule"));
        fs::write(path, format!("{before}\n{behind}")).unwrap();
    }

    pub(crate) fn remove(&self, ending: &str) {
        fs::remove_file(self.project.file(ending)).unwrap();
    }

    /// What a link of the chain says; an error of its own counts.
    pub(crate) fn findings(&self, link: Link) -> Vec<String> {
        match link.findings(&self.kicad, &self.project, &self.meant) {
            Ok(findings) => findings,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let causes = std::iter::successors(Some(error), |error| error.source());
                vec![
                    causes
                        .map(|it| it.to_string())
                        .collect::<Vec<_>>()
                        .join(": "),
                ]
            }
        }
    }

    /// One finding of the link has all of these words.
    #[track_caller]
    pub(crate) fn refused(&self, link: Link, says: &[&str]) {
        self.among(&self.findings(link), says);
    }

    /// One of these findings has all of these words.
    #[track_caller]
    pub(crate) fn among(&self, found: &[String], says: &[&str]) {
        let all = |it: &String| says.iter().all(|word| it.contains(word));
        let name = &self.project.name;
        assert!(
            found.iter().any(all),
            "{name}: nothing is said of {says:?}, only:\n{}",
            found.join("\n")
        );
    }
}

/// Whether a part of a file is called `name`.
pub(crate) fn is(item: &Sexpr, name: &str) -> bool {
    item.name() == Some(name)
}

/// A part of the board by its designator.
pub(crate) fn part<'b>(board: &'b mut [Sexpr], reference: &str) -> &'b mut Sexpr {
    let mut parts = board.iter_mut().filter(|item| is(item, "footprint"));
    parts.find(|item| is_part(item, reference)).unwrap()
}

/// Whether a footprint is the part of that designator.
pub(crate) fn is_part(item: &Sexpr, reference: &str) -> bool {
    item.all("property")
        .any(|it| it.argument(0) == Some("Reference") && it.argument(1) == Some(reference))
}

/// The argument at `index` of the part called `name`, to be replaced.
pub(crate) fn argument<'i>(item: &'i mut Sexpr, name: &str, index: usize) -> &'i mut Sexpr {
    &mut item.get_mut(name).unwrap().items_mut().unwrap()[index + 1]
}

/// Adds to a number: `shift(item, "at", 0, 3.0)` moves to the right.
pub(crate) fn shift(item: &mut Sexpr, name: &str, index: usize, by: f64) {
    let at = argument(item, name, index);
    *at = racklet_kicad::sexpr::number(at.number().unwrap() + by);
}

/// The pads of a part.
pub(crate) fn pads(part: &mut Sexpr) -> impl Iterator<Item = &mut Sexpr> {
    let items = part.items_mut().unwrap().iter_mut();
    items.filter(|item| is(item, "pad"))
}

/// The number of a net, by the last part of its name.
pub(crate) fn net(board: &[Sexpr], name: &str) -> String {
    let mut nets = board.iter().filter(|item| is(item, "net"));
    let called = |it: &&Sexpr| it.argument(1).and_then(|it| it.rsplit('/').next()) == Some(name);
    nets.find(called).unwrap().argument(0).unwrap().to_owned()
}
