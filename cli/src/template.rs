// SPDX-License-Identifier: Apache-2.0
//! The files of a new rack repository. They are meant to be read and edited by people; nothing is generated later.

use racklet_rack::{KINDS, Place};
use racklet_trust::PublicKey;

pub(crate) fn rack(name: &str, id: &str, poll: u64) -> String {
    format!(
        "apiVersion: racklet.dev/v1alpha1
kind: Rack
metadata:
  name: {name}
spec:
  # The id in trust/: no other rack's commits count here.
  id: {id}
  # How often trays look for new commits.
  pollSeconds: {poll}
"
    )
}

pub(crate) fn tray(name: &str, board: &str, identity: &PublicKey) -> String {
    format!(
        "apiVersion: racklet.dev/v1alpha1
kind: Tray
metadata:
  name: {name}
spec:
  board: {board}
  # What it has, so that `racklet check` says what does not fit, such as 4Gi and 4.
  # memory: 4Gi
  # cpus: 4
  # The tray's public key: `racklet status {name}` talks to nobody else.
  identity: {identity}
"
    )
}

pub(crate) fn release(name: &str, payload: &str, digest: &str) -> String {
    format!(
        "apiVersion: racklet.dev/v1alpha1
kind: Release
metadata:
  name: {name}
spec:
  payload:
    # Branch payload/{payload}; `racklet payload pin` writes the digest.
    name: {payload}
    manifest: sha256:{digest}
"
    )
}

/// The lines of a release that pin a bootstrap.
pub(crate) fn bootstrap(name: &str, digest: &str) -> String {
    format!(
        "  bootstrap:
    # Branch bootstrap/{name}; `racklet bootstrap pin` writes the digest.
    name: {name}
    manifest: sha256:{digest}
"
    )
}

pub(crate) const NETWORK: &str = "apiVersion: racklet.dev/v1alpha1
kind: Network
metadata:
  name: lan
spec:
  # A bridge on each tray; its first address is the gateway.
  ipv4: 10.80.0.0/24
  # Workloads reach the outside through the tray's address.
  nat: true
";

/// Images hold a tray's private key.
pub(crate) const IGNORED: &str = "*.img\n";

/// Not a rack object because of its name.
pub(crate) const WORKLOAD_FILE: &str = "workloads/web.yaml.example";

pub(crate) fn workload(tray: &str) -> String {
    format!(
        "# An example: rename this file to web.yaml, then
#   racklet artifact build --from DIR --name web -o web && racklet artifact sign web
#   racklet artifact publish web && racklet artifact pin web
apiVersion: racklet.dev/v1alpha1
kind: MicroVM
metadata:
  name: web
spec:
  tray: {tray}
  rootfs:
    artifact: web
    manifest: sha256:0000000000000000000000000000000000000000000000000000000000000000
  cpus: 1
  memory: 128Mi
  command: [/bin/httpd, -f, -p, \"80\", -h, /www]
  env:
    LANG: C.UTF-8
  network:
    name: lan
    address: 10.80.0.10
  restartPolicy: Always
"
    )
}

pub(crate) fn readme(name: &str) -> String {
    let kinds: String = KINDS
        .iter()
        .map(|kind| match kind.place {
            Place::File(file) => format!("| `{file}` | {} |\n", kind.about),
            Place::Folder(folder) => format!("| `{folder}/` | {} |\n", kind.about),
        })
        .collect();
    format!(
        "# Rack {name}

What runs on this rack. Trays fetch this repository, check the signature of every commit, and do what it says.

| | |
| --- | --- |
{kinds}| `trust/` | who may change what; only `racklet trust` and `racklet key` write here |

## Changing something

    edit workloads/web.yaml     # `web.yaml.example` beside it shows how
    racklet check        # what a tray would say
    racklet plan         # what it would do
    git add -A           # new files too
    git commit           # signed: commit.gpgsign is on
    git push

## On another machine

    git clone --single-branch URL
    racklet rack setup   # asks for the fingerprint of the rack's root, has Git sign commits with your key

The private keys of trays stay with whoever ran `racklet rack init` (`~/.local/share/racklet/`): keep a copy of them.
"
    )
}
