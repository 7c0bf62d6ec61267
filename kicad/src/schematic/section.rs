// SPDX-License-Identifier: Apache-2.0
//! A sheet's sections: blocks from left to right, what belongs to them below, wires between neighbours, notes and a frame.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Drawing, Note, Plan, What,
    block::{self, Block},
    connect::Misdrawn,
    ink::areas,
    lane::{Rest, is_passive},
    route, text_steps,
};
use crate::{
    boards,
    design::Part,
    drawing::Section,
    symbols::{Point, Side},
};

/// As wide as the blocks of one section stand side by side.
const WIDEST: i32 = 150;
/// Between blocks.
const GAP: i32 = 5;
/// Between content and frame.
const MARGIN: i32 = 3;
/// The title's height.
const TITLE: i32 = 3;
/// Letters in a line of notes.
const LINE: usize = 66;

/// All sections of a sheet, framed, in reading order.
pub(super) fn framed(plan: &Plan<'_>, sheet: &'static str) -> Result<Vec<Block>, Misdrawn> {
    let whole = [Section {
        sheet,
        title: "",
        parts: &[],
    }];
    let mut own: Vec<Section> = boards::row(plan.design.name)
        .map_or_else(Vec::new, |row| (row.sections)())
        .into_iter()
        .filter(|section| section.sheet == sheet)
        .collect();
    if own.is_empty() {
        own.extend(whole);
    }
    let mut rest = Rest {
        plan,
        sheet,
        used: BTreeSet::new(),
    };
    let mut contents: Vec<Vec<Block>> = Vec::new();
    let mut leftover: BTreeMap<usize, Vec<&Part>> = BTreeMap::new();
    for section in &own {
        let mut blocks = Vec::new();
        for (reference, turns) in section.parts {
            let Some(part) = plan.design.part(reference) else {
                return Err(Misdrawn::Count {
                    reference,
                    count: 0,
                });
            };
            let is_row =
                is_passive(plan, part) && part.pins.iter().all(|pin| plan.is_rail(pin.net));
            if is_row && part.pins.iter().any(|pin| pin.net == "GND") {
                leftover.entry(contents.len()).or_default().push(part);
            } else if !rest.used.contains(part.reference) {
                blocks.extend(block::of_part(&mut rest, part, *turns));
            }
        }
        contents.push(blocks);
    }
    // What is left: parts of their own that no section names, then passive parts with the part that their note names.
    let parts = || plan.design.parts.iter().filter(|part| part.sheet == sheet);
    let last = contents.len() - 1;
    for part in parts() {
        if !rest.used.contains(part.reference) && !is_passive(plan, part) {
            contents[last].extend(block::of_part(&mut rest, part, 0));
        }
    }
    let homes = homes(&contents);
    let placed: BTreeSet<&str> = leftover
        .values()
        .flatten()
        .map(|part| part.reference)
        .collect();
    for part in parts() {
        if rest.used.contains(part.reference) || placed.contains(part.reference) {
            continue;
        }
        let named = words(part.note).find_map(|word| homes.get(word).copied());
        leftover
            .entry(named.unwrap_or(last))
            .or_default()
            .push(part);
    }
    let mut tails: Vec<Vec<Block>> = contents.iter().map(|_| Vec::new()).collect();
    for (index, parts) in leftover {
        tails[index] = block::of_rest(&mut rest, &parts);
    }
    tails[last].extend(block::flags(plan, sheet));
    Ok(own
        .iter()
        .zip(contents)
        .zip(tails)
        .map(|((section, blocks), tail)| frame(plan, section, blocks, tail))
        .collect())
}

/// Which section each part is in.
fn homes(contents: &[Vec<Block>]) -> BTreeMap<&'static str, usize> {
    let mut homes = BTreeMap::new();
    for (index, blocks) in contents.iter().enumerate() {
        for block in blocks {
            homes.extend(drawn(&block.drawing).map(|reference| (reference, index)));
        }
    }
    homes
}

/// The parts in a drawing.
fn drawn(drawing: &Drawing) -> impl Iterator<Item = &'static str> {
    drawing
        .symbols
        .iter()
        .filter_map(|placed| match placed.what {
            What::Part(reference) => Some(reference),
            What::Rail(_) | What::Flag => None,
        })
}

fn words(note: &str) -> impl Iterator<Item = &str> {
    note.split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// The corners of everything that has ink.
fn corners(drawing: &Drawing) -> (Point, Point) {
    let (mut low, mut high) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
    for area in areas(drawing) {
        low = (low.0.min(area.low.0), low.1.min(area.low.1));
        high = (high.0.max(area.high.0), high.1.max(area.high.1));
    }
    if low.0 > high.0 {
        return (Point::new(0, 0), Point::new(0, 0));
    }
    #[allow(clippy::cast_possible_truncation, reason = "on a sheet")]
    let point =
        |(x, y): (f64, f64), away: fn(f64) -> f64| Point::new(away(x) as i32, away(y) as i32);
    (point(low, f64::floor), point(high, f64::ceil))
}

fn frame(plan: &Plan<'_>, section: &Section, blocks: Vec<Block>, tail: Vec<Block>) -> Block {
    let mut drawing = Drawing::default();
    row(&mut drawing, blocks, true);
    row(&mut drawing, tail, false);
    let inside: BTreeSet<&str> = drawn(&drawing).collect();
    let connections = plan.design.connections();
    route::join_labels(&mut drawing, |net| {
        plan.crossing.contains(net)
            || connections
                .get(net)
                .is_some_and(|pads| pads.iter().any(|(part, _)| !inside.contains(part)))
    });
    super::names::name_all(plan, &mut drawing);
    let (low, high) = corners(&drawing);
    let notes = notes(plan, &inside);
    if !notes.is_empty() {
        let width = (high.x - low.x).max(text_steps(section.title) + 4);
        for (text, at) in columns(&notes, width) {
            drawing.notes.push(Note {
                text,
                at: Point::new(low.x, high.y + 2) + at,
                size: 1.27,
                bold: false,
            });
        }
    }
    let (low, high) = corners(&drawing);
    let title_width = text_steps(section.title) * 4 / 3 + 2;
    let low = low - Point::new(MARGIN, MARGIN + TITLE);
    let high = Point::new(high.x.max(low.x + title_width), high.y) + Point::new(MARGIN, MARGIN);
    drawing.frames.push((low, high));
    drawing.notes.push(Note {
        text: section.title.to_owned(),
        at: low + Point::new(1, 1),
        size: 1.8,
        bold: true,
    });
    Block { drawing, low, high }
}

/// Puts blocks under what is there, from left to right. Neighbours that share a net are put so that its wire is straight.
fn row(drawing: &mut Drawing, blocks: Vec<Block>, is_flow: bool) {
    let mut row = Drawing::default();
    for block in blocks {
        let (low, high) = corners(&block.drawing);
        let (row_low, row_high) = corners(&row);
        let is_first = row.symbols.is_empty();
        if !is_first && row_high.x - row_low.x + GAP + high.x - low.x > WIDEST {
            below(drawing, std::mem::take(&mut row));
        }
        if row.symbols.is_empty() {
            row.put(block.drawing, Point::new(0, 0) - low);
            continue;
        }
        let straight = is_flow.then(|| level(&row, &block.drawing)).flatten();
        let by = Point::new(
            row_high.x + GAP - low.x,
            straight.unwrap_or(row_low.y - low.y),
        );
        row.put(block.drawing, by);
    }
    below(drawing, row);
}

/// How far down the block has to go for a net of both to be on one level.
fn level(row: &Drawing, block: &Drawing) -> Option<i32> {
    block
        .labels
        .iter()
        .filter(|label| label.side == Side::Left)
        .find_map(|label| {
            let other = row
                .labels
                .iter()
                .rev()
                .find(|other| other.net == label.net && other.side == Side::Right)?;
            Some(other.at.y - label.at.y)
        })
}

fn below(drawing: &mut Drawing, row: Drawing) {
    let (low, _) = corners(&row);
    let (all_low, all_high) = corners(drawing);
    let by = if drawing.symbols.is_empty() {
        Point::new(0, 0)
    } else {
        Point::new(all_low.x - low.x, all_high.y + GAP - low.y)
    };
    drawing.put(row, by);
}

/// What each part is there for as lines, in the design's order; parts with the same note together.
fn notes(plan: &Plan<'_>, inside: &BTreeSet<&str>) -> Vec<Vec<String>> {
    let mut notes: Vec<(Vec<&str>, &str)> = Vec::new();
    for part in &plan.design.parts {
        if part.note.is_empty() || !inside.contains(part.reference) {
            continue;
        }
        match notes.iter_mut().find(|(_, note)| *note == part.note) {
            Some((parts, _)) => parts.push(part.reference),
            None => notes.push((vec![part.reference], part.note)),
        }
    }
    notes
        .into_iter()
        .map(|(parts, note)| wrapped(&format!("{}  {note}", parts.join(", "))))
        .collect()
}

/// Lines of moderate length, the second and later ones set in, all about as long.
fn wrapped(note: &str) -> Vec<String> {
    let widest = wrapped_at(note, LINE);
    let narrower = (LINE / 2..LINE).map(|line| wrapped_at(note, line));
    let mut as_few = narrower.filter(|lines| lines.len() == widest.len());
    as_few.next().unwrap_or(widest)
}

fn wrapped_at(note: &str, line: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let words: Vec<&str> = note.split(' ').collect();
    for word in words.chunk_by(|one, other| is_unit_of(one, other)) {
        let word = word.join(" ");
        let last = lines.len() - 1;
        if lines[last].len() + word.len() > line {
            lines.push(format!("    {word}"));
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(&word);
        }
    }
    lines
}

/// Whether a line may not end between a number and this word.
fn is_unit_of(number: &str, word: &str) -> bool {
    let unit = word.trim_end_matches([';', ',', '.', ':', ')']);
    number.ends_with(|last: char| last.is_ascii_digit())
        && ["V", "A", "W", "Hz", "F", "H", "ohm", "s", "K"]
            .into_iter()
            .filter_map(|known| unit.strip_suffix(known))
            .any(|prefix| matches!(prefix, "" | "p" | "n" | "u" | "m" | "k" | "M"))
}

/// Notes in as many columns as go side by side, none of them torn.
fn columns(notes: &[Vec<String>], width: i32) -> Vec<(String, Point)> {
    let lines = || notes.iter().flatten();
    let widest = lines().map(|line| text_steps(line)).max().unwrap_or(1) + 3;
    let count = usize::try_from(width / widest).unwrap_or(1).clamp(1, 4);
    let each = lines().count().div_ceil(count);
    let mut columns: Vec<Vec<&str>> = vec![Vec::new()];
    for note in notes {
        let last = columns.len() - 1;
        if !columns[last].is_empty() && columns[last].len() + note.len() > each && last + 1 < count
        {
            columns.push(Vec::new());
        }
        let last = columns.len() - 1;
        columns[last].extend(note.iter().map(String::as_str));
    }
    (0..)
        .map(|index| Point::new(index * widest, 0))
        .zip(columns)
        .map(|(at, lines)| (lines.join("\n"), at))
        .collect()
}
