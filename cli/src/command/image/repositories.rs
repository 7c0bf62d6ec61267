// SPDX-License-Identifier: Apache-2.0
//! The further repositories of a tray, as its owner writes them: like in the tray's configuration, but secrets and certificates are
//! files of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use racklet_api::tray::{ClientCertificate, Elsewhere, Scheme, Secret};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Repositories {
    repositories: Vec<Written>,
}

/// Paths are counted from the folder of the file that names them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    url: String,
    #[serde(default)]
    mirror: bool,
    #[serde(rename = "static")]
    plain: Option<String>,
    ca_file: Option<PathBuf>,
    user: Option<String>,
    #[serde(default)]
    scheme: Scheme,
    token_file: Option<PathBuf>,
    client: Option<Client>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Client {
    certificate_file: PathBuf,
    key_file: PathBuf,
}

/// What `path` says, with the files that it names. Whether it makes sense is for the tray's configuration to judge.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Elsewhere>> {
    let text =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let written: Repositories = serde_json::from_str(&text(path)?).with_context(|| {
        format!(
            "{} is not {{\"repositories\": [{{\"url\": …, \"mirror\": …, \"static\": …, \"caFile\": …, \"user\": …, \"tokenFile\": …}}]}}",
            path.display()
        )
    })?;
    let beside = |name: &Path| text(&path.parent().unwrap_or(Path::new(".")).join(name));
    let one = |it: Written| {
        Ok(Elsewhere {
            url: it.url,
            mirror: it.mirror,
            plain: it.plain,
            ca: it.ca_file.as_deref().map(beside).transpose()?,
            user: it.user,
            scheme: it.scheme,
            token: (it.token_file.as_deref().map(beside).transpose()?)
                .map(|token| Secret(token.trim().to_owned())),
            client: match it.client {
                Some(client) => Some(ClientCertificate {
                    certificate: beside(&client.certificate_file)?,
                    key: Secret(beside(&client.key_file)?),
                }),
                None => None,
            },
        })
    };
    written.repositories.into_iter().map(one).collect()
}
