// SPDX-License-Identifier: Apache-2.0
//! The user's SSH keys: finding them and having them sign.
//!
//! Every signature is made by `ssh-keygen -Y sign`, which asks the agent, the passphrase or the hardware token by itself.
//! Racklet never reads a private key of a person.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use racklet_trust::PublicKey;
use racklet_trust::key::KeyError;

use crate::interrupt;

/// Why a key was not found or did not sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    #[error("cannot run {program}; install it (Debian and Ubuntu: apt install openssh-client)")]
    Missing {
        program: &'static str,
        source: io::Error,
    },
    #[error("read key {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{place}")]
    Key { place: String, source: KeyError },
    #[error("no key found: name one with --key FILE, or make one with `racklet key generate`")]
    None,
    #[error("{0} is neither a key file, a fingerprint of a key in the agent, nor a public key")]
    Unknown(String),
    #[error("several keys could be used; choose one with --key:\n{0}")]
    Ambiguous(String),
    #[error("ssh-keygen did not sign with {key}: {message}")]
    Sign { key: String, message: String },
    #[error("ssh-keygen did not make a key: {0}")]
    Generate(String),
    #[error("hand the message to ssh-keygen")]
    Pipe(#[source] io::Error),
}

/// A key that may be asked to sign.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) public: PublicKey,
    pub(crate) comment: String,
    /// Its file, public or private; keys of the agent may have none.
    pub(crate) path: Option<PathBuf>,
    pub(crate) in_agent: bool,
}

impl Key {
    /// As people name it: file or comment, and fingerprint.
    pub(crate) fn shown(&self) -> String {
        let name = match &self.path {
            Some(path) => path.display().to_string(),
            None if self.comment.is_empty() => "agent".to_owned(),
            None => self.comment.clone(),
        };
        format!("{name} ({})", self.public.fingerprint())
    }

    /// What Git's `user.signingKey` takes.
    pub(crate) fn git_signing_key(&self) -> String {
        match &self.path {
            Some(path) => std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .display()
                .to_string(),
            None => format!("key::{}", self.public),
        }
    }
}

/// Keys in `~/.ssh` and in the agent, the agent's first. Keys of types that Racklet does not accept are left out.
pub(crate) fn available() -> Vec<Key> {
    let mut keys: Vec<Key> = agent();
    let Some(home) = std::env::var_os("HOME") else {
        return keys;
    };
    let folder = Path::new(&home).join(".ssh");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    for path in files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
    {
        let Ok(key) = from_file(&path) else { continue };
        match keys.iter_mut().find(|known| known.public == key.public) {
            Some(known) => known.path = Some(path),
            None if path.with_extension("").exists() => keys.push(key),
            None => {}
        }
    }
    keys
}

fn agent() -> Vec<Key> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        return Vec::new();
    }
    let Ok(out) = Command::new("ssh-add")
        .arg("-L")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
    else {
        return Vec::new();
    };
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| {
            let (public, comment) = parse_line(line).ok()?;
            Some(Key {
                public,
                comment,
                path: None,
                in_agent: true,
            })
        })
        .collect()
}

/// `type base64 comment`.
pub(crate) fn parse_line(line: &str) -> Result<(PublicKey, String), KeyError> {
    let mut words = line.trim().splitn(3, ' ');
    let (kind, blob) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let public: PublicKey = format!("{kind} {blob}").parse()?;
    Ok((public, words.next().unwrap_or_default().trim().to_owned()))
}

fn from_file(path: &Path) -> Result<Key, SshError> {
    // A private key has its public half beside it; ssh-keygen finds its way from either.
    let mut public = path.to_owned();
    if path.extension().is_none_or(|extension| extension != "pub") {
        public.as_mut_os_string().push(".pub");
        if !public.exists() {
            public = path.to_owned();
        }
    }
    let text = fs::read_to_string(&public).map_err(|source| SshError::Read {
        path: public.clone(),
        source,
    })?;
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .unwrap_or_default();
    let (key, comment) = parse_line(line).map_err(|source| SshError::Key {
        place: public.display().to_string(),
        source,
    })?;
    Ok(Key {
        public: key,
        comment,
        path: Some(path.to_owned()),
        in_agent: false,
    })
}

/// Finds the key that the user means: a file, a fingerprint (`SHA256:…`), or the public key itself.
pub(crate) fn find(name: &str) -> Result<Key, SshError> {
    let expanded = match name.strip_prefix("~/") {
        Some(rest) => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(rest),
        None => PathBuf::from(name),
    };
    if expanded.exists() {
        return from_file(&expanded);
    }
    if name.starts_with("SHA256:") {
        return available()
            .into_iter()
            .find(|key| key.public.fingerprint() == name)
            .ok_or_else(|| SshError::Unknown(name.to_owned()));
    }
    let text = name.strip_prefix("key::").unwrap_or(name);
    if text.starts_with("ssh-") || text.starts_with("sk-") {
        let (public, comment) = parse_line(text).map_err(|source| SshError::Key {
            place: name.to_owned(),
            source,
        })?;
        let known = available().into_iter().find(|key| key.public == public);
        return Ok(known.unwrap_or(Key {
            public,
            comment,
            path: None,
            in_agent: false,
        }));
    }
    Err(SshError::Unknown(name.to_owned()))
}

/// The key to use when the user named none: the only one there is among those that may do it.
pub(crate) fn default(allowed: impl Fn(&PublicKey) -> bool) -> Result<Key, SshError> {
    let mut keys: Vec<Key> = available()
        .into_iter()
        .filter(|key| allowed(&key.public))
        .collect();
    match keys.len() {
        0 => Err(SshError::None),
        1 => Ok(keys.remove(0)),
        _ => {
            let list: Vec<String> = keys
                .iter()
                .map(|key| format!("  --key {}", key.shown()))
                .collect();
            Err(SshError::Ambiguous(list.join("\n")))
        }
    }
}

/// Has `key` sign `message` for the purpose `namespace`; gives the armored SSHSIG.
pub(crate) fn sign(key: &Key, namespace: &str, message: &[u8]) -> Result<Vec<u8>, SshError> {
    let _guard = interrupt::guard();
    // A key that only the agent has is named by its public half in a file.
    let mut named = None;
    let path = match &key.path {
        Some(path) => path.clone(),
        None => {
            let mut file = tempfile::NamedTempFile::new().map_err(SshError::Pipe)?;
            writeln!(file, "{}", key.public).map_err(SshError::Pipe)?;
            let path = file.path().to_owned();
            named = Some(file);
            path
        }
    };
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // "Confirm user presence" must be seen while it matters.
        .stderr(if io::stderr().is_terminal() {
            Stdio::inherit()
        } else {
            Stdio::piped()
        })
        .spawn()
        .map_err(|source| SshError::Missing {
            program: "ssh-keygen",
            source,
        })?;
    let mut input = child.stdin.take().expect("piped");
    let written = input.write_all(message);
    drop(input);
    let out = child.wait_with_output().map_err(SshError::Pipe)?;
    drop(named);
    let message = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if !out.status.success() || out.stdout.is_empty() {
        let message = if message.is_empty() {
            "see above".to_owned()
        } else if message.contains("No private key found") || message.contains("Couldn't load") {
            format!(
                "{message}\nadd it to the agent (ssh-add) or name the private key's file with --key"
            )
        } else {
            message
        };
        return Err(SshError::Sign {
            key: key.shown(),
            message,
        });
    }
    written.map_err(SshError::Pipe)?;
    Ok(out.stdout)
}

/// Makes a new key with `ssh-keygen`, which asks for the passphrase.
pub(crate) fn generate(
    path: &Path,
    comment: &str,
    hardware: bool,
    no_passphrase: bool,
) -> Result<Key, SshError> {
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        fs::create_dir_all(parent).map_err(|source| SshError::Read {
            path: parent.to_owned(),
            source,
        })?;
    }
    let mut command = Command::new("ssh-keygen");
    command
        .args([
            "-q",
            "-t",
            if hardware { "ed25519-sk" } else { "ed25519" },
            "-C",
            comment,
            "-f",
        ])
        .arg(path);
    if no_passphrase {
        command.args(["-N", ""]);
    }
    if path.exists() {
        return Err(SshError::Generate(format!(
            "{} exists already",
            path.display()
        )));
    }
    let status = command.status().map_err(|source| SshError::Missing {
        program: "ssh-keygen",
        source,
    })?;
    if !status.success() {
        return Err(SshError::Generate(status.to_string()));
    }
    from_file(path)
}
