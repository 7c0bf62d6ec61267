// SPDX-License-Identifier: Apache-2.0
//! Where a server is, and how it is spoken to.

use std::sync::Arc;

use racklet_api::tray::{Access, Scheme};

use crate::{
    beside::Beside,
    http::{Resolve, SystemResolver, Worked},
    limits::Timeouts,
    pulse::{Pulse, Untold},
    tls::{Authorities, ClientCertificate, Clock, Credentials, Token},
    url::{HttpsUrl, UrlError},
};

/// Where a repository is and how to speak with its server.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The repository.
    pub url: HttpsUrl,
    /// Who may vouch for the server.
    pub authorities: Authorities,
    /// As whom to ask.
    pub credentials: Credentials,
    /// By which clock certificates are judged.
    pub clock: Arc<dyn Clock>,
    /// How patient to be.
    pub timeouts: Timeouts,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// By which clock patience goes, and who is told that there is waiting.
    pub pulse: Arc<dyn Pulse>,
    /// Plain files beside the repository, where there are any.
    pub beside: Option<Beside>,
    /// Which address of a host worked last. Copies of a configuration share it.
    pub(crate) worked: Worked,
}

impl RemoteConfig {
    /// What a tray's configuration says of its rack repository.
    ///
    /// # Errors
    /// [`UrlError`] when the address is not one of ours.
    pub fn of_tray(
        repository: &racklet_api::tray::Repository,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UrlError> {
        let mut config = Self::new(repository.url.parse()?, clock);
        config.let_in_by(repository.access());
        Ok(config)
    }

    /// The same patience, clock and memory of addresses for another repository, and nothing that is the first one's own: public authorities
    /// and no credentials, unless `access` says otherwise.
    #[must_use]
    pub fn elsewhere(&self, url: HttpsUrl, access: Option<Access<'_>>) -> Self {
        let mut config = Self {
            url,
            authorities: Authorities::Public,
            credentials: Credentials::default(),
            beside: None,
            ..self.clone()
        };
        if let Some(access) = access {
            config.let_in_by(access);
        }
        config
    }

    /// As [`Self::elsewhere`], let in as by `other`, with the plain files beside that.
    #[must_use]
    pub fn like(&self, url: HttpsUrl, other: &Self) -> Self {
        Self {
            url,
            authorities: other.authorities.clone(),
            credentials: other.credentials.clone(),
            beside: other.beside.clone(),
            ..self.clone()
        }
    }

    /// There are plain files at `url`. On the repository's own server they are asked for as it is; elsewhere as `access` says, by public
    /// authorities and without credentials where it says nothing.
    pub fn set_beside(&mut self, url: HttpsUrl, access: Option<Access<'_>>) {
        let there = match url.is_beside(&self.url) {
            true => self.clone(),
            false => self.elsewhere(url.clone(), access),
        };
        self.beside = Some(Beside::new(url, there.authorities, there.credentials));
    }

    fn let_in_by(&mut self, access: Access<'_>) {
        self.authorities = match access.ca {
            Some(ca) => Authorities::Pem(ca.into()),
            None => Authorities::Public,
        };
        self.credentials = Credentials {
            token: access.token.map(|token| match access.scheme {
                Scheme::Bearer => Token::Bearer(token.expose().into()),
                Scheme::Basic => Token::Basic {
                    // GitHub, and GitLab for personal and project tokens, do not look at the name.
                    user: access.user.unwrap_or("git").into(),
                    password: token.expose().into(),
                },
            }),
            certificate: access.client.map(|client| ClientCertificate {
                chain: client.certificate.clone().into_bytes(),
                key: client.key.expose().as_bytes().to_vec(),
            }),
        };
    }

    /// Public authorities, no credentials, usual patience, the C library's resolver.
    #[must_use]
    pub fn new(url: HttpsUrl, clock: Arc<dyn Clock>) -> Self {
        Self {
            url,
            authorities: Authorities::Public,
            credentials: Credentials::default(),
            clock,
            timeouts: Timeouts::default(),
            resolver: Arc::new(SystemResolver),
            pulse: Arc::new(Untold),
            beside: None,
            worked: Worked::default(),
        }
    }
}
