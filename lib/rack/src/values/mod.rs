// SPDX-License-Identifier: Apache-2.0
//! The small values rack objects are made of. Each can only be made from good text, so whoever holds one need not
//! check it again.

mod digest;
mod memory;
mod name;
mod prefix;
mod url;

pub use digest::{ManifestDigest, RackId};
pub use memory::Memory;
pub use name::Name;
pub use prefix::Prefix;
pub use url::RepositoryUrl;

use racklet_tell::text;

/// What is wrong with one value; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Serde and text conversions shared by all values: text in, text out.
macro_rules! as_text {
    ($type:ident, $pattern:expr, $example:expr) => {
        impl TryFrom<String> for $type {
            type Error = ValueError;
            fn try_from(text: String) -> Result<Self, ValueError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern, "examples": [$example]})
            }
        }
    };
}
use as_text;

/// What a stranger wrote, short enough for a message and without control characters.
fn shorten(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    let mut out = text::line(&start);
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
