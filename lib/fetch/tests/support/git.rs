// SPDX-License-Identifier: Apache-2.0
//! Rack repositories made with the ordinary `git` and `ssh-keygen`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use racklet_trust::{
    PublicKey, TrustRoot, Verified,
    digest::Hex,
    floors::Floors,
    history::Accepted,
    root::{RoleKeys, Roles},
};
use tempfile::TempDir;

/// A key pair in files, as `ssh-keygen` makes them.
#[derive(Clone)]
pub struct Key {
    pub path: PathBuf,
}

impl Key {
    pub fn public(&self) -> PublicKey {
        let text = std::fs::read_to_string(self.path.with_extension("pub")).unwrap();
        text.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
            .parse()
            .unwrap()
    }

    /// `ssh-keygen -Y sign`.
    pub fn sign(&self, namespace: &str, bytes: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("message");
        std::fs::write(&file, bytes).unwrap();
        run(Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(&self.path)
            .arg(&file));
        std::fs::read(dir.path().join("message.sig")).unwrap()
    }
}

pub fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A folder with keys, bare repositories to be served, and their working copies.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn served(&self) -> PathBuf {
        self.dir.path().join("served")
    }

    pub fn key(&self, name: &str) -> Key {
        let path = self.dir.path().join(format!("key-{name}"));
        if !path.exists() {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(&path));
        }
        Key { path }
    }

    /// A repository `name`, served, with a working copy whose branch is `main`.
    pub fn repository(&self, name: &str, format: &str) -> Repository {
        let bare = self.served().join(name);
        let work = self.dir.path().join(format!("work-{name}"));
        let object_format = format!("--object-format={format}");
        std::fs::create_dir_all(&bare).unwrap();
        for (dir, bareness) in [(&bare, "--bare"), (&work, "--no-template")] {
            run(Command::new("git")
                .args(["init", "-q", "-b", "main", &object_format, bareness])
                .arg(dir));
        }
        let repository = Repository { bare, work };
        repository.git(&["remote", "add", "origin", repository.bare.to_str().unwrap()]);
        repository.git(&["config", "gpg.format", "ssh"]);
        repository.git(&["config", "user.name", "Tester"]);
        repository.git(&["config", "user.email", "tester@example.org"]);
        repository
    }

    /// One key for every role.
    pub fn roles(&self, root: &str, config: &[&str], payload: &str) -> Roles {
        let keys = |names: &[&str]| RoleKeys {
            threshold: 1,
            keys: names.iter().map(|name| self.key(name).public()).collect(),
        };
        Roles {
            root: keys(&[root]),
            config: keys(config),
            payload: keys(&[payload]),
            firmware: keys(&[payload]),
        }
    }

    pub fn trust_root(&self, version: u64, config: &[&str]) -> TrustRoot {
        TrustRoot::new(Hex([7; 16]), version, self.roles("root", config, "payload")).unwrap()
    }

    /// What an image bakes in: version 1.
    pub fn baked(&self, config: &[&str]) -> Verified<TrustRoot> {
        Verified::<TrustRoot>::baked(&self.trust_root(1, config).to_canonical()).unwrap()
    }

    pub fn first_boot(&self, config: &[&str]) -> Accepted {
        Accepted::nothing(self.baked(config), Floors::default())
    }
}

pub struct Repository {
    pub bare: PathBuf,
    pub work: PathBuf,
}

impl Repository {
    pub fn git(&self, args: &[&str]) -> String {
        run(Command::new("git")
            .arg("-C")
            .arg(&self.work)
            .args(args)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null"))
    }

    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.work.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Puts a trust root and its signatures where the rack repository has them.
    pub fn write_root(&self, root: &TrustRoot, signers: &[&Key]) {
        let folder = format!("trust/{}", root.version());
        let bytes = root.to_canonical();
        for (n, signer) in signers.iter().enumerate() {
            let signature = signer.sign("trust-root@racklet.dev", &bytes);
            self.write(&format!("{folder}/signatures/{n}.sig"), signature);
        }
        self.write(&format!("{folder}/root.json"), bytes);
    }

    /// `git commit -S` of everything, then its name.
    pub fn commit(&self, key: &Key) -> String {
        self.git(&["add", "-A"]);
        self.git(&[
            "-c",
            &format!("user.signingkey={}", key.path.display()),
            "commit",
            "-q",
            "-S",
            "--allow-empty",
            "-m",
            "change",
        ]);
        self.head()
    }

    pub fn commit_unsigned(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change"]);
        self.head()
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn push(&self) {
        self.git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/main"]);
    }
}
