// SPDX-License-Identifier: Apache-2.0
//! The YAML of the rack repository: one bounded document as a tree that remembers where everything stood.
//!
//! This is YAML's plain part on purpose. Anchors, aliases, tags, directives, several documents in one file and
//! duplicate keys are refused: each of them lets a file mean something other than what a reviewer reads, and none of
//! them is needed to describe a rack. Turning the tree into types is [`de`]'s work, going on after a mistake [`mend`]'s.

pub(super) mod de;
pub(super) mod mend;
mod mistake;
pub(super) mod word;

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};
use racklet_tell::text::is_hidden;

/// A place in a file, both counted from one, as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    /// Line, from 1.
    pub(super) line: u32,
    /// Column in characters, from 1.
    pub(super) column: u32,
}

/// What may be in one file; everything is checked while reading, before memory is spent on it.
pub(super) const MAX_FILE: usize = 256 * 1024;
const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 32;

/// One value and where it begins.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    /// `plain` tells `8080` from `"8080"`.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// In the order of the file; keys are unique.
    Mapping(Vec<(Key, Node)>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) text: String,
}

/// What is wrong with the text, before any type has looked at it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) message: String,
}

impl SyntaxError {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

const START: Position = Position { line: 1, column: 1 };

fn position(span: Span) -> Position {
    Position {
        line: u32::try_from(span.start.line()).unwrap_or(u32::MAX).max(1),
        column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX),
    }
}

/// Reads the single document in `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, SyntaxError> {
    if bytes.len() > MAX_FILE {
        return Err(SyntaxError::new(
            START,
            format!(
                "the file is {} bytes long, {MAX_FILE} are allowed",
                bytes.len()
            ),
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
        let at = Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: 1,
        };
        SyntaxError::new(at, "this line is not UTF-8 text")
    })?;
    deceptive(text)?;
    let mut options = Options::default();
    options.disallow_directives = true;
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        nodes: 0,
    };
    reader.document()
}

/// Refuses what makes an editor show another file than is read: wherever it stands, in a comment as well.
fn deceptive(text: &str) -> Result<(), SyntaxError> {
    let mut at = START;
    let mut characters = text.chars().peekable();
    // One byte order mark at the beginning is some editors' habit.
    characters.next_if_eq(&'\u{feff}');
    while let Some(c) = characters.next() {
        match c {
            '\n' => {
                at.line += 1;
                at.column = 0;
            }
            '\t' => {}
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => {
                return Err(SyntaxError::new(
                    at,
                    "a carriage return that ends no line: editors show one line where two are read; remove it",
                ));
            }
            c if is_hidden(c) => {
                let code = u32::from(c);
                return Err(SyntaxError::new(
                    at,
                    format!(
                        "the character U+{code:04X} is not shown as it is read; remove it, or write \"\\u{code:04X}\" in a quoted text"
                    ),
                ));
            }
            _ => {}
        }
        at.column += 1;
    }
    Ok(())
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Position), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(span))),
            Some(Err(error)) => {
                let mark = error.marker();
                let at = Position {
                    line: u32::try_from(mark.line()).unwrap_or(u32::MAX).max(1),
                    column: u32::try_from(mark.col() + 1).unwrap_or(u32::MAX),
                };
                Err(SyntaxError::new(
                    at,
                    format!("not valid YAML: {}", error.info()),
                ))
            }
            None => Ok((Event::StreamEnd, START)),
        }
    }

    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(SyntaxError::new(
                        at,
                        "a second document: put each object in a file of its own",
                    ));
                }
                Event::DocumentStart(..) => {
                    root = Some(
                        self.node(0)?
                            .ok_or_else(|| SyntaxError::new(at, "the file is empty"))?,
                    );
                }
                _ => return Err(SyntaxError::new(at, "not valid YAML here")),
            }
        }
        root.ok_or_else(|| SyntaxError::new(START, "the file is empty"))
    }

    /// The next node, or `None` at the end of the collection around it.
    fn node(&mut self, depth: usize) -> Result<Option<Node>, SyntaxError> {
        self.nodes += 1;
        let too_many = self.nodes > MAX_NODES;
        let (event, at) = self.next()?;
        if too_many {
            return Err(SyntaxError::new(
                at,
                format!("more than {MAX_NODES} values in one file"),
            ));
        }
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(
                at,
                format!("nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_decoration(at, anchor, tag.is_some())?;
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                Ok(Some(Node { at, value }))
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_decoration(at, anchor, tag.is_some())?;
                let mut items = Vec::new();
                while let Some(item) = self.node(depth + 1)? {
                    items.push(item);
                }
                Ok(Some(Node {
                    at,
                    value: Value::Sequence(items),
                }))
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_decoration(at, anchor, tag.is_some())?;
                self.mapping(at, depth).map(Some)
            }
            Event::SequenceEnd | Event::MappingEnd | Event::DocumentEnd | Event::StreamEnd => {
                Ok(None)
            }
            Event::Alias(_) => Err(SyntaxError::new(
                at,
                "aliases (*name) are not allowed here: write the value out",
            )),
            _ => Err(SyntaxError::new(at, "not valid YAML here")),
        }
    }

    fn mapping(&mut self, at: Position, depth: usize) -> Result<Node, SyntaxError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        while let Some(key) = self.node(depth + 1)? {
            let Value::Scalar { text, .. } = key.value else {
                return Err(SyntaxError::new(key.at, "a key must be a plain name"));
            };
            if let Some(first) = lines.insert(text.clone(), key.at.line) {
                return Err(SyntaxError::new(
                    key.at,
                    format!("`{text}` is given twice, first in line {first}: keep one of them"),
                ));
            }
            if text == "<<" {
                return Err(SyntaxError::new(
                    key.at,
                    "merge keys (<<) are not allowed here",
                ));
            }
            let value = self
                .node(depth + 1)?
                .ok_or_else(|| SyntaxError::new(key.at, format!("`{text}` has no value")))?;
            entries.push((Key { at: key.at, text }, value));
        }
        Ok(Node {
            at,
            value: Value::Mapping(entries),
        })
    }
}

fn refuse_decoration(at: Position, anchor: usize, tagged: bool) -> Result<(), SyntaxError> {
    if anchor != 0 {
        return Err(SyntaxError::new(
            at,
            "anchors (&name) are not allowed here: write the value out",
        ));
    }
    if tagged {
        return Err(SyntaxError::new(at, "tags (!name) are not allowed here"));
    }
    Ok(())
}

impl Node {
    /// The value of `key`, when this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text, when this is a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = parse(text.as_bytes()).expect_err("must be refused");
        format!("{}:{}: {}", error.at.line, error.at.column, error.message)
    }

    #[test]
    fn values_keep_their_places() {
        let root = parse(b"a: 1\nb:\n  - x\n  - 'y'\n").expect("good");
        let b = root.get("b").expect("b");
        let Value::Sequence(items) = &b.value else {
            panic!("not a sequence")
        };
        assert_eq!(items[1].at, Position { line: 4, column: 5 });
        assert_eq!(
            items[1].value,
            Value::Scalar {
                text: "y".into(),
                plain: false
            }
        );
    }

    #[test]
    fn a_duplicate_key_names_both_lines() {
        assert_eq!(
            refused("a: 1\nb: 2\na: 3\n"),
            "3:1: `a` is given twice, first in line 1: keep one of them"
        );
    }

    #[test]
    fn what_hides_meaning_is_refused() {
        assert!(refused("a: &x 1\n").contains("anchors"));
        assert!(refused("a: &x 1\nb: *x\n").contains("anchors"));
        assert!(refused("a: !!binary aGk=\n").contains("tags"));
        assert!(refused("a: 1\n---\nb: 2\n").contains("second document"));
        assert!(refused("<<: {a: 1}\n").contains("merge keys"));
        assert!(refused("%YAML 1.2\n---\na: 1\n").contains("not valid YAML"));
        assert!(refused("? [a]\n: 1\n").contains("plain name"));
    }

    #[test]
    fn what_an_editor_shows_otherwise_than_it_is_read_is_refused_even_in_comments() {
        // An editor shows one line with a comment; a parser reads `cpus: 9`.
        assert_eq!(
            refused("memory: 64Mi # note\r  cpus: 9\n"),
            "1:20: a carriage return that ends no line: editors show one line where two are read; remove it"
        );
        for c in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            let said = refused(&format!("a: 1\nb: 2 # {c}\n"));
            assert!(
                said.starts_with(&format!("2:8: the character U+{:04X}", u32::from(c))),
                "{said}"
            );
            refused(&format!("a: \"{c}\"\n"));
        }
        for c in [
            '\0', '\x1b', '\x0b', '\x0c', '\u{85}', '\u{2028}', '\u{2029}', '\u{200b}',
        ] {
            refused(&format!("a: 1 # {c}\n"));
        }
        // Line ends of Windows, a mark at the beginning, other scripts, and escapes that show what they are.
        for good in [
            "a: 1\r\nb: 2\r\n",
            "\u{feff}a: 1\n",
            "a: می\u{200c}خواهم\n",
            "a: \"\\u202E\"\n",
            "a:\t1\n",
        ] {
            assert!(parse(good.as_bytes()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn many_keys_are_read_and_a_double_among_them_is_found() {
        let mut text: String = (0..9_000)
            .map(|number| format!("key-{number}: 1\n"))
            .collect();
        for _ in 0..60 {
            assert!(parse(text.as_bytes()).is_ok());
        }
        text.push_str("key-7: 2\n");
        assert!(refused(&text).contains("`key-7` is given twice, first in line 8"));
    }

    #[test]
    fn size_count_and_depth_are_bounded() {
        assert!(
            refused(&format!("{}{}", "[".repeat(200), "]".repeat(200)))
                .contains("nested more than")
        );
        assert!(refused(&format!("a: [{}]", "1,".repeat(MAX_NODES))).contains("more than"));
        assert!(refused(&"#".repeat(MAX_FILE + 1)).contains("bytes long"));
    }

    #[test]
    fn an_empty_file_and_bad_text_say_so() {
        assert!(refused("").contains("empty"));
        assert!(refused("# only a comment\n").contains("empty"));
        let error = parse(b"a: 1\nb: \xff\n").expect_err("not UTF-8");
        assert_eq!(error.at.line, 2);
    }
}
