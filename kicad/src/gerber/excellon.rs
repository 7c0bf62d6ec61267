// SPDX-License-Identifier: Apache-2.0
//! Excellon drill files as KiCad writes them: one for plated holes, one for the others, places with a decimal point, slots as `G85`.

use std::collections::BTreeMap;

use super::shapes::Point;

/// Where and why a file was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct DrillError {
    line: usize,
    reason: &'static str,
}

/// A file of holes.
#[derive(Debug, PartialEq)]
pub struct Drill {
    /// Whether they are metal inside.
    pub plated: bool,
    /// The first and last layer of copper that they go through.
    pub layers: (usize, usize),
    /// The holes.
    pub holes: Vec<Hole>,
}

/// A round hole, or a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hole {
    /// Where it begins.
    pub from: Point,
    /// Where it ends; the same for a round hole.
    pub to: Point,
    /// Of the tool, in millimetres.
    pub diameter: f64,
}

/// Reads a file.
///
/// # Errors
/// Anything in it that is not understood.
pub fn read(source: &str) -> Result<Drill, DrillError> {
    let mut function = None;
    let mut unit = None;
    let mut tools: BTreeMap<&str, f64> = BTreeMap::new();
    let mut diameter = None;
    let mut holes = Vec::new();
    let (mut in_header, mut ended) = (false, false);
    for (index, text) in source.lines().map(str::trim).enumerate() {
        let fault = |reason| DrillError {
            line: index + 1,
            reason,
        };
        if let Some(comment) = text.strip_prefix(';') {
            if let Some((_, value)) = comment.split_once("TF.FileFunction,") {
                function = Some(parse_function(value).ok_or(fault("the file's function"))?);
            }
            continue;
        }
        if ended && !text.is_empty() {
            return Err(fault("something follows the end"));
        }
        match text {
            "" | "FMAT,2" | "G90" | "G05" => {}
            "M48" => in_header = true,
            "METRIC" => unit = Some(1.0),
            "INCH" => unit = Some(25.4),
            "%" | "M95" => in_header = false,
            "M30" => ended = true,
            _ if text.starts_with('T') && in_header => {
                let (name, size) = text.split_once('C').ok_or(fault("a tool"))?;
                let size: f64 = size.parse().map_err(|_| fault("a tool's diameter"))?;
                tools.insert(name, size * unit.ok_or(fault("a tool before the unit"))?);
            }
            "T0" => {}
            _ if text.starts_with('T') => {
                diameter = Some(*tools.get(text).ok_or(fault("a tool that is not known"))?);
            }
            _ if text.starts_with('X') && !in_header => {
                let unit = unit.ok_or(fault("a hole before the unit"))?;
                let place = |text| place(text, unit).ok_or(fault("a place"));
                let (from, to) = match text.split_once("G85") {
                    Some((from, to)) => (place(from)?, place(to)?),
                    None => (place(text)?, place(text)?),
                };
                holes.push(Hole {
                    from,
                    to,
                    diameter: diameter.ok_or(fault("a hole before its tool"))?,
                });
            }
            _ => return Err(fault("not understood")),
        }
    }
    let last = |reason| DrillError {
        line: source.lines().count(),
        reason,
    };
    if !ended {
        return Err(last("the file stops before M30"));
    }
    let (plated, layers) = function.ok_or(last("it does not say whether its holes are plated"))?;
    Ok(Drill {
        plated,
        layers,
        holes,
    })
}

/// `Plated,1,4,PTH`.
fn parse_function(value: &str) -> Option<(bool, (usize, usize))> {
    let mut words = value.split(',');
    let plated = match words.next()? {
        "Plated" => true,
        "NonPlated" => false,
        _ => return None,
    };
    Some((
        plated,
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?),
    ))
}

/// Only with decimal points: otherwise the number of digits would have to be guessed.
fn place(text: &str, unit: f64) -> Option<Point> {
    let (x, y) = text.strip_prefix('X')?.split_once('Y')?;
    let value = |text: &str| {
        let value: f64 = text.contains('.').then(|| text.parse().ok())??;
        value.is_finite().then_some(value * unit)
    };
    Some([value(x)?, value(y)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "M48\n; #@! TF.FileFunction,Plated,1,4,PTH\nFMAT,2\nMETRIC\nT1C0.300\nT2C0.600\n%\nG90\nG05\nT1\nX1.5Y-2.0\nT2\n\
                        X1.0Y-1.0G85X1.0Y-2.5\nM30\n";

    #[test]
    fn holes_and_slots_are_read() {
        let drill = read(FILE).unwrap();
        assert_eq!((drill.plated, drill.layers), (true, (1, 4)));
        let round = Hole {
            from: [1.5, -2.0],
            to: [1.5, -2.0],
            diameter: 0.3,
        };
        assert_eq!(drill.holes[0], round);
        assert_eq!(drill.holes[1].to, [1.0, -2.5]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let error = |from: &str, to: &str| read(&FILE.replace(from, to)).unwrap_err().to_string();
        assert_eq!(error("X1.5Y-2.0", "X15Y-20"), "line 11: a place");
        assert_eq!(error("T2\nX", "T7\nX"), "line 12: a tool that is not known");
        assert_eq!(error("M30\n", ""), "line 13: the file stops before M30");
        assert_eq!(error("G05", "G00X1.0Y1.0"), "line 9: not understood");
        assert!(error("Plated,1,4", "Mixed,1,4").contains("function"));
    }
}
