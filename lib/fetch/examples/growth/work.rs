// SPDX-License-Identifier: Apache-2.0
//! The work that is measured: real objects in memory, and the code that trays run.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use racklet_fetch::cache::Cache;
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::publish;
use racklet_fetch::rack::{Kept, LocalObjects, RackStore, check_local};
use racklet_trust::commit::ObjectId;
use racklet_trust::digest::Hex;
use racklet_trust::floors::Floors;
use racklet_trust::history::Accepted;
use racklet_trust::manifest::{Chunk, File, Kind};
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::{
    Architecture, Digest, Manifest, PublicKey, TrustRoot, Verified, namespace, sshsig,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// Does the work `times` times.
pub(crate) fn run(name: &str, size: u64, times: u64) {
    match name {
        "load" | "networks" | "selectors" | "keys" => {
            let files = files(name, size);
            for _ in 0..times {
                let files = files.iter().map(|(path, text)| (path, text.as_bytes()));
                black_box(racklet_rack::load(files).unwrap());
            }
        }
        "verify" => {
            let mut history = History::new(1);
            let first = history.commit(None, &[]);
            let head = (0..size).fold(first, |parent, _| history.commit(Some(parent), &[]));
            let begin = Accepted {
                head: Some(first),
                generation: 1,
                root: history.baked(),
                floors: Floors::default(),
            };
            for _ in 0..times {
                let tree = check_local(&history, &head, &begin, &Limits::RACK).unwrap();
                assert_eq!(black_box(tree).head().generation, size + 1);
            }
        }
        "reopen" => kept(&mut History::new(1), &files("load", size), times),
        "roots" => kept(&mut History::new(size), &files("load", 1), times),
        "split" => {
            // Half of it repeats, half of it does not.
            let mut seed = 1u64;
            let bytes: Vec<u8> = (0..size << 20)
                .map(|at| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if at & 64 == 0 {
                        7
                    } else {
                        seed.to_be_bytes()[0]
                    }
                })
                .collect();
            for _ in 0..times {
                black_box(publish::split("rootfs", &bytes[..], |_, _| Ok(())).unwrap());
            }
        }
        "cache" => begun(size, times),
        "room" => room(size, times),
        _ => panic!("no work is called {name}"),
    }
}

/// Files below a folder.
fn write(folder: &Path, path: String, bytes: &[u8]) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Writes an image that is not whole, with these chunks of eight bytes, into the cache in `folder`.
fn begun_image(folder: &Path, version: u64, chunks: Range<u64>) -> Manifest {
    let size = chunks.end - chunks.start;
    let chunks = chunks.map(|n| {
        let bytes = n.to_be_bytes();
        let sha256 = Digest::of(&bytes);
        write(folder, publish::chunk_path(sha256), &bytes);
        Chunk {
            sha256,
            size: 8,
            length: 1,
        }
    });
    let mut manifest = Manifest::new(Kind::Artifact, "web", version, Architecture::X86_64);
    manifest.files = vec![File {
        name: "rootfs".to_owned(),
        size,
        sha256: Digest::of(b""),
        verity: Some(Digest::of(b"")),
        chunks: chunks.collect(),
    }];
    let bytes = manifest.to_canonical();
    let entry = format!("artifacts/{}/manifest.json", Digest::of(&bytes));
    write(folder, entry, &bytes);
    manifest
}

/// A cache with the chunks of an image that is not whole yet, opened as at each start.
fn begun(size: u64, times: u64) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = begun_image(folder.path(), 1, 0..size);
    for _ in 0..times {
        let cache = Cache::open(Files, folder.path()).unwrap();
        assert!(cache.is_whole(&manifest), "a chunk was thrown away");
    }
}

/// A cache that is full of images, of which each shares half of its chunks with the next: only the last one is still wanted.
fn room(size: u64, times: u64) {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<Manifest> = (0..size)
        .map(|n| begun_image(folder.path(), n + 1, 8 * n..8 * n + 16))
        .collect();
    let cache = Cache::open(Files, folder.path()).unwrap();
    let kept = images.last().unwrap();
    for _ in 0..times {
        cache.retain(&[Digest::of(&kept.to_canonical())]).unwrap();
        assert!(cache.is_whole(kept), "a chunk that is needed is gone");
        assert!(!cache.is_whole(&images[0]), "nothing made room");
    }
}

/// A head with these files, kept as a tray keeps it and verified again as a tray does when it starts.
fn kept(history: &mut History, files: &[(String, String)], times: u64) {
    let head = history.commit(None, files);
    let folder = tempfile::tempdir().unwrap();
    let store = RackStore::new(Files, folder.path().join("rack"));
    let begin = Accepted::nothing(history.newest(), Floors::default());
    let tree = check_local(history, &head, &begin, &Limits::RACK).unwrap();
    store.keep(Kept::Accepted, &tree).unwrap();
    for _ in 0..times {
        let tree = store.reopen(
            Kept::Accepted,
            &history.baked(),
            &Floors::default(),
            &Limits::RACK,
        );
        black_box(tree.unwrap().unwrap());
    }
}

/// The files of a rack of this size.
pub(crate) fn files(what: &str, size: u64) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut add = |folder: &str, kind: &str, name: &str, labels: &str, spec: &str| {
        let text = format!(
            "apiVersion: racklet.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}{labels}}}\nspec:\n{spec}"
        );
        files.push((format!("{folder}{name}.yaml"), text));
    };
    add(
        "",
        "Rack",
        "rack",
        "",
        &format!("  id: {}\n", "07".repeat(16)),
    );
    let image = format!(
        "  rootfs: {{artifact: server, manifest: 'sha256:{}'}}\n  memory: 128Mi\n  command: [/bin/server]\n",
        "bb".repeat(32)
    );
    let board = "  board: qemu-x86_64\n  memory: 64Gi\n  cpus: 4\n";
    match what {
        "networks" => {
            for n in 0..size {
                let spec = format!(
                    "  ipv4: 10.{}.{}.0/28\n  ipv6: fd00:{n:x}::/64\n",
                    n / 256,
                    n % 256
                );
                add("networks/", "Network", &format!("n{n}"), "", &spec);
            }
        }
        "selectors" => {
            for n in 0..size {
                add(
                    "trays/",
                    "Tray",
                    &format!("t{n}"),
                    ", labels: {zone: a}",
                    board,
                );
                let spec = format!("  traySelector: {{matchLabels: {{zone: a}}}}\n{image}");
                add("workloads/", "MicroVM", &format!("w{n}"), "", &spec);
            }
        }
        "keys" => {
            add("trays/", "Tray", "t", "", board);
            let keys: String = (0..size).map(|n| format!("    K{n}: v\n")).collect();
            let spec = format!("  tray: t\n{image}  env:\n{keys}");
            add("workloads/", "MicroVM", "w", "", &spec);
        }
        _ => {
            add("trays/", "Tray", "t", "", "  board: qemu-x86_64\n");
            for n in 0..size {
                let spec = format!("  tray: t\n{image}");
                add("workloads/", "MicroVM", &format!("w{n}"), "", &spec);
            }
        }
    }
    files
}

/// A rack repository in memory, named by SHA-256, with one key for everything.
pub(crate) struct History {
    key: Ed25519KeyPair,
    roots: Vec<Vec<u8>>,
    /// The folder of each version.
    versions: Vec<(String, bool, ObjectId)>,
    trust: ObjectId,
    objects: HashMap<ObjectId, (&'static str, Vec<u8>)>,
}

impl LocalObjects for History {
    fn object(&self, id: &ObjectId) -> io::Result<Option<(String, Vec<u8>)>> {
        let found = self.objects.get(id);
        Ok(found.map(|(kind, bytes)| ((*kind).to_owned(), bytes.clone())))
    }

    fn approvals(&self, _: &ObjectId) -> io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
}

impl History {
    /// With so many versions of the trust root, each as the one before.
    pub(crate) fn new(versions: u64) -> Self {
        let mut history = Self {
            key: Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap(),
            roots: Vec::new(),
            versions: Vec::new(),
            trust: ObjectId::Sha256(Hex([0; 32])),
            objects: HashMap::new(),
        };
        for version in 1..=versions {
            let keys = || RoleKeys {
                threshold: 1,
                keys: vec![history.public()],
            };
            let roles = Roles {
                root: keys(),
                config: keys(),
                payload: keys(),
                firmware: keys(),
            };
            let root = TrustRoot::new(Hex([7; 16]), version, roles).unwrap();
            let root = root.to_canonical();
            let signature = history.sign(namespace::TRUST_ROOT, &root);
            let signature = history.add("blob", signature.into_bytes());
            let signatures = history.tree(vec![("0.sig".to_owned(), false, signature)]);
            let document = history.add("blob", root.clone());
            let folder = history.tree(vec![
                ("root.json".to_owned(), false, document),
                ("signatures".to_owned(), true, signatures),
            ]);
            history.versions.push((version.to_string(), true, folder));
            history.roots.push(root);
        }
        history.show(versions);
        history
    }

    /// Commits have so many versions of the trust root from now on, and at least one.
    pub(crate) fn show(&mut self, versions: u64) {
        let count = usize::try_from(versions.max(1)).unwrap();
        self.trust = self.tree(self.versions[..count].to_vec());
    }

    /// What an owner's clone is told to believe.
    pub(crate) fn pin(&self) -> String {
        format!("sha256:{}", Digest::of(&self.roots[0]))
    }

    /// An image of 4 MiB as `racklet artifact publish` leaves it: its manifest's digest, and the commit of its own ref.
    pub(crate) fn image(&mut self) -> (Digest, ObjectId) {
        let mut seed = 1u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .take(4 << 20)
        .collect();
        let mut objects = HashMap::new();
        let mut file = publish::split("rootfs", &bytes[..], |chunk, packed| {
            objects.insert(chunk.sha256, self.add("blob", packed.to_vec()));
            Ok(())
        })
        .unwrap();
        let mut verity = racklet_fetch::verity::Tree::default();
        verity.update(&bytes);
        file.verity = Some(verity.finish());
        let mut manifest = Manifest::new(Kind::Artifact, "server", 1, Architecture::X86_64);
        manifest.files = vec![file];
        let list = publish::chunk_list(&manifest, |chunk| Some(objects[&chunk].to_string()));
        let bytes = manifest.to_canonical();
        let signature = self.sign(namespace::MANIFEST, &bytes).into_bytes();
        let signature = self.add("blob", signature);
        let digest = Digest::of(&bytes);
        let tree = vec![
            ("manifest.json".to_owned(), false, self.add("blob", bytes)),
            (
                "signatures".to_owned(),
                true,
                self.tree(vec![("0.sig".to_owned(), false, signature)]),
            ),
            (
                publish::CHUNK_LIST.to_owned(),
                false,
                self.add("blob", list.unwrap()),
            ),
        ];
        let tree = self.tree(tree);
        let person = "Tester <t@example.org> 1790000000 +0000";
        let commit = format!("tree {tree}\nauthor {person}\ncommitter {person}\n\nimage\n");
        (digest, self.add("commit", commit.into_bytes()))
    }

    /// Gives everything to the repository in this folder.
    pub(crate) fn write(&self, folder: &Path) {
        for kind in ["blob", "tree", "commit"] {
            let scratch = tempfile::tempdir().unwrap();
            let mut paths = String::new();
            let of_kind = self.objects.values().filter(|(it, _)| *it == kind);
            for (n, (_, bytes)) in of_kind.enumerate() {
                let path = scratch.path().join(n.to_string());
                std::fs::write(&path, bytes).unwrap();
                paths.push_str(path.to_str().unwrap());
                paths.push('\n');
            }
            let list = scratch.path().join("list");
            std::fs::write(&list, paths).unwrap();
            let written = Command::new("git")
                .current_dir(folder)
                .args(["hash-object", "-w", "--no-filters", "--stdin-paths", "-t"])
                .arg(kind)
                .stdin(std::fs::File::open(&list).unwrap())
                .stdout(Stdio::null())
                .status();
            assert!(written.unwrap().success(), "git hash-object");
        }
    }

    /// The root in the image.
    fn baked(&self) -> Verified<TrustRoot> {
        Verified::<TrustRoot>::baked(&self.roots[0]).unwrap()
    }

    fn newest(&self) -> Verified<TrustRoot> {
        Verified::<TrustRoot>::baked(self.roots.last().unwrap()).unwrap()
    }

    fn public(&self) -> PublicKey {
        let mut blob = Vec::new();
        for field in [&b"ssh-ed25519"[..], self.key.public_key().as_ref()] {
            blob.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            blob.extend(field);
        }
        PublicKey::from_blob(&blob).unwrap()
    }

    fn sign(&self, namespace: &str, message: &[u8]) -> String {
        let signature = self.key.sign(&sshsig::to_be_signed(namespace, message));
        let signature = signature.as_ref().try_into().unwrap();
        sshsig::armor(&self.public(), namespace, signature)
    }

    fn add(&mut self, kind: &'static str, bytes: Vec<u8>) -> ObjectId {
        let named = [format!("{kind} {}\0", bytes.len()).as_bytes(), &bytes].concat();
        let id = ObjectId::Sha256(Digest::of(&named));
        self.objects.insert(id, (kind, bytes));
        id
    }

    fn tree(&mut self, mut entries: Vec<(String, bool, ObjectId)>) -> ObjectId {
        // Git orders folders as if their names ended in a slash.
        entries
            .sort_by_key(|(name, folder, _)| format!("{name}{}", if *folder { "/" } else { "" }));
        let mut bytes = Vec::new();
        for (name, folder, id) in entries {
            bytes.extend(if folder { &b"40000 "[..] } else { b"100644 " });
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(id.as_bytes());
        }
        self.add("tree", bytes)
    }

    pub(crate) fn commit(
        &mut self,
        parent: Option<ObjectId>,
        files: &[(String, String)],
    ) -> ObjectId {
        let mut folders: HashMap<&str, Vec<(String, bool, ObjectId)>> = HashMap::new();
        for (path, text) in files {
            let (folder, name) = path.split_once('/').unwrap_or(("", path));
            let blob = self.add("blob", text.clone().into_bytes());
            folders
                .entry(folder)
                .or_default()
                .push((name.to_owned(), false, blob));
        }
        let mut top = folders.remove("").unwrap_or_default();
        for (name, entries) in folders {
            let folder = self.tree(entries);
            top.push((name.to_owned(), true, folder));
        }
        top.push(("trust".to_owned(), true, self.trust));
        let tree = self.tree(top);
        let parent = parent
            .map(|id| format!("parent {id}\n"))
            .unwrap_or_default();
        let person = format!(
            "Tester <t@example.org> {} +0000",
            1_790_000_000 + self.objects.len()
        );
        let headers = format!("tree {tree}\n{parent}author {person}\ncommitter {person}\n");
        let signature = self.sign(namespace::GIT, format!("{headers}\nchange\n").as_bytes());
        let signature = signature.trim_end().replace('\n', "\n ");
        let commit = format!("{headers}gpgsig-sha256 {signature}\n\nchange\n");
        self.add("commit", commit.into_bytes())
    }
}
