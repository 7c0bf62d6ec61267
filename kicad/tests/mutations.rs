// SPDX-License-Identifier: Apache-2.0
//! Every check refuses the mistake it is there for: copies of the committed projects, and of a board of two resistors, are spoilt
//! one way each, and the check has to say why. Runs where KiCad is installed.
//!
//! Mistakes within the circuits (an I2C address, a capacitor, a pin) are beside their checks in `kicad/src/check`.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, path::Path};

use racklet_kicad::{
    circuits,
    cli::{Kicad, KicadError, Project},
    design::Design,
    generate, outputs,
    sexpr::{Sexpr, number},
};

mod boards;

/// Each board that there is, copied, with its intent.
fn each(check: impl Fn(&Kicad, &Project, &Design)) {
    if !Kicad::is_installed() {
        eprintln!("left out: KiCad 9 is not installed (`cargo xtask hardware` installs it)");
        return;
    }
    let kicad = Kicad::new().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let two = boards::two_resistors(scratch.path(), |board| board);
    check(&kicad, &two, &boards::intent());
    for project in Project::all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap() {
        if !project.file("kicad_pcb").is_file() {
            eprintln!("left out: {} has no board yet", project.name);
            continue;
        }
        let design = circuits::find(&project.name);
        let copy = project.copied(scratch.path()).unwrap();
        check(&kicad, &copy, &design.unwrap());
    }
}

fn board(project: &Project) -> Sexpr {
    Sexpr::parse(&fs::read_to_string(project.file("kicad_pcb")).unwrap()).unwrap()
}

fn write(project: &Project, board: &Sexpr) {
    fs::write(project.file("kicad_pcb"), board.to_string()).unwrap();
}

fn is(item: &Sexpr, name: &str) -> bool {
    item.name() == Some(name)
}

/// What the second reader says of the copper.
fn copper(kicad: &Kicad, project: &Project, design: &Design) -> Vec<String> {
    let found = outputs::copper(kicad, project, Some(design)).unwrap();
    found.iter().map(ToString::to_string).collect()
}

/// New findings of DRC, compared with the board as it was.
fn new_findings(kicad: &Kicad, project: &Project, spoilt: &Sexpr) -> Vec<String> {
    let before = kicad.drc(project).unwrap();
    write(project, spoilt);
    let after = kicad.drc(project).unwrap();
    after
        .into_iter()
        .filter(|it| !before.contains(it))
        .collect()
}

fn has(found: &[String], start: &str) -> bool {
    found.iter().any(|it| it.starts_with(start))
}

/// The number of a net that is joined by tracks alone, and its name.
fn routed_net(board: &Sexpr) -> (String, String) {
    let zones: Vec<_> = board
        .items()
        .iter()
        .filter(|item| is(item, "zone"))
        .filter_map(|zone| zone.field("net"))
        .collect();
    let number = board
        .items()
        .iter()
        .filter(|item| is(item, "segment"))
        .filter_map(|segment| segment.field("net"))
        .find(|net| !zones.contains(net))
        .unwrap();
    let name = board
        .items()
        .iter()
        .filter(|item| is(item, "net") && item.argument(0) == Some(number))
        .find_map(|net| net.argument(1))
        .unwrap();
    (number.to_owned(), name.to_owned())
}

#[test]
fn without_its_project_file_a_board_is_not_judged() {
    each(|kicad, project, _| {
        fs::remove_file(project.file("kicad_pro")).unwrap();
        assert!(matches!(kicad.drc(project), Err(KicadError::NoProject(_))));
        assert!(matches!(kicad.erc(project), Err(KicadError::NoProject(_))));
    });
}

#[test]
fn tracks_that_are_removed_are_missed_by_kicad_and_in_the_copper() {
    each(|kicad, project, design| {
        let mut spoilt = board(project);
        let (number, _) = routed_net(&spoilt);
        spoilt.items_mut().unwrap().retain(|item| {
            !(["segment", "arc"].iter().any(|name| is(item, name))
                && item.field("net") == Some(&number))
        });
        let found = new_findings(kicad, project, &spoilt);
        assert!(has(&found, "[unconnected_items]"), "{found:?}");
        let found = copper(kicad, project, design);
        assert!(has(&found, "open: "), "{found:?}");
    });
}

#[test]
fn vias_that_are_removed_are_missed_by_kicad_and_in_the_copper() {
    each(|kicad, project, design| {
        let mut spoilt = board(project);
        spoilt.items_mut().unwrap().retain(|item| !is(item, "via"));
        let found = new_findings(kicad, project, &spoilt);
        assert!(has(&found, "[unconnected_items]"), "{found:?}");
        let found = copper(kicad, project, design);
        assert!(has(&found, "open: "), "{found:?}");
    });
}

#[test]
fn a_track_that_is_too_thin_is_refused() {
    each(|kicad, project, _| {
        let mut spoilt = board(project);
        let width = |item: &Sexpr| item.field("width").and_then(|it| it.parse::<f64>().ok());
        let widest = spoilt
            .items()
            .iter()
            .filter(|item| is(item, "segment"))
            .filter_map(width)
            .fold(0.0, f64::max);
        let thin = spoilt
            .items_mut()
            .unwrap()
            .iter_mut()
            .find(|item| is(item, "segment") && width(item) == Some(widest))
            .unwrap();
        // A power net's class asks for more; nothing is made thinner than 0.15 mm.
        let to = if widest > 0.25 { 0.15 } else { 0.1 };
        thin.get_mut("width").unwrap().items_mut().unwrap()[1] = number(to);
        let found = new_findings(kicad, project, &spoilt);
        assert!(has(&found, "[track_width]"), "{widest}: {found:?}");
    });
}

#[test]
fn a_part_that_is_moved_no_longer_meets_its_tracks() {
    each(|kicad, project, design| {
        let mut spoilt = board(project);
        let moved = spoilt
            .items_mut()
            .unwrap()
            .iter_mut()
            .filter(|item| is(item, "footprint"))
            .max_by_key(|item| item.items().iter().filter(|it| is(it, "pad")).count())
            .unwrap();
        let at = moved.get_mut("at").unwrap().items_mut().unwrap();
        let x = at[1].number().unwrap();
        at[1] = number(x + 3.0);
        let found = new_findings(kicad, project, &spoilt);
        assert!(
            has(&found, "[unconnected_items]") || has(&found, "[shorting_items]"),
            "{found:?}"
        );
        assert_ne!(copper(kicad, project, design), [""; 0]);
    });
}

#[test]
fn nets_of_two_pads_that_are_swapped_are_not_the_intents() {
    each(|kicad, project, design| {
        let mut spoilt = board(project);
        // Two pads of one part on different nets, as of a USB pair.
        let part = spoilt
            .items_mut()
            .unwrap()
            .iter_mut()
            .find(|item| {
                is(item, "footprint") && item.items().iter().filter(|it| is(it, "pad")).count() == 2
            })
            .unwrap();
        let mut pads: Vec<&mut Sexpr> = part
            .items_mut()
            .unwrap()
            .iter_mut()
            .filter(|item| is(item, "pad"))
            .collect();
        let nets: Vec<Sexpr> = pads
            .iter()
            .map(|pad| pad.get("net").unwrap().clone())
            .collect();
        *pads[0].get_mut("net").unwrap() = nets[1].clone();
        *pads[1].get_mut("net").unwrap() = nets[0].clone();
        let found = new_findings(kicad, project, &spoilt);
        assert!(
            has(&found, "[shorting_items]") || has(&found, "[net_conflict]"),
            "{found:?}"
        );
        // The list of nets follows the board, the intent does not: both pads now name a net that their copper is not on.
        assert_ne!(copper(kicad, project, design), [""; 0]);
    });
}

/// The schematics' copies with one text replaced, and what the comparison of the exported netlist with the intent says.
fn drawn(spoil: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut said = Vec::new();
    if !Kicad::is_installed() {
        return said;
    }
    for project in Project::all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let scratch = tempfile::tempdir().unwrap();
        let copy = project.copied(scratch.path()).unwrap();
        let design = circuits::find(&project.name);
        let sheets = fs::read_dir(&copy.folder)
            .unwrap()
            .map(|it| it.unwrap().path());
        let mut sheets: Vec<_> = sheets
            .filter(|path| path.extension().is_some_and(|it| it == "kicad_sch"))
            .collect();
        sheets.sort();
        let changed = sheets.iter().any(|path| {
            let new = spoil(&fs::read_to_string(path).unwrap());
            new.is_some_and(|new| fs::write(path, new).is_ok())
        });
        assert!(changed, "{}: nothing to spoil", project.name);
        let error = generate::check_netlist(&design.unwrap(), &copy.folder).unwrap_err();
        said.push(error.to_string());
    }
    said
}

#[test]
fn labels_that_are_swapped_are_another_circuit() {
    let swap = |text: &str| {
        let (a, b) = ("(label \"USB_DP\"", "(label \"USB_DM\"");
        (text.contains(a) && text.contains(b)).then(|| {
            text.replace(a, "(label \"-\"")
                .replace(b, a)
                .replace("(label \"-\"", b)
        })
    };
    for said in drawn(swap) {
        assert!(said.contains("USB_D"), "{said}");
    }
}

#[test]
fn a_value_of_a_part_that_is_changed_is_another_circuit() {
    let change = |text: &str| {
        text.contains("\"Value\" \"INA226\"")
            .then(|| text.replace("\"Value\" \"INA226\"", "\"Value\" \"INA219\""))
    };
    for said in drawn(change) {
        assert!(said.contains("INA2"), "{said}");
    }
}
