// SPDX-License-Identifier: Apache-2.0
//! JSON Schema of the rack objects, for editors. Generated from the types that read them; only built with the feature
//! `schema`, because nothing on a tray needs it.

use super::API_VERSION;
use super::kind::schemas;
use serde_json::{Value, json};

/// The schema of each kind's objects, with the kind's name.
#[must_use]
pub fn json_schemas() -> Vec<(&'static str, Value)> {
    let schemas = schemas().into_iter();
    schemas
        .map(|(kind, schema)| (kind.name, finished(kind.name, schema.to_value())))
        .collect()
}

/// What only the list of kinds knows: which words stand in `apiVersion` and `kind`.
fn finished(kind: &str, mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), json!(kind));
    }
    let properties = schema.pointer_mut("/properties");
    if let Some(properties) = properties.and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({"const": API_VERSION}));
        properties.insert("kind".to_owned(), json!({"const": kind}));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KINDS;

    #[test]
    fn the_schema_knows_every_kind_and_field() {
        let schemas = json_schemas();
        assert_eq!(schemas.len(), KINDS.len());
        for (kind, schema) in &schemas {
            let schema = schema.to_string();
            assert!(
                schema.contains("\"additionalProperties\":false"),
                "{kind}: {schema}"
            );
            assert!(
                schema.contains(&format!("\"const\":\"{kind}\"")),
                "{kind}: {schema}"
            );
        }
        let microvm = schemas.iter().find(|(kind, _)| *kind == "MicroVM");
        let microvm = microvm.expect("a schema").1.to_string();
        for field in [
            "traySelector",
            "restartPolicy",
            "initialSeconds",
            "matchLabels",
        ] {
            assert!(microvm.contains(field), "{field} is missing in {microvm}");
        }
    }
}
