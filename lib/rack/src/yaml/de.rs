// SPDX-License-Identifier: Apache-2.0
//! From the located tree to serde types, so that every complaint carries line, column and the path to the field.
//!
//! A scalar becomes what its type asks for: a `String` field takes `8080` or `true` exactly as written (no surprise
//! conversions), a number field takes only an unquoted number.

use racklet_tell::text::decimal;

use super::mistake::DeError;
use super::{Key, Node, Value};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The struct name that asks for a value together with its place (see `Located`).
pub(crate) const LOCATED: &str = "$racklet::Located";
pub(crate) const LOCATED_FIELDS: &[&str] = &["line", "column", "value"];

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Sequence(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Value::Mapping(entries) => visitor.visit_map(Entries {
                entries: entries.iter().enumerate(),
                value: None,
            }),
            Value::Scalar { text, plain: true } => scalar(text, visitor),
            Value::Scalar { text, plain: false } => visitor.visit_borrowed_str(text),
        }
        .map_err(|error: DeError| error.at(self.at))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Scalar { text, plain } if !(*plain && is_null(text)) => visitor
                .visit_borrowed_str(text)
                .map_err(|error: DeError| error.at(self.at)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Scalar { text, plain: true } if is_null(text) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        if name == LOCATED {
            return visitor.visit_map(Place {
                node: self,
                step: 0,
            });
        }
        if matches!(self.value, Value::Sequence(_)) {
            // serde would take a list's items for the fields in the order in which the type declares them.
            let error: DeError = de::Error::invalid_type(de::Unexpected::Seq, &visitor);
            return Err(error.at(self.at));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Scalar { text, .. } => {
                let text: StrDeserializer<'_, DeError> = text.as_str().into_deserializer();
                visitor
                    .visit_enum(text)
                    .map_err(|error: DeError| error.at(self.at))
            }
            _ => Err(DeError::new("expected one word".to_owned()).at(self.at)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// YAML 1.2's core schema, without floating point and octal, and without `+2` and `02`, which people and other programs read in
/// more than one way: nothing in a rack needs them.
fn scalar<'de, V: Visitor<'de>>(text: &'de str, visitor: V) -> Result<V::Value, DeError> {
    if is_null(text) {
        return visitor.visit_unit();
    }
    match text {
        "true" | "True" | "TRUE" => return visitor.visit_bool(true),
        "false" | "False" | "FALSE" => return visitor.visit_bool(false),
        _ => {}
    }
    if let Some(number) = decimal::<u64>(text) {
        return visitor.visit_u64(number);
    }
    let below_zero = text.strip_prefix('-').and_then(decimal::<i64>);
    if let Some(number) = below_zero.filter(|number| *number != 0) {
        return visitor.visit_i64(-number);
    }
    visitor.visit_borrowed_str(text)
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeError> {
        match self.items.next() {
            None => Ok(None),
            Some((index, node)) => seed.deserialize(node).map(Some).map_err(|error: DeError| {
                error
                    .at(node.at)
                    .behind("- ")
                    .inside(index, format!("[{index}]"))
            }),
        }
    }
}

struct Entries<'de> {
    entries: std::iter::Enumerate<std::slice::Iter<'de, (Key, Node)>>,
    value: Option<(usize, &'de Key, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeError> {
        let Some((index, (key, value))) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((index, key, value));
        let text: StrDeserializer<'de, DeError> = key.text.as_str().into_deserializer();
        seed.deserialize(text).map(Some).map_err(|error: DeError| {
            // The complaint is about the mapping around the key, so the path that people read ends there.
            error.at(key.at).inside(index, String::new())
        })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        let Some((index, key, value)) = self.value.take() else {
            return Err(DeError::new(
                "a value was asked for before its key".to_owned(),
            ));
        };
        seed.deserialize(value).map_err(|error: DeError| {
            let before = format!("{}: ", key.text);
            error
                .at(value.at)
                .behind(&before)
                .inside(index, key.text.clone())
        })
    }
}

struct Place<'de> {
    node: &'de Node,
    step: usize,
}

impl<'de> MapAccess<'de> for Place<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeError> {
        let Some(name) = LOCATED_FIELDS.get(self.step) else {
            return Ok(None);
        };
        self.step += 1;
        let name: StrDeserializer<'de, DeError> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        match self.step {
            1 => seed.deserialize(self.node.at.line.into_deserializer()),
            2 => seed.deserialize(self.node.at.column.into_deserializer()),
            _ => seed
                .deserialize(self.node)
                .map_err(|error: DeError| error.at(self.node.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Sample {
        name: String,
        #[serde(default)]
        cpus: Option<u8>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        address: String,
    }

    fn read(text: &str) -> Result<Sample, String> {
        let root = super::super::parse(text.as_bytes()).expect("syntax");
        Sample::deserialize(&root).map_err(|error| {
            let at = error.at.expect("a place");
            format!("{}:{} {}: {error}", at.line, at.column, error.path())
        })
    }

    #[test]
    fn text_is_taken_as_written() {
        let sample = read("name: 0x10\nenv: {PORT: 8080, DEBUG: true, NO: no}\n").expect("good");
        assert_eq!(sample.name, "0x10");
        assert_eq!(sample.env["PORT"], "8080");
        assert_eq!(sample.env["DEBUG"], "true");
        assert_eq!(sample.env["NO"], "no");
    }

    #[test]
    fn complaints_carry_place_path_and_suggestion() {
        for (text, expected) in [
            (
                "name: a\ninner:\n  - adress: x\n",
                "3:5 inner[0]: unknown field `adress`; did you mean `address`?",
            ),
            (
                "name: a\ncpus: many\n",
                "2:7 cpus: write a number: `cpus: 1`, not the text `many`",
            ),
            (
                "name: a\ncpus: '2'\n",
                "2:7 cpus: write a number: `cpus: 1`, not the text `2`",
            ),
            ("cpus: 1\n", "1:1 : `name` is missing"),
            ("name:\n", "1:5 name: write text: `name: name`, not nothing"),
            (
                "name: [x]\n",
                "1:7 name: write text: `name: name`, not a list",
            ),
            (
                "name: a\ninner:\n  - [x]\n",
                "3:5 inner[0]: write fields below it: `- {name: value}`, not a list",
            ),
            (
                "name: a\nzzz: 1\n",
                "2:1 : unknown field `zzz`; known here: name, cpus, env, inner",
            ),
        ] {
            assert_eq!(read(text).expect_err(text), expected, "for {text:?}");
        }
    }

    #[test]
    fn numbers_have_no_sign_and_no_leading_zero() {
        for bad in ["02", "+2", "-0", "0x2", "0o2", "2.0", "1_0"] {
            assert!(read(&format!("name: a\ncpus: {bad}\n")).is_err(), "{bad}");
        }
        // As text they stay what they are.
        assert_eq!(
            read("name: a\nenv: {A: 02}\n").expect("good").env["A"],
            "02"
        );
    }
}
