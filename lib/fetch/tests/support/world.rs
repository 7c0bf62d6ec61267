// SPDX-License-Identifier: Apache-2.0
//! A server with one repository, and the trust root of whoever follows it.

use racklet_fetch::{
    cache::{ArriveError, Arrived, Cache, Pin},
    disk::Disk,
    limits::Limits,
    progress::Silent,
    publish,
    remote::Remote,
};
use racklet_trust::{Digest, TrustRoot, Verified, manifest::Kind};

use super::{
    git::{Place, Repository},
    package::Package,
    server::Server,
};

pub struct World {
    pub place: Place,
    pub repository: Repository,
    pub server: Server,
    pub root: Verified<TrustRoot>,
}

impl World {
    /// Nothing is in the repository.
    pub fn empty(format: &str) -> Self {
        let place = Place::new();
        let repository = place.repository("rack", format);
        Self::served(place, repository)
    }

    /// A rack with one signed commit.
    pub fn rack(format: &str) -> Self {
        let (place, repository) = rack(format);
        Self::served(place, repository)
    }

    fn served(place: Place, repository: Repository) -> Self {
        let (server, root) = (Server::start(place.served()), place.baked(&["config"]));
        Self {
            place,
            repository,
            server,
            root,
        }
    }

    /// Commits and pushes what was written; the commit's name.
    pub fn commit(&self) -> String {
        let id = self.repository.commit(&self.place.key("config"));
        self.repository.push();
        id
    }

    pub fn publish(&self, package: &Package, key: &str) {
        package.publish(&self.repository, &[&self.place.key(key)]);
    }

    /// Publishes it with the ref that stays.
    pub fn publish_for_good(&self, package: &Package) {
        let name = publish::manifest_ref(package.digest());
        self.publish_as(package, &name);
    }

    pub fn publish_as(&self, package: &Package, name: &str) {
        let key = self.place.key("payload");
        package.publish_as(&self.repository, &[&key], name);
    }

    pub fn fetch<D: Disk>(
        &self,
        cache: &Cache<D>,
        package: &Package,
        keep: &[Digest],
    ) -> (Result<Arrived, ArriveError>, Remote) {
        let pin = Pin {
            kind: package.manifest.kind,
            name: package.manifest.name.clone(),
            manifest: package.digest(),
        };
        let limits = match pin.kind {
            Kind::Payload => Limits::PAYLOAD,
            _ => Limits::ARTIFACT,
        };
        let mut remote = self.server.remote("rack");
        let arrived = cache.fetch(&mut remote, &pin, &self.root, keep, &limits, &mut Silent);
        (arrived, remote)
    }
}

/// A rack with one signed commit, which nobody serves yet.
pub fn rack(format: &str) -> (Place, Repository) {
    let place = Place::new();
    let repository = place.repository("rack", format);
    repository.write_root(&place.trust_root(1, &["config"]), &[&place.key("root")]);
    repository.write("rack.yaml", "kind: Rack\n");
    repository.commit(&place.key("config"));
    repository.push();
    (place, repository)
}
