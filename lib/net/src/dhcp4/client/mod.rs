// SPDX-License-Identifier: Apache-2.0
//! The DHCP client's state machine (RFC 2131 section 4.4).
//!
//! ```text
//!            +--------------- NAK, no answer ----------------+
//!            v                                               |
//!   ---> Selecting --offer--> Requesting --ack--> Bound --T1--> Renewing --T2--> Rebinding
//!            ^                                      ^            |  ack            |  ack
//!            |                                      +------------+-----------------+
//!            +-- lease over, NAK ---- Rebooting (a known lease is confirmed) --ack--> Bound
//! ```
//!
//! A lease that is held stays in use while another is looked for, until it is over or a server withdraws it.
//! What is deliberately not done: probing the address by ARP, DECLINE, RELEASE (a tray keeps its address over a
//! restart), INFORM.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::lease::{Lease, Unusable};
use super::message::{Kind, Malformed, Message, option};
use crate::backoff::{Backoff, Random};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// RFC 2131 4.4.5: renewals are tried again after half of what is left, and not more often than this.
const RENEWAL_FLOOR: Duration = Duration::from_secs(60);
/// Requests for an offer, or for the confirmation of a known lease, before the search begins again.
const REQUEST_TRIES: u8 = 4;
const WANTED: [u8; 8] = [
    option::MASK,
    option::ROUTES,
    option::ROUTER,
    option::DNS,
    option::MTU,
    option::NTP,
    option::RENEWAL,
    option::REBINDING,
];

/// Who asks.
#[derive(Debug, Clone)]
pub struct Config {
    /// The interface's Ethernet address.
    pub mac: [u8; 6],
    /// The name to give to the server, at most 63 bytes.
    pub host_name: Option<String>,
    /// Start of the random numbers; must differ between trays and boots.
    pub seed: u64,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send from `source` (perhaps unspecified), port 68, to everybody, port 67.
    Broadcast {
        /// Source address of the packet.
        source: Ipv4Addr,
        /// UDP payload.
        payload: Vec<u8>,
    },
    /// Send to one server, port 67, over the ordinary IP stack.
    Unicast {
        /// The server.
        server: Ipv4Addr,
        /// UDP payload.
        payload: Vec<u8>,
    },
    /// Use this lease from now on, instead of any earlier one.
    Configured(Lease),
    /// Stop using the lease.
    Lost(Lost),
}

/// Why a lease ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Its time was over and no server renewed it.
    #[error("the lease ran out and no server renewed it")]
    Expired,
    /// A server said that the address is not ours.
    #[error("server {server} withdrew the address: {text:?}")]
    Withdrawn {
        /// The server.
        server: Ipv4Addr,
        /// Its words, bounded and printable.
        text: String,
    },
}

/// Why a packet was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a DHCP message.
    #[error("malformed")]
    Malformed(#[from] Malformed),
    /// A client's message, or a type a client does not get.
    #[error("not a message for a client")]
    NotForClients,
    /// Answers another transaction.
    #[error("another transaction")]
    Transaction,
    /// Addressed to another card.
    #[error("for another hardware address")]
    Hardware,
    /// Nothing was asked that this would answer.
    #[error("nothing was asked that this answers")]
    Unasked,
    /// Speaks for a server other than the one that was asked.
    #[error("from another server than the one asked")]
    Server,
    /// Gives another address than the one asked for.
    #[error("{0} is not the address that was asked for")]
    OtherAddress(Ipv4Addr),
    /// The address is in use behind the client itself.
    #[error("{0} belongs to a microVM or its gateway on this tray")]
    Taken(Ipv4Addr),
    /// The lease in it cannot be used.
    #[error("unusable lease")]
    Unusable(#[from] Unusable),
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    since: Duration,
}

impl Held {
    fn over_at(&self) -> Option<Duration> {
        Some(self.since.saturating_add(self.lease.lifetime?))
    }
    fn renew_at(&self) -> Duration {
        self.since.saturating_add(self.lease.renew_after)
    }
    fn rebind_at(&self) -> Duration {
        self.since.saturating_add(self.lease.rebind_after)
    }
}

#[derive(Debug, Clone)]
enum Phase {
    Selecting,
    Requesting { offer: Lease, tries: u8 },
    Rebooting { tries: u8 },
    Bound,
    Renewing,
    Rebinding,
}

/// One interface's DHCP client.
#[derive(Debug, Clone)]
pub struct Client {
    config: Config,
    random: Random,
    backoff: Backoff,
    phase: Phase,
    held: Option<Held>,
    /// Addresses that a lease must not give.
    taken: Vec<Ipv4Addr>,
    xid: u32,
    /// When the present search or renewal began, for `secs`.
    began: Duration,
    /// When the last request was sent: a lease counts from there (RFC 2131 4.4.1).
    asked: Duration,
    /// When to act next; nothing while there is no carrier.
    wake: Option<Duration>,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that knows nothing and begins at once.
    #[must_use]
    pub fn new(config: Config, now: Duration) -> Self {
        let mut random = Random::new(config.seed);
        let xid = random.next_u32();
        Self {
            config,
            random,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            phase: Phase::Selecting,
            held: None,
            taken: Vec::new(),
            xid,
            began: now,
            asked: now,
            wake: Some(now),
            outputs: VecDeque::new(),
        }
    }

    /// A client that takes over a lease obtained earlier (by the bootstrap, or before a restart), which began `age`
    /// ago. The lease stays in use while a server is asked to confirm it; one that is over already is forgotten.
    #[must_use]
    pub fn resume(config: Config, lease: Lease, age: Duration, now: Duration) -> Self {
        let mut client = Self::new(config, now);
        let mut lease = lease;
        // `now` may be smaller than `age` after a restart of the clock: begin the lease now, with what is left of it.
        let left = lease.lifetime.map(|all| all.saturating_sub(age));
        if left == Some(Duration::ZERO) {
            return client;
        }
        lease.lifetime = left;
        lease.renew_after = lease.renew_after.saturating_sub(age);
        lease.rebind_after = lease.rebind_after.saturating_sub(age);
        client.outputs.push_back(Output::Configured(lease.clone()));
        client.held = Some(Held { lease, since: now });
        client.phase = Phase::Rebooting { tries: 0 };
        client
    }

    /// The lease in use, and when it began.
    #[must_use]
    pub fn lease(&self) -> Option<(&Lease, Duration)> {
        self.held.as_ref().map(|held| (&held.lease, held.since))
    }

    /// The carrier came or went. With a new carrier the network may be another one, so a held lease is confirmed.
    pub fn carrier(&mut self, now: Duration, present: bool) {
        if !present {
            self.wake = None;
            return;
        }
        self.phase = match self.held {
            Some(_) => Phase::Rebooting { tries: 0 },
            None => Phase::Selecting,
        };
        self.begin(now, now);
    }

    /// From now on no lease with one of these addresses is taken; they are in use behind this host. The lease in use stays.
    pub fn set_taken(&mut self, taken: Vec<Ipv4Addr>) {
        self.taken = taken;
    }

    /// When [`Self::poll`] must be called again at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        if self.outputs.is_empty() {
            let over = self.held.as_ref().and_then(Held::over_at);
            self.wake.into_iter().chain(over).min()
        } else {
            Some(Duration::ZERO)
        }
    }

    /// What to do now; call until it gives nothing.
    pub fn poll(&mut self, now: Duration) -> Option<Output> {
        if self.outputs.is_empty() {
            let over = self.held.as_ref().and_then(Held::over_at);
            if over.is_some_and(|over| over <= now) {
                self.held = None;
                self.outputs.push_back(Output::Lost(Lost::Expired));
                self.phase = Phase::Selecting;
                if self.wake.is_some() {
                    self.begin(now, now);
                }
            } else if self.wake.is_some_and(|wake| wake <= now) {
                self.act(now);
            }
        }
        self.outputs.pop_front()
    }

    /// A UDP payload that came to port 68.
    pub fn receive(&mut self, now: Duration, payload: &[u8]) -> Result<(), Refused> {
        let message = Message::parse(payload)?;
        let kind = message.kind();
        if !message.reply || !matches!(kind, Some(Kind::Offer | Kind::Ack | Kind::Nak)) {
            return Err(Refused::NotForClients);
        }
        if message.xid != self.xid {
            return Err(Refused::Transaction);
        }
        if message.chaddr != self.config.mac {
            return Err(Refused::Hardware);
        }
        match kind {
            Some(Kind::Offer) => self.offered(now, &message),
            Some(Kind::Ack) => self.acknowledged(now, &message),
            _ => self.denied(now, &message),
        }
    }

    fn offered(&mut self, now: Duration, message: &Message) -> Result<(), Refused> {
        if !matches!(self.phase, Phase::Selecting) {
            return Err(Refused::Unasked);
        }
        let offer = self.judge(message)?;
        self.phase = Phase::Requesting { offer, tries: 0 };
        self.backoff.reset();
        self.wake = Some(now);
        Ok(())
    }

    fn judge(&self, message: &Message) -> Result<Lease, Refused> {
        let lease = Lease::judge(message)?;
        if self.taken.contains(&lease.address) {
            return Err(Refused::Taken(lease.address));
        }
        Ok(lease)
    }

    fn acknowledged(&mut self, now: Duration, message: &Message) -> Result<(), Refused> {
        // RFC 2131 4.3.1: an acknowledgement says who it is from; a renewal is answered by the server asked.
        let (address, server) = match (&self.phase, &self.held) {
            (Phase::Requesting { offer, .. }, _) => (offer.address, Some(offer.server)),
            (Phase::Renewing, Some(held)) => (held.lease.address, Some(held.lease.server)),
            (Phase::Rebooting { .. } | Phase::Rebinding, Some(held)) => (held.lease.address, None),
            _ => return Err(Refused::Unasked),
        };
        let lease = self.judge(message)?;
        if server.is_some_and(|server| server != lease.server) {
            return Err(Refused::Server);
        }
        if lease.address != address {
            return Err(Refused::OtherAddress(lease.address));
        }
        let held = Held {
            lease: lease.clone(),
            since: self.asked,
        };
        // An answer that took longer than the lease lasts gives nothing.
        if held.over_at().is_some_and(|over| over <= now) {
            return Err(Refused::Unasked);
        }
        self.phase = Phase::Bound;
        self.wake = Some(held.renew_at());
        self.held = Some(held);
        self.backoff.reset();
        self.outputs.push_back(Output::Configured(lease));
        Ok(())
    }

    fn denied(&mut self, now: Duration, message: &Message) -> Result<(), Refused> {
        let asked = match (&self.phase, &self.held) {
            (Phase::Requesting { offer, .. }, _) => Some(offer.server),
            (Phase::Renewing, Some(held)) => Some(held.lease.server),
            (Phase::Rebooting { .. } | Phase::Rebinding, Some(_)) => None,
            _ => return Err(Refused::Unasked),
        };
        let server = message
            .address(option::SERVER_ID)
            .filter(|server| !server.is_unspecified())
            .ok_or(Refused::Unusable(Unusable::Server))?;
        if asked.is_some_and(|asked| asked != server) {
            return Err(Refused::Server);
        }
        // While another address was being requested, the lease in hand is not what was refused.
        if !matches!(self.phase, Phase::Requesting { .. }) {
            self.held = None;
            let text = printable(message.options.get(&option::TEXT));
            self.outputs
                .push_back(Output::Lost(Lost::Withdrawn { server, text }));
        }
        self.phase = Phase::Selecting;
        // Not at once: a server that refuses everything must not be asked in a tight loop.
        let wait = self.backoff.wait(&mut self.random);
        let backoff = self.backoff.clone();
        self.begin(now, now.saturating_add(wait));
        self.backoff = backoff;
        Ok(())
    }

    /// A new exchange, whose first message goes out at `wake`.
    fn begin(&mut self, now: Duration, wake: Duration) {
        self.xid = self.random.next_u32();
        self.began = now;
        self.backoff.reset();
        self.wake = Some(wake);
    }

    /// The timer went off: moves on and sends what the state sends.
    fn act(&mut self, now: Duration) {
        match &self.phase {
            Phase::Requesting { tries, .. } | Phase::Rebooting { tries }
                if *tries >= REQUEST_TRIES =>
            {
                self.phase = Phase::Selecting;
                self.begin(now, now);
            }
            Phase::Bound => {
                self.phase = Phase::Renewing;
                self.begin(now, now);
            }
            _ => {}
        }
        if let (Phase::Renewing, Some(held)) = (&self.phase, &self.held)
            && held.rebind_at() <= now
        {
            self.phase = Phase::Rebinding;
            self.begin(now, now);
        }
        let output = self.speak(now);
        self.outputs.push_back(output);
        self.asked = now;
        self.wake = Some(self.next_try(now));
    }

    fn next_try(&mut self, now: Duration) -> Duration {
        let deadline = match (&mut self.phase, &self.held) {
            (Phase::Renewing, Some(held)) => Some(held.rebind_at()),
            // The end of the lease is looked after by `poll`.
            (Phase::Rebinding, Some(held)) => Some(held.over_at().unwrap_or(Duration::MAX)),
            (Phase::Requesting { tries, .. } | Phase::Rebooting { tries }, _) => {
                *tries += 1;
                None
            }
            _ => None,
        };
        match deadline {
            Some(deadline) => {
                let half = deadline.saturating_sub(now) / 2;
                let wait = self.random.spread(half.max(RENEWAL_FLOOR));
                now.saturating_add(wait).min(deadline)
            }
            None => now.saturating_add(self.backoff.wait(&mut self.random)),
        }
    }

    /// The message of the present state.
    fn speak(&self, now: Duration) -> Output {
        let mut options = BTreeMap::from([
            (option::PARAMETERS, WANTED.to_vec()),
            // 1500 bytes of Ethernet less IP and UDP headers.
            (option::MAX_SIZE, 1472_u16.to_be_bytes().to_vec()),
            (option::VENDOR_CLASS, b"racklet".to_vec()),
            (option::CLIENT_ID, [&[1], &self.config.mac[..]].concat()),
        ]);
        if let Some(name) = self.config.host_name.as_ref()
            && (1..=63).contains(&name.len())
        {
            options.insert(option::HOST_NAME, name.as_bytes().to_vec());
        }
        let address = |address: Ipv4Addr| address.octets().to_vec();
        let mut kind = Kind::Request;
        let mut ciaddr = Ipv4Addr::UNSPECIFIED;
        let mut server = None;
        match (&self.phase, &self.held) {
            (Phase::Requesting { offer, .. }, _) => {
                options.insert(option::REQUESTED, address(offer.address));
                options.insert(option::SERVER_ID, address(offer.server));
            }
            (Phase::Rebooting { .. }, Some(held)) => {
                options.insert(option::REQUESTED, address(held.lease.address));
            }
            (Phase::Renewing, Some(held)) => {
                ciaddr = held.lease.address;
                server = Some(held.lease.server);
            }
            (Phase::Rebinding, Some(held)) => ciaddr = held.lease.address,
            _ => kind = Kind::Discover,
        }
        options.insert(option::MESSAGE_TYPE, vec![kind as u8]);
        let secs = now.saturating_sub(self.began).as_secs();
        let payload = Message {
            reply: false,
            xid: self.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            // With an address configured a unicast answer arrives; before that it may not.
            broadcast: ciaddr.is_unspecified(),
            ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.config.mac,
            options,
        }
        .encode();
        match server {
            Some(server) => Output::Unicast { server, payload },
            None => Output::Broadcast {
                source: ciaddr,
                payload,
            },
        }
    }
}

/// A server's words, fit for a console: at most 80 printable ASCII characters.
fn printable(text: Option<&Vec<u8>>) -> String {
    text.map_or(&[][..], Vec::as_slice)
        .iter()
        .take(80)
        .map(|byte| char::from(*byte))
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
