// SPDX-License-Identifier: Apache-2.0
//! Values that know where in their file they stand.

use super::yaml::Position;
use super::yaml::de::{LOCATED, LOCATED_FIELDS};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// A value together with the place it was written at, for complaints that only a look at other objects can find.
#[derive(Debug)]
pub(crate) struct Located<T> {
    pub(crate) at: Position,
    pub(crate) value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Located<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Located<T>, A::Error> {
                // The deserializer gives exactly these three, in this order; any other one does not know places.
                let expect = |map: &mut A, field: &'static str| match map.next_key::<String>()? {
                    Some(found) if found == field => Ok(()),
                    _ => Err(de::Error::missing_field(field)),
                };
                expect(&mut map, "line")?;
                let line = map.next_value()?;
                expect(&mut map, "column")?;
                let column = map.next_value()?;
                expect(&mut map, "value")?;
                let value = map.next_value()?;
                Ok(Located {
                    at: Position { line, column },
                    value,
                })
            }
        }

        deserializer.deserialize_struct(LOCATED, LOCATED_FIELDS, Read(PhantomData))
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }
}
