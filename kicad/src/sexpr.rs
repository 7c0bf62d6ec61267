// SPDX-License-Identifier: Apache-2.0
//! KiCad's file syntax: lists of atoms and strings in parentheses, read within bounds and written the way KiCad lays them out.
//!
//! It knows nothing of what the lists mean. What is written is in KiCad's own form (tabs, one list a line, short ones in line), so
//! that saving in KiCad changes little.

use std::fmt::{self, Write as _};

/// How deep lists may nest: KiCad's own files stay below twenty.
const MAX_DEPTH: usize = 64;

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sexpr {
    /// A bare word or number, as written.
    Atom(String),
    /// What stood in quotes, without them and unescaped.
    Text(String),
    /// A list.
    List(Vec<Sexpr>),
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SexprError {
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// A bare word.
#[must_use]
pub fn atom(word: impl Into<String>) -> Sexpr {
    Sexpr::Atom(word.into())
}

/// A string.
#[must_use]
pub fn text(string: impl Into<String>) -> Sexpr {
    Sexpr::Text(string.into())
}

/// A number in millimetres or degrees, as KiCad writes it: at most six decimals, none that say nothing.
#[must_use]
pub fn number(value: f64) -> Sexpr {
    let mut written = format!("{value:.6}");
    while written.ends_with('0') {
        written.pop();
    }
    if written.ends_with('.') {
        written.pop();
    }
    if written == "-0" {
        written = "0".into();
    }
    Sexpr::Atom(written)
}

/// A list that begins with `name`.
#[must_use]
pub fn list(name: &str, items: impl IntoIterator<Item = Sexpr>) -> Sexpr {
    Sexpr::List(std::iter::once(atom(name)).chain(items).collect())
}

impl Sexpr {
    /// Reads exactly one expression.
    ///
    /// # Errors
    /// [`SexprError`] with the line at fault.
    pub fn parse(source: &str) -> Result<Self, SexprError> {
        let mut parser = Parser {
            bytes: source.as_bytes(),
            source,
            at: 0,
        };
        let found = parser.expression()?;
        parser.skip_space();
        if parser.at != source.len() {
            return Err(parser.error("something follows the expression"));
        }
        Ok(found)
    }

    /// The first word of a list.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self.items().first()? {
            Self::Atom(word) => Some(word),
            _ => None,
        }
    }

    /// The parts of a list, its name included; nothing for what is no list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The parts of a list that may be changed; `None` for what is no list.
    pub fn items_mut(&mut self) -> Option<&mut Vec<Self>> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// What an atom or a string says.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Atom(value) | Self::Text(value) => Some(value),
            Self::List(_) => None,
        }
    }

    /// An atom as a number.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        self.value()?.parse().ok()
    }

    /// The part at `index` behind the name, as what it says.
    #[must_use]
    pub fn argument(&self, index: usize) -> Option<&str> {
        self.items().get(index + 1)?.value()
    }

    /// The parts that are lists called `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.items()
            .iter()
            .filter(move |item| item.name() == Some(name))
    }

    /// The first part that is a list called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.items().iter().find(|item| item.name() == Some(name))
    }

    /// The first part that is a list called `name`, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.items_mut()?
            .iter_mut()
            .find(|item| item.name() == Some(name))
    }

    /// The first argument of the part called `name`: `(uuid "x")` gives `x`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.get(name)?.argument(0)
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Atom(word) => out.push_str(word),
            Self::Text(string) => quote(out, string),
            Self::List(items) => {
                out.push('(');
                let mut broken = false;
                for (index, item) in items.iter().enumerate() {
                    if matches!(item, Self::List(_)) && !self.is_in_line() {
                        broken = true;
                        out.push('\n');
                        out.extend(std::iter::repeat_n('\t', depth + 1));
                    } else if index > 0 {
                        out.push(' ');
                    }
                    item.write(out, depth + 1);
                }
                if broken {
                    out.push('\n');
                    out.extend(std::iter::repeat_n('\t', depth));
                }
                out.push(')');
            }
        }
    }

    /// KiCad keeps points in line.
    fn is_in_line(&self) -> bool {
        matches!(self.name(), Some("pts")) && self.items().len() <= 3
    }
}

/// The whole file, with its last newline.
impl fmt::Display for Sexpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        f.write_str(&out)
    }
}

fn quote(out: &mut String, string: &str) {
    out.push('"');
    for letter in string.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter => {
                let _ = out.write_char(letter);
            }
        }
    }
    out.push('"');
}

struct Parser<'a> {
    bytes: &'a [u8],
    source: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> SexprError {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        SexprError {
            line: before.split(|byte| *byte == b'\n').count(),
            reason,
        }
    }

    fn skip_space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// Without recursion: what is read may be nested on purpose.
    fn expression(&mut self) -> Result<Sexpr, SexprError> {
        let mut open: Vec<Vec<Sexpr>> = Vec::new();
        loop {
            self.skip_space();
            let done = match self.bytes.get(self.at) {
                None => return Err(self.error("the file ends within a list")),
                Some(b'(') => {
                    if open.len() == MAX_DEPTH {
                        return Err(self.error("lists are nested too deeply"));
                    }
                    self.at += 1;
                    open.push(Vec::new());
                    continue;
                }
                Some(b')') => {
                    let items = open
                        .pop()
                        .ok_or_else(|| self.error("a list ends that did not begin"))?;
                    self.at += 1;
                    Sexpr::List(items)
                }
                Some(b'"') => Sexpr::Text(self.string()?),
                Some(_) => Sexpr::Atom(self.word()),
            };
            match open.last_mut() {
                Some(items) => items.push(done),
                None => return Ok(done),
            }
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self
            .bytes
            .get(self.at)
            .is_some_and(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'(' | b')' | b'"'))
        {
            self.at += 1;
        }
        self.source[start..self.at].to_owned()
    }

    fn string(&mut self) -> Result<String, SexprError> {
        self.at += 1;
        let mut out = String::new();
        let mut start = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.error("the file ends within a string")),
                Some(b'"') => {
                    out.push_str(&self.source[start..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.source[start..self.at]);
                    out.push(match self.bytes.get(self.at + 1) {
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(b'"') => '"',
                        Some(b'\\') => '\\',
                        _ => return Err(self.error("an escape that KiCad does not write")),
                    });
                    self.at += 2;
                    start = self.at;
                }
                Some(_) => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "(kicad_pcb\n\t(version 20241229)\n\t(generator \"racklet\")\n\t(net 1 \"A \\\"b\\\"\")\n\t(at 1.5 -2 90)\n)\n";

    #[test]
    fn what_is_read_is_written_again() {
        let read = Sexpr::parse(FILE).unwrap();
        assert_eq!(read.field("generator"), Some("racklet"));
        assert_eq!(read.get("net").unwrap().argument(1), Some("A \"b\""));
        assert_eq!(read.get("at").unwrap().items()[2].number(), Some(-2.0));
        assert_eq!(read.to_string(), FILE);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let error = |source: &str| Sexpr::parse(source).unwrap_err().to_string();
        assert_eq!(error("(a\n(b"), "line 2: the file ends within a list");
        assert_eq!(error("(a)\n)"), "line 2: something follows the expression");
        assert_eq!(error("(a \"b"), "line 1: the file ends within a string");
        assert_eq!(
            error(&"(".repeat(1000)),
            "line 1: lists are nested too deeply"
        );
        assert!(Sexpr::parse("").is_err() && Sexpr::parse(")").is_err());
    }

    #[test]
    fn numbers_say_no_more_than_they_must() {
        for (value, written) in [
            (1.0, "1"),
            (-0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (-1.27, "-1.27"),
        ] {
            assert_eq!(number(value), atom(written));
        }
    }

    fn any_sexpr() -> impl Strategy<Value = Sexpr> {
        let leaf = prop_oneof![
            "[a-z0-9._-]{1,8}".prop_map(Sexpr::Atom),
            any::<String>().prop_map(Sexpr::Text),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            ("[a-z]{1,5}", prop::collection::vec(inner, 0..5))
                .prop_map(|(name, items)| list(&name, items))
        })
    }

    proptest! {
        #[test]
        fn anything_survives_writing_and_reading(sexpr in any_sexpr()) {
            prop_assert_eq!(Sexpr::parse(&sexpr.to_string()).unwrap(), sexpr);
        }

        #[test]
        fn no_text_breaks_the_reader(source in "[()a\" \\\\\n]{0,60}") {
            let _ = Sexpr::parse(&source);
        }
    }
}
