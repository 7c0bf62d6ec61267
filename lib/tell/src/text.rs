// SPDX-License-Identifier: Apache-2.0
//! Text of strangers: what a file may hold so that people read what programs read, and how a console shows the rest.

use std::fmt::Write as _;

/// Whether people do not see `c` as what programs read: control characters (line ends and tabs too), line ends that only some
/// programs know (U+0085, U+2028, U+2029), what reorders text (U+061C, U+200E, U+200F, U+202A to 202E, U+2066 to 2069, see
/// <https://trojansource.codes>), and what has no width (U+200B, U+2060, U+FEFF, and the tags U+E0000 to E007F).
/// Joiners (U+200C, U+200D) are not among them: some scripts cannot be written without.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Puts `c` behind `out` so that a console shows it: what is hidden as `\x1b` or `\u{202e}`.
pub fn push_shown(out: &mut String, c: char) {
    match u32::from(c) {
        _ if !is_hidden(c) => out.push(c),
        code @ 0..=0xff => {
            let _ = write!(out, "\\x{code:02x}");
        }
        code => {
            let _ = write!(out, "\\u{{{code:x}}}");
        }
    }
}

/// `text` as one line of a console: it breaks no lines, drives no terminal and reorders nothing.
#[must_use]
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c => push_shown(&mut out, c),
        }
    }
    out
}

/// As [`line`], for text that may have several lines and columns: line feeds and tabs stay.
#[must_use]
pub fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c => push_shown(&mut out, c),
        }
    }
    out
}

/// A number as it is written everywhere: decimal digits without a sign or leading zeros. Rust's own parsing takes `+2` and
/// `02` too, and what some read as octal must not mean anything.
#[must_use]
pub fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// As much of a commit's name or of a digest as people look at.
#[must_use]
pub fn short(id: impl std::fmt::Display) -> String {
    id.to_string().chars().take(12).collect()
}

/// A size in bytes for people: `12 B`, `2 KiB`, `5.6 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes >> 10),
        // One decimal, rounded down.
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & (MIB - 1)) * 10) >> 20),
    }
}

/// A number of things for people: `1 object`, `3 objects`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_drives_no_console() {
        assert_eq!(
            line("a\x1b[2J\u{202e}b\nc\u{85}"),
            "a\\x1b[2J\\u{202e}b c\\x85"
        );
        assert_eq!(lines("a\tb\r\nc\u{2066}"), "a\tb\\x0d\nc\\u{2066}");
        for c in ('\0'..='\u{10ffff}').filter(|c| is_hidden(*c)) {
            assert!(!line(&c.to_string()).contains(c), "{c:?}");
        }
        let usual = "Größe: 3 µm, 日本, می‌خواهم, 👩\u{200d}🚀";
        assert_eq!(line(usual), usual);
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(decimal::<u8>("0"), Some(0));
        assert_eq!(decimal::<u8>("255"), Some(255));
        for bad in ["", "+2", "02", "-1", "00", "256", "1 ", "٣", "0x1"] {
            assert_eq!(decimal::<u8>(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_and_names_read_well() {
        assert_eq!(
            [size(12), size(2048), size(5 * 1024 * 1024 + 700_000)],
            ["12 B", "2 KiB", "5.6 MiB"]
        );
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
    }
}
