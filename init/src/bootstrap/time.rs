// SPDX-License-Identifier: Apache-2.0
//! The clock: never before the floor, and set by time servers when they answer.

use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use racklet_api::handoff::{TimeReport, TimeSource};
use racklet_linux::clock;
use racklet_net::sntp::{self, Query, Sample};
use racklet_trust::date::Utc;
use racklet_trust::expiry;

use super::network::seed;
use crate::console::Topic;

pub(super) const TIME: Topic = Topic("time");
/// All servers together get so long, names included.
const TOTAL: Duration = Duration::from_secs(4);
/// One answer gets so long before the question is sent again.
const ANSWER: Duration = Duration::from_millis(1200);
const MOST_SERVERS: usize = 6;

/// A real-time clock is believed so many seconds past the floor, which is the newest signed time or the image's own: ten
/// years. So long a tray may have lain in a drawer; a clock that is further ahead was rather set wrong or has a dead battery.
const BELIEVED_AHEAD: u64 = 10 * 365 * 86_400;

/// Where the clock stands.
#[derive(Debug)]
pub(crate) struct Time {
    floor: u64,
    source: TimeSource,
    /// The servers asked were this tray's own, not ones that the network named.
    configured: bool,
    /// That there is no time server was told.
    told: bool,
}

impl Time {
    /// Sets the clock when it is behind what is known, or so far ahead that it must be wrong: to the floor, or to the time that was
    /// `kept` on the card, where that is later and credible itself.
    pub(crate) fn begin(floor: u64, kept: u64) -> Self {
        let wall = clock::wall();
        let (set, source) = choose(wall.as_secs(), floor, kept);
        match set {
            None => TIME.say(format_args!(
                "{} by the real-time clock",
                Utc(wall.as_secs())
            )),
            Some(to) => {
                let from = match to > floor {
                    true => "the time that the card kept",
                    false => "the floor",
                };
                TIME.failed(
                    format_args!(
                        "the clock says {}, {}",
                        Utc(wall.as_secs()),
                        if wall.as_secs() < floor {
                            "before the newest signed time"
                        } else if wall.as_secs() < to {
                            "before the time that the card kept"
                        } else {
                            "more than ten years after the newest signed time"
                        }
                    ),
                    format_args!("begin at {from}, {}", Utc(to)),
                );
                set_clock(to);
            }
        }
        Self {
            floor,
            source,
            configured: false,
            told: false,
        }
    }

    /// A newer signed time was seen: the clock goes up to it at least.
    pub(crate) fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        if let (Some(to), _) = choose(clock::wall().as_secs(), self.floor, 0) {
            TIME.say(format_args!("{} by the newest signed commit", Utc(to)));
            set_clock(to);
            self.source = TimeSource::Floor;
        }
    }

    /// Asks the time servers, unless they have answered already: the tray's own, or the ones that DHCP named where it has
    /// none. Counted together, whoever answers DHCP's questions would outvote the owner's.
    pub(crate) fn ask(&mut self, own: &[String], named: &[String]) {
        if self.source == TimeSource::Sntp {
            return;
        }
        let servers = asked(own, named);
        if servers.is_empty() {
            if !std::mem::replace(&mut self.told, true) {
                TIME.say("no time server is configured or named by DHCP; certificates are judged by this clock");
            }
            return;
        }
        self.configured = !own.is_empty();
        let (samples, agreed) = consult(servers, Duration::from_secs(self.floor));
        let Some(agreed) = agreed else {
            let text = if samples.is_empty() {
                "no time server answered"
            } else {
                "the time servers disagree"
            };
            TIME.failed(
                format_args!("{text} ({})", servers.join(", ")),
                "certificates are judged by this clock",
            );
            return;
        };
        let before = clock::wall();
        let now = agreed.at(clock::since_boot());
        if let Err(error) = clock::set_wall(now) {
            TIME.failed(
                format_args!("set the clock: {error}"),
                "go on with the clock as it is",
            );
            return;
        }
        self.source = TimeSource::Sntp;
        let shift = if now > before {
            format!("+{:.3}", (now - before).as_secs_f64())
        } else {
            format!("-{:.3}", (before - now).as_secs_f64())
        };
        let of = servers.len().min(MOST_SERVERS);
        TIME.say(format_args!(
            "{} by {} of {of} time servers ({shift} s)",
            Utc(now.as_secs()),
            samples.len()
        ));
    }

    /// The time that expiry dates are judged by.
    pub(crate) fn trusted_now(&self) -> u64 {
        let wall = clock::wall().as_secs();
        let set_by_owner = self.source == TimeSource::Sntp && self.configured;
        expiry::now(set_by_owner, wall, self.floor)
    }

    /// The time of day to be kept on the card, Unix seconds: none where a real-time clock keeps it, which may have been set wrong and
    /// is put right by its owner, not by what we remember of it.
    pub(crate) fn to_keep(&self) -> Option<u64> {
        self.source.forgets().then(|| clock::wall().as_secs())
    }

    /// For the next stage.
    pub(crate) fn report(&self) -> TimeReport {
        TimeReport {
            unix: clock::wall().as_secs(),
            source: self.source,
        }
    }
}

/// Which servers are asked.
fn asked<'a>(own: &'a [String], named: &'a [String]) -> &'a [String] {
    if own.is_empty() { named } else { own }
}

/// The judged answers, and what they agree on.
fn consult(servers: &[String], floor: Duration) -> (Vec<Sample>, Option<Sample>) {
    let samples = question(servers, floor);
    let agreed = sntp::agree(&samples);
    (samples, agreed)
}

/// What to set a clock to that says `wall`, and what it then goes by.
fn choose(wall: u64, floor: u64, kept: u64) -> (Option<u64>, TimeSource) {
    let is_credible = |time: u64| time >= floor && time - floor <= BELIEVED_AHEAD;
    let known = match is_credible(kept) {
        true => kept,
        false => floor,
    };
    if wall < known || !is_credible(wall) {
        (Some(known), TimeSource::Floor)
    } else {
        (None, TimeSource::Rtc)
    }
}

fn set_clock(unix: u64) {
    if let Err(error) = clock::set_wall(Duration::from_secs(unix)) {
        TIME.failed(
            format_args!("set the clock: {error}"),
            "go on with the clock as it is",
        );
    }
}

/// Asks all servers at once and collects judged answers.
fn question(servers: &[String], floor: Duration) -> Vec<Sample> {
    let (send, receive) = mpsc::channel();
    let mut asked = 0;
    for server in servers.iter().take(MOST_SERVERS) {
        let (server, send) = (server.clone(), send.clone());
        // Names may take as long as DNS likes: the thread may outlive the wait, and nobody listens to it then.
        let started = thread::Builder::new()
            .name("sntp".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let _ = send.send(one(&server, floor));
            });
        asked += usize::from(started.is_ok());
    }
    let deadline = clock::since_boot() + TOTAL;
    let mut samples = Vec::new();
    for _ in 0..asked {
        match receive.recv_timeout(deadline.saturating_sub(clock::since_boot())) {
            Ok(sample) => samples.extend(sample),
            Err(_) => break,
        }
    }
    samples
}

fn one(server: &str, floor: Duration) -> Option<Sample> {
    for address in (server, sntp::PORT).to_socket_addrs().ok()?.take(4) {
        let local = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let Ok(socket) = UdpSocket::bind(local) else {
            continue;
        };
        if socket.connect(address).is_err() || socket.set_read_timeout(Some(ANSWER)).is_err() {
            continue;
        }
        for _ in 0..2 {
            let query = Query::new(seed(), clock::since_boot());
            let mut answer = [0_u8; 512];
            let Ok(length) = socket
                .send(&query.packet())
                .and_then(|_| socket.recv(&mut answer))
            else {
                continue;
            };
            match query.judge(&answer[..length], clock::since_boot(), floor) {
                Ok(sample) => return Some(sample),
                Err(refused) => TIME.failed(
                    format_args!("{server}: {refused}"),
                    "go by the other servers",
                ),
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_never_before_the_floor_nor_absurdly_after_it() {
        // Some firmware turns 1970 into 2070.
        let (y2027, y2070) = (1_798_761_600, 3_155_760_000);
        let last = 1_790_000_000 + BELIEVED_AHEAD;
        for (wall, floor, set, source) in [
            (0, 1_790_000_000, Some(1_790_000_000), TimeSource::Floor),
            (1_790_000_001, 1_790_000_000, None, TimeSource::Rtc),
            (y2027, 1_790_000_000, None, TimeSource::Rtc),
            (last, 1_790_000_000, None, TimeSource::Rtc),
            (
                last + 1,
                1_790_000_000,
                Some(1_790_000_000),
                TimeSource::Floor,
            ),
            (y2070, 1_790_000_000, Some(1_790_000_000), TimeSource::Floor),
            (
                4_102_444_800,
                1_790_000_000,
                Some(1_790_000_000),
                TimeSource::Floor,
            ),
        ] {
            assert_eq!(choose(wall, floor, 0), (set, source), "{wall}");
        }
    }

    #[test]
    fn a_clock_goes_on_from_the_time_that_was_kept_unless_it_knows_better() {
        let floor = 1_790_000_000;
        let last = floor + BELIEVED_AHEAD;
        for (wall, kept, set) in [
            // A Raspberry Pi.
            (0, floor + 86_400, Some(floor + 86_400)),
            (floor + 86_400, floor + 86_400, None),
            (floor + 86_401, floor + 86_400, None),
            // The battery is empty, and the clock began at a date that its firmware was made with.
            (floor + 5, floor + 86_400, Some(floor + 86_400)),
            (last + 1, floor + 86_400, Some(floor + 86_400)),
            // A card of another time, or one that somebody wrote to: it is not believed further than a clock.
            (0, floor - 1, Some(floor)),
            (0, last, Some(last)),
            (0, last + 1, Some(floor)),
            (0, u64::MAX, Some(floor)),
        ] {
            assert_eq!(choose(wall, floor, kept).0, set, "{wall} {kept}");
        }
    }

    #[test]
    fn a_real_time_clock_in_2100_does_not_expire_payloads() {
        let time = Time {
            floor: 1_790_000_000,
            source: TimeSource::Rtc,
            configured: true,
            told: false,
        };
        assert_eq!(time.trusted_now(), 1_790_000_000);
    }

    /// A time server whose clock was at `unix` when this system started, in the calling thread's network namespace; it ends
    /// with the test's process.
    fn time_server(address: &str, unix: u64) {
        const SINCE_1900: u64 = 2_208_988_800;
        let socket = UdpSocket::bind((address, sntp::PORT)).expect("binds");
        thread::spawn(move || {
            let mut query = [0; 48];
            while let Ok((_, from)) = socket.recv_from(&mut query) {
                let mut answer = [0; 48];
                // Version 4, a server; stratum 2; the question's own time stamp.
                answer[..2].copy_from_slice(&[4 << 3 | 4, 2]);
                answer[24..32].copy_from_slice(&query[40..48]);
                // Off by up to half a second, so that equals agree however they are scheduled.
                answer[10] = 0x80;
                let now = clock::since_boot();
                let seconds = (unix + SINCE_1900 + now.as_secs()) % (1 << 32);
                let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
                let stamp = (seconds << 32 | fraction).to_be_bytes();
                answer[32..40].copy_from_slice(&stamp);
                answer[40..].copy_from_slice(&stamp);
                let _ = socket.send_to(&answer, from);
            }
        });
    }

    #[test]
    fn four_liars_that_dhcp_names_do_not_outvote_the_owners_time_server() {
        use std::os::unix::fs::MetadataExt;
        if std::fs::metadata("/proc/self").map_or(u32::MAX, |own| own.uid()) != 0 {
            eprintln!("SKIPPED: needs root to make a network namespace; nothing was tested");
            return;
        }
        let (honest, lie) = (1_790_000_600, 1_790_000_000 + 29 * 365 * 86_400);
        let run = move || {
            racklet_linux::netns::unshare().expect("a namespace");
            let mut rtnl = racklet_linux::rtnl::Rtnl::open().expect("rtnetlink");
            let lo = rtnl.link("lo").expect("links").expect("loopback").index;
            rtnl.set_up(lo, true).expect("up");
            let own = vec!["127.0.0.1".to_owned()];
            let named: Vec<String> = (2..6).map(|last| format!("127.0.0.{last}")).collect();
            time_server(&own[0], honest);
            for server in &named {
                time_server(server, lie);
            }
            let floor = Duration::from_secs(1_790_000_000);
            let told = |servers: &[String]| consult(servers, floor).1.expect("they answer").epoch;
            let is =
                |found: Duration, unix| found.abs_diff(Duration::from_secs(unix)).as_secs() == 0;
            assert!(is(told(asked(&own, &named)), honest));
            assert!(is(told(asked(&[], &named)), lie), "better than none");
        };
        thread::spawn(run).join().expect("the test's thread");
    }
}
