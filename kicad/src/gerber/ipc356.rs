// SPDX-License-Identifier: Apache-2.0
//! IPC-D-356 as KiCad writes it: one line of fixed columns for each pad and via, with its net.

use super::shapes::Point;

/// Where and why a file was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RecordError {
    line: usize,
    reason: &'static str,
}

/// The net of what is not connected.
pub const NOT_CONNECTED: &str = "N/C";

/// A pad or via that a tester's needle can reach.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The net as the file has it: its last 14 letters.
    pub net: String,
    /// Part and pad; none for a via.
    pub pad: Option<(String, String)>,
    /// Where, in millimetres.
    pub at: Point,
    /// From where it is reached.
    pub access: Access,
}

/// From which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A hole: from both.
    Through,
    /// This layer of copper, counted from one.
    Layer(usize),
}

/// Reads the records of copper (holes without copper have none).
///
/// # Errors
/// A line that is not understood.
pub fn read(source: &str) -> Result<Vec<Record>, RecordError> {
    let mut records = Vec::new();
    let (mut unit, mut ended) = (None, false);
    for (index, line) in source.lines().enumerate() {
        let fault = |reason| RecordError {
            line: index + 1,
            reason,
        };
        let field = |from: usize, to: usize| line.get(from..to).map(str::trim);
        match field(0, 3) {
            Some("999") => ended = true,
            Some("367") => {}
            Some("317" | "327") => {
                let unit = unit.ok_or(fault("a record before the unit"))?;
                records.push(record(line, unit).ok_or(fault("a record"))?);
            }
            // Tenths of thousandths of an inch, or thousandths of a millimetre.
            _ if line.starts_with("P  UNITS CUST 0") => unit = Some(0.00254),
            _ if line.starts_with("P  UNITS CUST 1") => unit = Some(0.001),
            _ if line.starts_with(['P', 'C']) => {}
            _ => return Err(fault("not understood")),
        }
    }
    match ended && !records.is_empty() {
        true => Ok(records),
        false => Err(RecordError {
            line: source.lines().count(),
            reason: "it has no records, or no end",
        }),
    }
}

fn record(line: &str, unit: f64) -> Option<Record> {
    let (part, dash, pin) = (line.get(20..26)?, line.get(26..27)?, line.get(27..31)?);
    let pad = match (part.trim(), dash) {
        ("VIA", _) => None,
        (part, "-") => Some((part.to_owned(), pin.trim().to_owned())),
        (part, _) => Some((part.to_owned(), String::new())),
    };
    let access = match (line.get(38..39)?, line.get(39..41)?.parse().ok()?) {
        ("A", 0) => Access::Through,
        ("A", layer) => Access::Layer(layer),
        _ => return None,
    };
    let coordinate = |letter: &str, from: usize| {
        let text = line.get(from..from + 8)?.strip_prefix(letter)?;
        Some(f64::from(text.parse::<i32>().ok()?) * unit)
    };
    Some(Record {
        net: line.get(3..17)?.trim().to_owned(),
        pad,
        at: [coordinate("X", 41)?, coordinate("Y", 49)?],
        access,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read() {
        let file = "P  CODE 00\nP  UNITS CUST 0\n\
                    317BUSBAR           VIA        MD0118PA00X+038819Y-032402X0236Y0000R000S3\n\
                    327SEATED_N         J1    -a1         A04X+037795Y-031004X0276Y1260R090S1\n\
                    367N/C              H1          D1063UA00X+040748Y-025000X1063Y0000R000S0\n999\n";
        let records = read(file).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((&*records[0].net, &records[0].pad), ("BUSBAR", &None));
        assert_eq!(records[0].access, Access::Through);
        assert!((records[0].at[0] - 98.6).abs() < 0.002);
        assert_eq!(records[1].pad, Some(("J1".into(), "a1".into())));
        assert_eq!(records[1].access, Access::Layer(4));
        assert!((records[1].at[1] + 78.75).abs() < 0.002);
    }

    #[test]
    fn a_file_without_records_or_end_is_refused() {
        assert!(read("P  UNITS CUST 0\n999\n").is_err());
        assert_eq!(
            read("327X\n").unwrap_err().to_string(),
            "line 1: a record before the unit"
        );
        assert!(read("what\n").is_err());
    }
}
