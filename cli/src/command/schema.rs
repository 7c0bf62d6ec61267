// SPDX-License-Identifier: Apache-2.0
//! `racklet schema`: JSON Schema of the rack objects, so that editors complete and check while a person writes.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use racklet_rack::{KINDS, json_schemas};

use crate::answer;
use crate::output::Output;

/// Write the JSON Schema of the rack's files, for editors that complete and check YAML
///
/// With the YAML language server, a first line in a file such as
/// `# yaml-language-server: $schema=../schema/microvm.json` is all it takes.
#[derive(Args)]
pub(crate) struct Schema {
    /// Which kind, on standard output; all kinds when left out
    #[arg(value_parser = PossibleValuesParser::new(KINDS.iter().map(|kind| kind.name)))]
    kind: Option<String>,
    /// Write one file for each kind into this folder instead
    #[arg(long, short, value_name = "DIR", conflicts_with = "kind")]
    output: Option<PathBuf>,
    /// The schema of what commands print with --json instead
    #[arg(long, conflicts_with_all = ["kind", "output"])]
    answers: bool,
}

impl Schema {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let schemas = json_schemas();
        if let Some(folder) = self.output {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("make {}", folder.display()))?;
            for (kind, schema) in &schemas {
                let path = folder.join(format!("{}.json", kind.to_lowercase()));
                let text = serde_json::to_string_pretty(schema)? + "\n";
                std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            }
            let count = schemas.len();
            output.note(&format!("wrote {count} schemas into {}", folder.display()));
            return Ok(());
        }
        let mut schemas = schemas.into_iter();
        let value = match self.kind {
            _ if self.answers => answer::schema(),
            Some(wanted) => schemas
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, schema)| schema)
                .with_context(|| format!("there is no schema of {wanted}"))?,
            None => schemas
                .map(|(kind, schema)| (kind.to_lowercase(), schema))
                .collect(),
        };
        output.answer(&serde_json::to_string_pretty(&value)?, &value);
        Ok(())
    }
}
