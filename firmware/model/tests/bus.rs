// SPDX-License-Identifier: Apache-2.0
//! The rack's six cores in one process, on virtual time: the master and five nodes on a bus that knows bit time, turnaround, loss and
//! noise. What is measured is time on the bus at 3 Mbit/s plus the time that a controller takes to answer, which is drawn between 0.05
//! and 0.3 ms here (`bus::ANSWER_WITHIN` says how that was estimated; on silicon it was never measured).

use std::{collections::VecDeque, time::Duration};

use racklet_firmware_core::bus::{Master, News, Node, Step};
use racklet_wire::bus::{ANSWER_WITHIN, Hello, PACKET, Slot, Station, TURNAROUND, time_on_line};

/// xorshift64: the same noise in every run.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A packet of this number: its length and all of its bytes follow from it.
fn packet(slot: Slot, number: u32, length: usize) -> Vec<u8> {
    let seed = u64::from(number) << 8 | u64::from(slot.number());
    let head = seed.to_le_bytes();
    let rest = (head.len()..length).map(|at| (seed ^ at as u64).to_le_bytes()[0]);
    head.into_iter().chain(rest).collect()
}

fn number(packet: &[u8]) -> u32 {
    let head = packet
        .first_chunk::<8>()
        .expect("packets here have a number");
    u32::try_from(u64::from_le_bytes(*head) >> 8).expect("small numbers")
}

struct Tray {
    slot: Slot,
    node: Option<Node>,
    session: u16,
    /// Nothing is heard or said until then: a start, or an erase of flash.
    deaf: Duration,
    to_send: VecDeque<Vec<u8>>,
    /// What came from the rack, and when.
    came: Vec<(Duration, Vec<u8>)>,
}

impl Tray {
    fn start(&mut self) {
        self.session += 1;
        let hello = Hello {
            chip: self.slot.number().into(),
            firmware: 1,
            powered: true,
        };
        self.node = Some(Node::new(Station::Slot(self.slot), self.session, hello));
    }
}

struct Rack {
    master: Master,
    trays: Vec<Tray>,
    now: Duration,
    random: Random,
    /// Of a thousand frames so many are damaged, and so many lost.
    damaged: u64,
    lost: u64,
    to_send: Vec<VecDeque<Vec<u8>>>,
    /// What came from the trays, and when.
    came: Vec<Vec<(Duration, Vec<u8>)>>,
    news: Vec<(Duration, News)>,
    busy: Duration,
}

impl Rack {
    fn new(seed: u64) -> Self {
        let mut master = Master::new(1, Duration::ZERO);
        master.present(0b1_1111, Duration::ZERO);
        let trays = Slot::ALL.map(|slot| {
            let mut tray = Tray {
                slot,
                node: None,
                session: 10 * u16::from(slot.number()),
                deaf: Duration::ZERO,
                to_send: VecDeque::new(),
                came: Vec::new(),
            };
            tray.start();
            tray
        });
        Self {
            master,
            trays: trays.into(),
            now: Duration::ZERO,
            random: Random(seed | 1),
            damaged: 0,
            lost: 0,
            to_send: vec![VecDeque::new(); 5],
            came: vec![Vec::new(); 5],
            news: Vec::new(),
            busy: Duration::ZERO,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.feed();
            match self.master.step(self.now) {
                Step::News(news) => {
                    if let News::Packet(slot) = news {
                        let packet = self.master.packet(slot).expect("it was just told").to_vec();
                        self.came[slot.index()].push((self.now, packet));
                    }
                    self.news.push((self.now, news));
                }
                Step::Until(moment) => self.now = moment.max(self.now + Duration::from_nanos(100)),
                Step::Send(line) => self.turn(&line),
            }
        }
    }

    fn feed(&mut self) {
        for (slot, queue) in Slot::ALL.into_iter().zip(&mut self.to_send) {
            if let Some(packet) = queue.front()
                && self.master.offer(slot, packet, self.now).is_ok()
            {
                queue.pop_front();
            }
        }
        for tray in &mut self.trays {
            if let Some(node) = &mut tray.node
                && let Some(packet) = tray.to_send.front()
                && node.offer(packet).is_ok()
            {
                tray.to_send.pop_front();
            }
        }
    }

    /// What of a frame arrives.
    fn on_line(&mut self, line: &[u8]) -> Vec<u8> {
        self.now += time_on_line(line.len());
        self.busy += time_on_line(line.len());
        let mut line = line.to_vec();
        let dice = self.random.below(1000);
        if dice < self.lost {
            line.clear();
        } else if dice < self.lost + self.damaged {
            let bit = self.random.below(line.len() as u64 * 8);
            line[usize::try_from(bit / 8).expect("small")] ^= 1 << (bit % 8);
        }
        line
    }

    fn turn(&mut self, line: &[u8]) {
        let heard = self.on_line(line);
        self.master.sent(self.now);
        let mut answer = None;
        for tray in &mut self.trays {
            if tray.deaf > self.now {
                continue;
            }
            let Some(node) = &mut tray.node else { continue };
            for &byte in &heard {
                if let Some(said) = node.take(byte) {
                    assert!(answer.is_none(), "two answer");
                    answer = Some(said);
                }
            }
            if let Some(packet) = node.packet() {
                tray.came.push((self.now, packet.to_vec()));
            }
        }
        let Some(answer) = answer else { return };
        let thinking = Duration::from_micros(50 + self.random.below(250)).max(TURNAROUND);
        assert!(thinking < ANSWER_WITHIN);
        self.now += thinking;
        let first = self.now;
        let heard = self.on_line(&answer);
        let end = self.now;
        for (index, byte) in heard.into_iter().enumerate() {
            self.now = first + time_on_line(index + 1);
            self.master.take(byte, self.now);
        }
        self.now = end;
    }

    /// Numbers of what came, each compared byte by byte with what was sent.
    fn numbers(slot: Slot, came: &[(Duration, Vec<u8>)]) -> Vec<u32> {
        came.iter()
            .map(|(_, found)| {
                let number = number(found);
                assert_eq!(*found, packet(slot, number, found.len()));
                number
            })
            .collect()
    }
}

/// The time that this part of the sorted times is below.
fn part(times: &mut [Duration], thousandths: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * thousandths / 1000]
}

#[test]
fn with_one_frame_in_a_hundred_damaged_and_one_lost_every_packet_comes_once_and_in_order() {
    let mut rack = Rack::new(42);
    (rack.damaged, rack.lost) = (10, 10);
    let count = 300;
    for slot in Slot::ALL {
        for number in 0..count {
            let length = 8 + number as usize * 131 % (PACKET - 8);
            rack.to_send[slot.index()].push_back(packet(slot, number, length));
            rack.trays[slot.index()]
                .to_send
                .push_back(packet(slot, number, PACKET - length + 8));
        }
    }
    rack.run(Duration::from_secs(20));
    for slot in Slot::ALL {
        let there = Rack::numbers(slot, &rack.trays[slot.index()].came);
        let back = Rack::numbers(slot, &rack.came[slot.index()]);
        assert!(
            there.iter().copied().eq(0..count),
            "{slot}: {} there",
            there.len()
        );
        assert!(
            back.iter().copied().eq(0..count),
            "{slot}: {} back",
            back.len()
        );
    }
    // Noise is nobody's babble.
    assert!(
        !rack
            .news
            .iter()
            .any(|(_, news)| matches!(news, News::Babbles(_) | News::Lost(_)))
    );
}

#[test]
fn resets_and_erases_of_some_lose_packets_of_theirs_alone() {
    let mut rack = Rack::new(7);
    rack.damaged = 10;
    for second in 0..10_u32 {
        for slot in Slot::ALL {
            for number in second * 20..second * 20 + 20 {
                rack.to_send[slot.index()].push_back(packet(slot, number, 600));
                rack.trays[slot.index()]
                    .to_send
                    .push_back(packet(slot, number, 600));
            }
        }
        rack.run(Duration::from_millis(333));
        // Slot 1 starts anew, slot 2 erases for as long as its flash may take.
        rack.trays[0].start();
        rack.trays[0].deaf = rack.now + Duration::from_millis(200);
        rack.trays[1].deaf = rack.now + Duration::from_millis(400);
        rack.run(Duration::from_millis(667));
    }
    rack.run(Duration::from_secs(2));
    for slot in Slot::ALL {
        let there = Rack::numbers(slot, &rack.trays[slot.index()].came);
        let back = Rack::numbers(slot, &rack.came[slot.index()]);
        for numbers in [&there, &back] {
            if slot.number() == 1 {
                // Up to one of each life is lost, or comes to both.
                assert!(
                    numbers.is_sorted() && numbers.len() >= 180,
                    "{}",
                    numbers.len()
                );
            } else {
                assert!(
                    numbers.iter().copied().eq(0..200),
                    "{slot}: {}",
                    numbers.len()
                );
            }
        }
    }
    let lost = rack
        .news
        .iter()
        .filter(|(_, news)| matches!(news, News::Lost(_)));
    assert_eq!(lost.count(), 0);
}

#[test]
fn a_tray_is_known_within_two_seconds_of_insertion_under_full_load() {
    let mut rack = Rack::new(3);
    rack.damaged = 10;
    let pulled = rack.trays.pop().expect("five");
    rack.master.present(0b0_1111, rack.now);
    for slot in &Slot::ALL[..4] {
        for number in 0..1000 {
            rack.to_send[slot.index()].push_back(packet(*slot, number, PACKET));
            rack.trays[slot.index()]
                .to_send
                .push_back(packet(*slot, number, PACKET));
        }
    }
    rack.run(Duration::from_secs(1));
    let inserted = rack.now;
    rack.trays.push(pulled);
    // Its controller starts: boot ROM, first stage, a slot verified. A second of that leaves the bus the other one.
    rack.trays[4].deaf = inserted + Duration::from_secs(1);
    rack.master.present(0b1_1111, rack.now);
    rack.run(Duration::from_secs(2));
    let slot = Slot::ALL[4];
    let joined = rack
        .news
        .iter()
        .find(|(_, news)| matches!(news, News::Joined(it, _) if *it == slot));
    let took = joined.expect("it joins").0 - inserted;
    println!("inserted to known: {took:?}, of it 1 s of the controller's own start");
    assert!(took < Duration::from_millis(1050), "{took:?}");
}

/// Keystrokes to `slot`, each echoed by the tray as soon as it comes; the times from one to the other.
fn echoes(rack: &mut Rack, slot: Slot, count: u32) -> Vec<Duration> {
    let mut times = Vec::new();
    for key in 0..count {
        let at = slot.index();
        // A keystroke is some 100 bytes: IPv6, TCP and a TLS record around it.
        let (heard, back) = (rack.trays[at].came.len(), rack.came[at].len());
        rack.to_send[at].push_front(packet(slot, 1_000_000 + key, 100));
        let pressed = rack.now;
        let mut echoed = false;
        while !rack.came[at][back..]
            .iter()
            .any(|(_, it)| number(it) == 1_000_000 + key)
        {
            rack.run(Duration::from_micros(20));
            let came = rack.trays[at].came[heard..].iter();
            if !echoed && came.clone().any(|(_, it)| number(it) == 1_000_000 + key) {
                echoed = true;
                rack.trays[at]
                    .to_send
                    .push_front(packet(slot, 1_000_000 + key, 100));
            }
            assert!(
                rack.now < pressed + Duration::from_secs(1),
                "no echo of key {key}"
            );
        }
        let came = rack.came[at][back..]
            .iter()
            .find(|(_, it)| number(it) == 1_000_000 + key);
        times.push(came.expect("it came").0 - pressed);
        let pause = rack.random.below(20_000);
        rack.run(Duration::from_micros(pause));
    }
    times
}

#[test]
fn a_keystroke_is_echoed_within_twenty_milliseconds_also_while_the_other_four_are_busy() {
    for (load, damaged) in [(false, 0), (true, 0), (true, 10)] {
        let mut rack = Rack::new(99);
        rack.damaged = damaged;
        let slot = Slot::ALL[2];
        if load {
            for other in Slot::ALL.into_iter().filter(|it| *it != slot) {
                for number in 0..20_000 {
                    rack.to_send[other.index()].push_back(packet(other, number, PACKET));
                    rack.trays[other.index()]
                        .to_send
                        .push_back(packet(other, number, PACKET));
                }
            }
        }
        rack.run(Duration::from_millis(100));
        let mut times = echoes(&mut rack, slot, 300);
        let [half, most, all] = [500, 990, 1000].map(|it| part(&mut times, it));
        println!(
            "keystroke to echo, others busy: {load}, {damaged} of 1000 damaged: median {half:?}, 99 % {most:?}, longest {all:?}"
        );
        let bound = if damaged == 0 { all } else { most };
        assert!(bound < Duration::from_millis(20), "{bound:?}");
    }
}

#[test]
fn a_full_image_to_five_trays_takes_less_than_thirty_seconds_with_their_erases() {
    // 512 KiB each, by packets of 1024 bytes of image and 60 around them.
    const PACKETS: u32 = 512;
    // All five erase at the same time and before the first byte, eight blocks of 64 KiB in at most 2 s each (W25Q128JV, table 9.6, from
    // memory). By sectors of 4 KiB it would be 128 times 0.4 s: 51 s at worst.
    const ERASES: Duration = Duration::from_secs(8 * 2);
    let mut rack = Rack::new(5);
    for slot in Slot::ALL {
        for number in 0..PACKETS {
            rack.to_send[slot.index()].push_back(packet(slot, number, 1084));
        }
    }
    while rack
        .trays
        .iter()
        .any(|tray| tray.came.len() < PACKETS as usize)
    {
        rack.run(Duration::from_millis(10));
        assert!(rack.now < Duration::from_secs(60));
    }
    println!(
        "512 KiB to five trays: {:?}, bits on the line for {:?} of it",
        rack.now, rack.busy
    );
    assert!(rack.now + ERASES < Duration::from_secs(30));
}
