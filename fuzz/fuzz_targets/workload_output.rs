// SPDX-License-Identifier: Apache-2.0
//! What a command writes, cut into lines: bounded, nothing of text lost, and the same however it comes in pieces.
#![no_main]

use racklet_api::guest::{MAX_OUTPUT, OutputStream, WorkloadLine};
use racklet_guest::lines::Lines;

/// All lines of `bytes`, read so many at a time.
fn cut(bytes: &[u8], at_a_time: usize) -> Vec<WorkloadLine> {
    let mut lines = Lines::new(OutputStream::Stdout);
    let mut all: Vec<_> = bytes
        .chunks(at_a_time)
        .flat_map(|part| lines.add(part, 1))
        .collect();
    all.extend(lines.end(1));
    all
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    // Long lines are what a fuzzer finds last: a few bytes, told often.
    let times = if first % 2 == 0 { 1 } else { 2 * MAX_OUTPUT };
    let bytes = rest[..rest.len().min(64.max(rest.len() / times))].repeat(times);
    let all = cut(&bytes, bytes.len().max(1));
    assert_eq!(all, cut(&bytes, 1 + usize::from(first / 2)));

    let mut again = String::new();
    for line in &all {
        // A cut waits at most for the end of a character: 3 bytes. What is no text takes 3 for each of its own.
        assert!(line.line.len() <= 3 * (MAX_OUTPUT + 3));
        assert!(!line.line.contains('\n'));
        again += &line.line;
        if !line.partial {
            again.push('\n');
        }
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        let ended = text.is_empty() || text.ends_with('\n');
        assert_eq!(again, format!("{text}{}", if ended { "" } else { "\n" }));
        assert!(all.iter().all(|line| line.line.len() <= MAX_OUTPUT + 3));
    }
});
