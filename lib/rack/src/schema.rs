// SPDX-License-Identifier: Apache-2.0
//! JSON Schema of the rack objects, for editors. Generated from the types that read them; only built with the feature
//! `schema`, because nothing on a tray needs it.

use super::object::{MicroVmSpec, NetworkSpec, Object, RackSpec, ReleaseSpec, TraySpec};
use super::{API_VERSION, KINDS};
use serde_json::{Value, json};

/// The schema of objects of `kind` (`Rack`, `Tray`, `Release`, `Network` or `MicroVM`).
#[must_use]
pub fn json_schema(kind: &str) -> Option<Value> {
    let schema = match kind {
        "Rack" => schemars::schema_for!(Object<RackSpec>),
        "Tray" => schemars::schema_for!(Object<TraySpec>),
        "Release" => schemars::schema_for!(Object<ReleaseSpec>),
        "Network" => schemars::schema_for!(Object<NetworkSpec>),
        "MicroVM" => schemars::schema_for!(Object<MicroVmSpec>),
        _ => return None,
    };
    debug_assert!(KINDS.contains(&kind), "every kind has a schema");
    let mut schema = schema.to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), json!(kind));
    }
    if let Some(properties) = schema
        .pointer_mut("/properties")
        .and_then(Value::as_object_mut)
    {
        properties.insert("apiVersion".to_owned(), json!({"const": API_VERSION}));
        properties.insert("kind".to_owned(), json!({"const": kind}));
    }
    Some(schema)
}
