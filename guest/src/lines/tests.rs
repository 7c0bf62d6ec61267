// SPDX-License-Identifier: Apache-2.0
use super::*;

fn text(lines: &[WorkloadLine]) -> Vec<(&str, bool)> {
    lines.iter().map(|l| (l.line.as_str(), l.partial)).collect()
}

#[test]
fn lines_are_whole_however_they_were_read() {
    let mut lines = Lines::new(OutputStream::Stdout);
    assert_eq!(text(&lines.add(b"one\ntw", 1)), [("one", false)]);
    assert_eq!(text(&lines.add(b"o\n\n", 1)), [("two", false), ("", false)]);
    lines.add(b"end", 1);
    assert_eq!(lines.end(2).map(|l| l.line).as_deref(), Some("end"));
    assert_eq!(lines.end(2), None);
}

#[test]
fn long_lines_are_cut_between_characters_and_nonsense_is_replaced() {
    let mut lines = Lines::new(OutputStream::Stderr);
    let long = "ü".repeat(MAX_OUTPUT) + "\n";
    let cut = lines.add(long.as_bytes(), 1);
    assert_eq!(cut.len(), 2);
    assert!(cut[0].partial && !cut[1].partial);
    assert_eq!(cut[0].line.clone() + &cut[1].line + "\n", long);
    let cut = lines.add(&[0x80; 3 * MAX_OUTPUT], 1);
    assert!(cut.len() >= 2, "bytes that are no text are bounded, too");
    assert_eq!(lines.add(b"\xff\n", 1).len(), 1);
}
