// SPDX-License-Identifier: Apache-2.0
//! The head accepted last, and how a newer one takes its place.

use std::io;
use std::path::PathBuf;

use racklet_api::tray::{Elsewhere, TrayConfig};
use racklet_fetch::disk::Disk;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Progress;
use racklet_fetch::rack::{
    self, FetchError, Kept, Outcome, RackStore, RackTree, Rejected, ReopenError, Way,
};
use racklet_fetch::remote::{Remote, RemoteConfig};
use racklet_fetch::tls::{Clock, TlsError};
use racklet_fetch::url::{HttpsUrl, UrlError};
use racklet_rack::Pin;
use racklet_trust::commit::ObjectId;
use racklet_trust::floors::Floors;
use racklet_trust::history::{Accepted, Head};
use racklet_trust::{TrustRoot, Verified};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::places::{Place, Places, Round, each};
use crate::{Hold, may_pass};

/// Why there is no newer head.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Where the server is.
    #[error("the repository's address")]
    Url(#[from] UrlError),
    /// As whom to speak with it.
    #[error("set up TLS")]
    Tls(#[from] TlsError),
    /// The conversation with it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What it shows may not be followed.
    #[error("head {listed} is not followed")]
    Rejected {
        /// What the branch points to; what is wrong may be on the way there.
        listed: ObjectId,
        /// Which commit, and the rule.
        #[source]
        reason: Box<Rejected>,
    },
    /// Neither the rack's own server nor any of its mirrors brings anything.
    #[error("no mirror brings anything either ({}); the rack's own server", each(.mirrors))]
    Nowhere {
        /// Each mirror's address and what went wrong there.
        mirrors: Vec<(String, FollowError)>,
        /// What went wrong with the rack's own server.
        #[source]
        own: Box<FollowError>,
    },
}

impl FollowError {
    /// Whether trying again within seconds makes sense.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Fetch(FetchError::Remote(error)) => may_pass(error),
            Self::Nowhere { mirrors, own } => {
                own.may_pass() || mirrors.iter().any(|(_, error)| error.may_pass())
            }
            _ => false,
        }
    }

    /// How long the servers are to be left alone.
    #[must_use]
    pub fn hold(&self) -> Hold {
        match self {
            Self::Fetch(FetchError::Remote(error)) => Hold::of(error),
            Self::Nowhere { mirrors, own } => {
                let mirrors = mirrors.iter().map(|(_, error)| error.hold());
                mirrors.fold(own.hold(), Hold::or)
            }
            _ => Hold::default(),
        }
    }
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// The branch points to the head accepted last.
    Unchanged,
    /// It pointed elsewhere: that head is the accepted one now.
    Accepted,
}

/// A head that was just accepted.
#[derive(Debug)]
pub struct News<'a> {
    /// The head.
    pub head: &'a Verified<Head>,
    /// How many commits came with it.
    pub commits: u64,
    /// There is more to come: this is a commit on the way.
    pub on_the_way: bool,
    /// Why the disk did not take it, where it did not. Floors on a disk that no head there reaches would leave a start without a server
    /// with nothing to follow: they are raised in memory alone then.
    pub kept: Result<(), io::Error>,
}

/// Whoever keeps the floors.
pub trait Keeper {
    /// What nothing accepted from now on may be below. Asked only where no head is at hand.
    fn floors(&mut self) -> Floors;

    /// Raises the floors to what was accepted, before anything else is accepted or done.
    fn accepted(&mut self, news: News<'_>);
}

/// For so long after Git was asked, a plain file may say in its place that nothing is new: it may be stale or lie, and be all that somebody
/// in between lets through.
const LONGEST_QUIET: Duration = Duration::from_secs(600);

/// A repository of the tray's configuration that is not the rack's own, or not in its own place.
#[derive(Debug)]
struct Other {
    mirror: bool,
    /// How it is let in by, and the plain files beside it; for one that is no mirror, of whatever lies below.
    config: RemoteConfig,
}

/// The entry that says most about `url`.
fn says_most<T>(
    entries: impl Iterator<Item = T>,
    url: &HttpsUrl,
    at: impl Fn(&T) -> &HttpsUrl,
) -> Option<T> {
    entries
        .filter(|it| at(it).covers(url))
        .max_by_key(|it| at(it).to_string().len())
}

/// Follows one branch of one rack.
#[derive(Debug)]
pub struct Follower<D> {
    /// How the rack's own server is spoken to: patience, pulse and clock are the product's to set.
    pub config: RemoteConfig,
    /// For how long after Git was asked a plain file is believed that nothing is new; ten minutes unless a product sets it.
    pub longest_quiet: Duration,
    mirrors: Vec<Other>,
    /// Servers that pins may name.
    others: Vec<Other>,
    places: Places,
    /// Which place's Git answered last, and when.
    asked: Option<(Place, Instant)>,
    branch: String,
    store: RackStore<D>,
    baked: Verified<TrustRoot>,
    handed: Verified<TrustRoot>,
    accepted: Option<RackTree>,
    way: Way,
}

impl<D: Disk> Follower<D> {
    /// Follows the tray's repository; heads are kept in `folder`. `baked` is the trust root in the image, from which kept heads are
    /// judged; `handed` the newest that somebody accepted for this tray before (`baked` again, where nobody did).
    ///
    /// # Errors
    /// [`UrlError`] when the repository's address is not one of ours.
    pub fn new(
        tray: &TrayConfig,
        clock: Arc<dyn Clock>,
        disk: D,
        folder: impl Into<PathBuf>,
        [baked, handed]: [Verified<TrustRoot>; 2],
    ) -> Result<Self, UrlError> {
        let elsewhere = tray.repositories.iter();
        let elsewhere = elsewhere.map(|it| Ok((it.url.parse()?, it)));
        let elsewhere = elsewhere.collect::<Result<Vec<(HttpsUrl, &Elsewhere)>, UrlError>>()?;
        let mut config = RemoteConfig::of_tray(&tray.repository, clock)?;
        let set_beside = |config: &mut RemoteConfig, plain: &Option<String>| {
            if let Some(plain) = plain {
                let plain: HttpsUrl = plain.parse()?;
                let others = elsewhere.iter().filter(|(_, it)| !it.mirror);
                let entry = says_most(others, &plain, |(at, _)| at);
                config.set_beside(plain, entry.map(|(_, it)| it.access()));
            }
            Ok(())
        };
        set_beside(&mut config, &tray.repository.plain)?;
        let others = elsewhere.iter().map(|(url, it)| {
            let mut config = config.elsewhere(url.clone(), Some(it.access()));
            set_beside(&mut config, &it.plain)?;
            Ok(Other {
                mirror: it.mirror,
                config,
            })
        });
        let others = others.collect::<Result<Vec<Other>, UrlError>>()?;
        let (mirrors, others): (Vec<_>, _) = others.into_iter().partition(|it| it.mirror);
        Ok(Self {
            config,
            places: Places::new(1 + mirrors.len()),
            longest_quiet: LONGEST_QUIET,
            asked: None,
            mirrors,
            others,
            branch: format!("refs/heads/{}", tray.repository.branch),
            store: RackStore::new(disk, folder),
            baked,
            handed,
            accepted: None,
            way: Way::default(),
        })
    }

    /// Begins with the head accepted last or, where that is lost, the one last in force. What is wrong with them is given back: it costs
    /// a full fetch, and nothing else.
    pub fn reopen(&mut self, floors: &Floors) -> Vec<ReopenError> {
        let mut faults = Vec::new();
        for which in [Kept::Accepted, Kept::InForce] {
            if self.accepted.is_none() {
                match self.kept(which, floors) {
                    Ok(kept) => self.accepted = kept,
                    Err(error) => faults.push(error),
                }
            }
        }
        faults
    }

    /// The head last in force, as it is kept: what to go on with where the files of the one accepted last are at fault.
    ///
    /// # Errors
    /// [`ReopenError`] with the reason.
    pub fn in_force(&self, floors: &Floors) -> Result<Option<RackTree>, ReopenError> {
        self.kept(Kept::InForce, floors)
    }

    fn kept(&self, which: Kept, floors: &Floors) -> Result<Option<RackTree>, ReopenError> {
        self.store.reopen(which, &self.baked, floors, &Limits::RACK)
    }

    /// Keeps the accepted head as the one in force.
    ///
    /// # Errors
    /// The disk's; then the one before is still kept.
    pub fn keep_in_force(&self) -> io::Result<()> {
        match &self.accepted {
            Some(tree) => self.store.keep(Kept::InForce, tree),
            None => Ok(()),
        }
    }

    /// The head accepted last.
    #[must_use]
    pub fn accepted(&self) -> Option<&RackTree> {
        self.accepted.as_ref()
    }

    /// The trust root in the image.
    #[must_use]
    pub fn baked(&self) -> &Verified<TrustRoot> {
        &self.baked
    }

    /// The newest trust root that is known: by it payloads, images and the API's users are judged.
    #[must_use]
    pub fn root(&self) -> &Verified<TrustRoot> {
        match &self.accepted {
            Some(tree) if tree.head().root.version() > self.handed.version() => &tree.head().root,
            _ => &self.handed,
        }
    }

    /// How the server of something pinned is spoken to: as the place of the rack that answered last, where the pin names no other
    /// repository. Another one is trusted by the public authorities and shown no credentials, unless the tray's configuration has an entry
    /// for it; what the rack's own server is shown it never is.
    ///
    /// # Errors
    /// [`UrlError`] when its address is not one of ours.
    pub fn config_for(&self, pin: &Pin) -> Result<RemoteConfig, UrlError> {
        let Some(url) = &pin.repository else {
            return Ok(self.config_at(self.places.at));
        };
        let url: HttpsUrl = url.as_str().parse()?;
        if url == self.config.url {
            return Ok(self.config.clone());
        }
        let entry = says_most(self.others.iter(), &url, |it| &it.config.url);
        Ok(match entry {
            Some(entry) => self.config.like(url, &entry.config),
            None => self.config.elsewhere(url, None),
        })
    }

    /// How a place of the rack is spoken to.
    fn config_at(&self, place: Place) -> RemoteConfig {
        match place.0.checked_sub(1) {
            None => self.config.clone(),
            Some(mirror) => {
                let it = &self.mirrors[mirror].config;
                self.config.like(it.url.clone(), it)
            }
        }
    }

    /// The address of a place of the rack.
    #[must_use]
    pub fn url_of(&self, place: Place) -> &HttpsUrl {
        match place.0.checked_sub(1) {
            None => &self.config.url,
            Some(mirror) => &self.mirrors[mirror].config.url,
        }
    }

    /// The next place of the rack to ask in this round, and how many are behind it. The first one is the rack's own server, but for a minute
    /// after it brought nothing while a mirror did.
    pub fn next(&self, round: &mut Round) -> Option<(Place, usize)> {
        self.places.next(round, Instant::now())
    }

    /// A conversation with a place of the rack. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TlsError`] when authorities or credentials cannot be used.
    pub fn connect(&self, place: Place) -> Result<Remote, TlsError> {
        Remote::new(&self.config_at(place))
    }

    /// Whether the plain file of the branch beside the repository names the head accepted last, so that Git need not be asked. Only for a
    /// bounded time after Git was asked last: believing that nothing is new is believing, too.
    ///
    /// # Errors
    /// [`FollowError`] where the time for the whole conversation is over.
    pub fn is_quiet(&self, remote: &mut Remote, place: Place) -> Result<bool, FollowError> {
        let recent =
            |(at, when): (Place, Instant)| at == place && when.elapsed() < self.longest_quiet;
        let accepted = self.accepted.as_ref();
        let Some(accepted) = accepted.filter(|_| self.asked.is_some_and(recent)) else {
            return Ok(false);
        };
        let named = remote.branch_beside(&self.branch);
        let named = named.map_err(FetchError::Remote)?;
        Ok(named == Some(accepted.head().id))
    }

    /// Asks where the branch points to: one line of answer is all that most looks cost.
    ///
    /// # Errors
    /// [`FollowError`] with the reason.
    pub fn look(&mut self, remote: &mut Remote, place: Place) -> Result<ObjectId, FollowError> {
        match rack::look(remote, &self.branch, &Limits::RACK) {
            Ok(listed) => {
                self.places.answered(place);
                self.asked = Some((place, Instant::now()));
                Ok(listed)
            }
            Err(error) => {
                let error = FollowError::from(error);
                self.places.failed(place, error.hold(), Instant::now());
                Err(error)
            }
        }
    }

    /// Accepts `listed`, if the rules allow it; one that is far away in stretches. Each is kept, and the floors raised, before this goes
    /// on, so that nothing is done twice.
    ///
    /// # Errors
    /// [`FollowError`]; what was accepted, on the way too, stays accepted.
    pub fn follow(
        &mut self,
        remote: &mut Remote,
        listed: ObjectId,
        keeper: &mut dyn Keeper,
        progress: &mut dyn Progress,
    ) -> Result<Looked, FollowError> {
        let limits = &Limits::RACK;
        let mut looked = Looked::Unchanged;
        loop {
            let known = self.accepted.as_ref().map(RackTree::snapshot);
            let way = &mut self.way;
            let outcome = rack::fetch_along(way, remote, listed, known, limits, progress)?;
            let Outcome::New(fetched) = outcome else {
                return Ok(looked);
            };
            let before = match &self.accepted {
                Some(tree) => tree.accepted(),
                None => Accepted::nothing(self.baked.clone(), keeper.floors()),
            };
            let tree = fetched
                .verify(&before)
                .map_err(|reason| FollowError::Rejected {
                    listed,
                    reason: Box::new(reason),
                })?;
            keeper.accepted(News {
                head: tree.head(),
                commits: tree.head().generation.saturating_sub(before.generation),
                on_the_way: fetched.on_the_way(),
                kept: self.store.keep(Kept::Accepted, &tree),
            });
            self.accepted = Some(tree);
            looked = Looked::Accepted;
            if !fetched.on_the_way() {
                return Ok(looked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use racklet_fetch::disk::Files;
    use racklet_fetch::tls::{Authorities, Credentials, Token};
    use racklet_trust::digest::Hex;
    use racklet_trust::root::{RoleKeys, Roles};

    use super::*;

    fn root() -> Verified<TrustRoot> {
        // The base point of the curve: a key that nobody signs with.
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20\x58".to_vec();
        blob.extend([0x66; 31]);
        let keys = RoleKeys {
            threshold: 1,
            keys: vec![
                format!("ssh-ed25519 {}", base64(&blob))
                    .parse()
                    .expect("a key"),
            ],
        };
        let roles = Roles {
            root: keys.clone(),
            config: keys.clone(),
            payload: keys.clone(),
            firmware: keys,
        };
        let root = TrustRoot::new(Hex([7; 16]), 1, roles).expect("a root");
        Verified::<TrustRoot>::baked(&root.to_canonical()).expect("baked")
    }

    /// Padded, for lengths that are a multiple of three.
    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digit = |three: &[u8], n: usize| {
            let bits = three
                .iter()
                .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
            char::from(DIGITS[bits >> (18 - 6 * n) & 63])
        };
        let four = |three| (0..4).map(move |n| digit(three, n));
        bytes.chunks_exact(3).flat_map(four).collect()
    }

    fn follower(repository: &str, repositories: &str) -> Follower<Files> {
        let tray = format!(
            r#"{{"v":1,"rack":"07070707070707070707070707070707","tray":"tray-1","board":"b","built":1,
            "repository":{repository},"repositories":[{repositories}]}}"#
        );
        let tray = TrayConfig::parse(tray.as_bytes()).expect("parses");
        Follower::new(&tray, Arc::new(0_u64), Files, "/nowhere", [root(), root()]).expect("urls")
    }

    fn pin(repository: Option<&str>) -> Pin {
        Pin {
            name: "stable".parse().expect("a name"),
            manifest: format!("sha256:{}", "ab".repeat(32))
                .parse()
                .expect("a digest"),
            repository: repository.map(|it| it.parse().expect("an address")),
        }
    }

    const OWN: &str = r#"{"url":"https://git.example/rack.git","token":"a secret","ca":"OWN"}"#;

    #[test]
    fn the_racks_credentials_and_authority_are_for_the_racks_own_server() {
        let follower = follower(OWN, "");
        for own in [None, Some("https://git.example/rack.git")] {
            let own = follower.config_for(&pin(own)).expect("an address");
            assert!(own.credentials.token.is_some());
            assert_eq!(own.authorities, Authorities::Pem(b"OWN".to_vec()));
            assert_eq!(own.url.to_string(), "https://git.example/rack.git");
        }
        for elsewhere in [
            "https://images.example/all.git",
            "https://git.example/all.git",
        ] {
            let other = follower.config_for(&pin(Some(elsewhere)));
            let other = other.expect("an address");
            assert!(other.credentials == Credentials::default());
            assert_eq!(other.authorities, Authorities::Public);
            assert_eq!(other.url.to_string(), elsewhere);
        }
    }

    #[test]
    fn a_pinned_repository_gets_the_credentials_that_are_meant_for_it() {
        let follower = follower(
            OWN,
            r#"{"url":"https://images.example","ca":"no path"}"#
                .replace("example", "example/team")
                .as_str(),
        );
        let there = follower.config_for(&pin(Some("https://images.example/team/all.git")));
        let there = there.expect("an address");
        assert_eq!(there.authorities, Authorities::Pem(b"no path".to_vec()));
        let beside = follower.config_for(&pin(Some("https://images.example/else.git")));
        assert_eq!(beside.expect("an address").authorities, Authorities::Public);
    }

    #[test]
    fn of_two_entries_the_one_that_says_more_counts_and_a_mirror_is_none() {
        let follower = follower(
            OWN,
            r#"{"url":"https://x.example/a","token":"wide"},
               {"url":"https://x.example/a/b","user":"narrow","token":"narrow"},
               {"url":"https://x.example/a/b/mirror.git","mirror":true,"token":"mirror"}"#,
        );
        let token = |url| {
            let config = follower.config_for(&pin(Some(url))).expect("an address");
            config.credentials.token
        };
        let basic = |user: &str, password: &str| {
            let (user, password) = (user.into(), password.into());
            Some(Token::Basic { user, password })
        };
        assert!(token("https://x.example/a/c.git") == basic("git", "wide"));
        assert!(token("https://x.example/a/b/c.git") == basic("narrow", "narrow"));
        assert!(token("https://x.example/a/b/mirror.git") == basic("narrow", "narrow"));
        assert!(token("https://x.example/ab.git").is_none());
    }

    #[test]
    fn a_mirror_is_asked_with_its_own_credentials_and_never_with_the_racks() {
        let follower = follower(
            OWN,
            r#"{"url":"https://m.example/rack.git","mirror":true,"scheme":"bearer","token":"m"},
               {"url":"https://n.example/rack.git","mirror":true}"#,
        );
        let mut round = Round::default();
        let places = std::iter::from_fn(|| follower.next(&mut round).map(|(place, _)| place));
        let configs: Vec<_> = places.map(|place| follower.config_at(place)).collect();
        let [own, bearer, open] = &configs[..] else {
            panic!("{configs:?}")
        };
        assert_eq!(own.url, follower.config.url);
        assert!(bearer.credentials.token == Some(Token::Bearer("m".into())));
        assert!(open.credentials == Credentials::default());
        assert_eq!(open.authorities, Authorities::Public);
    }
}
