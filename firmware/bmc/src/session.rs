// SPDX-License-Identifier: Apache-2.0
//! Sessions: TCP, TLS and the console's protocol, each in a task with buffers of its own, so that none waits for another.
//!
//! A fixed number of tasks listens; who comes when all are taken is refused by TCP. Two handshakes are computed at a time, the others
//! wait for their turn. Every send has a deadline.

use alloc::sync::Arc;
use core::net::Ipv4Addr;

use embassy_executor::Spawner;
use embassy_futures::select::{Either3, select3};
use embassy_net::{Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4, tcp::TcpSocket};
use embassy_sync::{
    blocking_mutex::raw::CriticalSectionRawMutex,
    semaphore::{FairSemaphore, Semaphore as _},
};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use racklet_firmware_core::console::{Next, Reader};
use racklet_wire::{
    access::{Holder, Role},
    console::{Ask, DEAD_AFTER, MOST_BYTES, PORT, ROOM, Reason, Tell},
    frame::Frame,
};
use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncryptError, UnbufferedStatus},
};
use static_cell::{ConstStaticCell, StaticCell};

use crate::{
    board::{self, say},
    console::{self, name::Name},
    heap,
};

/// How many readers there can be at a time.
pub(crate) const SESSIONS: usize = 8;
/// How many handshakes are under way at a time: each keeps its keys, certificates and messages on the heap.
const HANDSHAKES: usize = 2;
/// Bytes that TCP holds for a session, each way.
const TCP_ROOM: usize = 4096;
/// Bytes of records: one of the largest that we take fits. Readers of ours send frames of 1 KiB at most, and certificates that are small.
const TLS_ROOM: usize = 4096;
/// From the first byte to the last of a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
/// What is to be sent goes within this time, or the session ends.
const SEND_TIME: Duration = Duration::from_secs(DEAD_AFTER);
/// Nothing heard for so long, and it ends.
const SILENCE: Duration = Duration::from_secs(DEAD_AFTER);

static TURNS: FairSemaphore<CriticalSectionRawMutex, SESSIONS> = FairSemaphore::new(HANDSHAKES);

struct Buffers {
    received: [u8; TCP_ROOM],
    sent: [u8; TCP_ROOM],
    incoming: [u8; TLS_ROOM],
    outgoing: [u8; TLS_ROOM],
    asked: [u8; TLS_ROOM + ROOM],
}

impl Buffers {
    const fn new() -> Self {
        Self {
            received: [0; TCP_ROOM],
            sent: [0; TCP_ROOM],
            incoming: [0; TLS_ROOM],
            outgoing: [0; TLS_ROOM],
            asked: [0; TLS_ROOM + ROOM],
        }
    }
}

/// Starts everything that has to do with the network.
pub(crate) fn start(
    spawner: Spawner,
    network: board::Network,
    seed: [u8; 32],
    config: &Arc<ServerConfig>,
) {
    static RESOURCES: StaticCell<StackResources<{ SESSIONS + 1 }>> = StaticCell::new();
    // Never on the stack: 137 KiB.
    static BUFFERS: ConstStaticCell<[Buffers; SESSIONS]> =
        ConstStaticCell::new([const { Buffers::new() }; SESSIONS]);
    let [a, b, c, d, e, f, g, h, ..] = seed;
    let (stack, runner) = embassy_net::new(
        network,
        embassy_net::Config::ipv4_static(address()),
        RESOURCES.init_with(StackResources::new),
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
    );
    let buffers = BUFFERS.take();
    // The pools have a place for each of these, and this is called once.
    spawner.spawn(net(runner).expect("one"));
    spawner.spawn(typist().expect("one"));
    spawner.spawn(seconds().expect("one"));
    for (number, buffers) in buffers.iter_mut().enumerate() {
        spawner.spawn(listen(stack, number, buffers, Arc::clone(config)).expect("eight"));
    }
    say("bmc: listening");
}

/// As QEMU's user network gives it to its first guest, to which it forwards ports.
fn address() -> StaticConfigV4 {
    StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24),
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        dns_servers: Default::default(),
    }
}

#[embassy_executor::task]
async fn net(mut runner: Runner<'static, board::Network>) {
    runner.run().await
}

/// What was typed goes to the tray as fast as the tray takes it.
#[embassy_executor::task]
async fn typist() {
    let mut bytes = [0; 64];
    loop {
        let length = console::TYPED.read(&mut bytes).await;
        for byte in &bytes[..length] {
            board::to_tray(*byte).await;
        }
        // Frames of a session may be waiting for the room.
        console::tell();
    }
}

#[embassy_executor::task]
async fn seconds() {
    loop {
        Timer::after_secs(1).await;
        console::tick();
    }
}

#[embassy_executor::task(pool_size = SESSIONS)]
async fn listen(
    stack: Stack<'static>,
    number: usize,
    buffers: &'static mut Buffers,
    config: Arc<ServerConfig>,
) {
    let Buffers {
        received,
        sent,
        incoming,
        outgoing,
        asked,
    } = buffers;
    loop {
        let mut socket = TcpSocket::new(stack, received, sent);
        if socket.accept(PORT).await.is_err() {
            // Cannot be by the port's number; should it be anyway, not in a circle.
            Timer::after_secs(1).await;
            continue;
        }
        socket.set_timeout(Some(SEND_TIME));
        socket.set_nagle_enabled(false);
        let mut session = Session {
            number,
            records: Records {
                socket: &mut socket,
                incoming,
                filled: 0,
                outgoing,
                used: 0,
            },
            asked,
            asked_length: 0,
            heard: Instant::now(),
            state: State::New,
        };
        let end = session.run(&config).await;
        let id = u8::try_from(number).expect("eight sessions");
        console::with(|console| console.input.release(id));
        console::tell();
        socket.close();
        // What is on its way still goes, and a reader that is gone gets a reset.
        let _ = with_timeout(Duration::from_secs(5), socket.flush()).await;
        socket.abort();
        let _ = with_timeout(Duration::from_secs(1), socket.flush()).await;
        say(format_args!(
            "bmc: session {number} {end}; heap {} at most",
            heap::peak()
        ));
    }
}

/// How a session came to its end.
#[derive(Debug)]
enum End {
    Closed,
    Lost,
    Refused(rustls::Error),
    TooLarge,
    Slow,
    Told(Reason),
}

impl core::fmt::Display for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Lost => f.write_str("lost"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::TooLarge => f.write_str("refused: a record is too large"),
            Self::Slow => f.write_str("ended: it took too long"),
            Self::Told(reason) => write!(f, "ended: {reason}"),
        }
    }
}

/// Bytes on their way between TCP and TLS.
struct Records<'b, 's> {
    socket: &'b mut TcpSocket<'s>,
    incoming: &'b mut [u8],
    filled: usize,
    outgoing: &'b mut [u8],
    used: usize,
}

enum State {
    /// Nothing is known of it yet.
    New,
    /// Its certificate is good, and says nothing that a BMC knows.
    Nobody,
    /// Its certificate is good for this.
    Known { role: Role, name: Name },
    Attached {
        role: Role,
        name: Name,
        reader: Reader,
        /// The holders that it was told of.
        told: Option<u32>,
    },
}

struct Session<'b, 's> {
    number: usize,
    records: Records<'b, 's>,
    /// Frames of the reader that were not looked at yet.
    asked: &'b mut [u8],
    asked_length: usize,
    heard: Instant,
    state: State,
}

impl Session<'_, '_> {
    async fn run(&mut self, config: &Arc<ServerConfig>) -> End {
        let begun = Instant::now();
        // Of who is connected and says nothing, no handshake is begun.
        let Records {
            socket,
            incoming,
            filled,
            ..
        } = &mut self.records;
        match with_timeout(HANDSHAKE_TIME, receive(socket, incoming, filled)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(_) => return End::Slow,
        }
        let mut turn = match with_timeout(HANDSHAKE_TIME, TURNS.acquire(1)).await {
            Ok(Ok(turn)) => Some(turn),
            _ => return End::Slow,
        };
        let mut tls = match UnbufferedServerConnection::new(Arc::clone(config)) {
            Ok(tls) => tls,
            Err(why) => return End::Refused(why),
        };
        loop {
            let status = tls.process_tls_records(&mut self.records.incoming[..self.records.filled]);
            let UnbufferedStatus { mut discard, state } = status;
            let mut end = None;
            match state {
                Err(why) => end = Some(End::Refused(why)),
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    match data.encode(&mut self.records.outgoing[self.records.used..]) {
                        Ok(length) => self.records.used += length,
                        Err(_) => return End::TooLarge,
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    if let Err(why) = send(
                        self.records.socket,
                        self.records.outgoing,
                        &mut self.records.used,
                    )
                    .await
                    {
                        return why;
                    }
                }
                Ok(ConnectionState::BlockedHandshake) => {
                    let left = (begun + HANDSHAKE_TIME).saturating_duration_since(Instant::now());
                    drop_front(
                        self.records.incoming,
                        &mut self.records.filled,
                        core::mem::take(&mut discard),
                    );
                    match with_timeout(
                        left,
                        receive(
                            self.records.socket,
                            self.records.incoming,
                            &mut self.records.filled,
                        ),
                    )
                    .await
                    {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => return why,
                        Err(_) => return End::Slow,
                    }
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let Ok(record) = record else { return End::Lost };
                        discard += record.discard;
                        // No more was received than there is room for: see `receives`.
                        let room = self
                            .asked
                            .get_mut(self.asked_length..self.asked_length + record.payload.len());
                        let Some(room) = room else {
                            return End::TooLarge;
                        };
                        room.copy_from_slice(record.payload);
                        self.asked_length += record.payload.len();
                        self.heard = Instant::now();
                    }
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    drop_front(
                        self.records.incoming,
                        &mut self.records.filled,
                        core::mem::take(&mut discard),
                    );
                    turn.take();
                    let mut frame = [0; ROOM];
                    console::expect(self.number);
                    let step = step(
                        self.number,
                        &mut self.state,
                        self.asked,
                        &mut self.asked_length,
                        self.heard,
                        &mut frame,
                    );
                    match step {
                        Step::Frame(length) => {
                            match traffic.encrypt(
                                &frame[..length],
                                &mut self.records.outgoing[self.records.used..],
                            ) {
                                Ok(length) => self.records.used += length,
                                Err(EncryptError::InsufficientSize(_)) | Err(_) => {
                                    return End::TooLarge;
                                }
                            }
                            if let Err(why) = send(
                                self.records.socket,
                                self.records.outgoing,
                                &mut self.records.used,
                            )
                            .await
                            {
                                return why;
                            }
                        }
                        Step::End(reason) => {
                            let told = Tell::End(reason).write(&mut frame).unwrap_or(0);
                            let out = &mut self.records.outgoing[self.records.used..];
                            let length = traffic.encrypt(&frame[..told], out).unwrap_or(0);
                            let more = traffic.queue_close_notify(&mut out[length..]).unwrap_or(0);
                            self.records.used += length + more;
                            let _ = send(
                                self.records.socket,
                                self.records.outgoing,
                                &mut self.records.used,
                            )
                            .await;
                            return End::Told(reason);
                        }
                        Step::Who => {}
                        Step::Wait => {
                            let silent = self.heard + SILENCE;
                            let room = self.asked.len() - self.asked_length;
                            // Until the asked frames have left, the others stay with TCP.
                            let received = async {
                                match room >= TLS_ROOM {
                                    true => {
                                        receive(
                                            self.records.socket,
                                            self.records.incoming,
                                            &mut self.records.filled,
                                        )
                                        .await
                                    }
                                    false => core::future::pending().await,
                                }
                            };
                            match select3(received, console::news(self.number), Timer::at(silent))
                                .await
                            {
                                Either3::First(Ok(())) => {}
                                Either3::First(Err(why)) => return why,
                                Either3::Second(()) | Either3::Third(()) => {}
                            }
                        }
                    }
                    if matches!(step, Step::Who) {
                        self.state = match holder(&tls) {
                            Some((role, name)) => State::Known { role, name },
                            None => State::Nobody,
                        };
                    }
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    end = Some(End::Closed)
                }
                Ok(_) => end = Some(End::Lost),
            }
            drop_front(self.records.incoming, &mut self.records.filled, discard);
            if let Some(end) = end {
                // The alert that says why, when there is one.
                while let Ok(ConnectionState::EncodeTlsData(mut data)) =
                    tls.process_tls_records(&mut []).state
                {
                    match data.encode(&mut self.records.outgoing[self.records.used..]) {
                        Ok(length) => self.records.used += length,
                        Err(_) => break,
                    }
                }
                let _ = send(
                    self.records.socket,
                    self.records.outgoing,
                    &mut self.records.used,
                )
                .await;
                return end;
            }
        }
    }
}

/// What a session does next, when nothing is to be decrypted.
#[derive(Clone, Copy)]
enum Step {
    /// So many bytes of a frame are to be sent.
    Frame(usize),
    End(Reason),
    /// It has to be found out who this is.
    Who,
    Wait,
}

/// Takes a frame of the reader's, or makes one for it.
fn step(
    number: usize,
    state: &mut State,
    asked: &mut [u8],
    asked_length: &mut usize,
    heard: Instant,
    out: &mut [u8; ROOM],
) -> Step {
    let id = u8::try_from(number).expect("eight sessions");
    match state {
        State::New => return Step::Who,
        State::Nobody => return Step::End(Reason::Role),
        State::Known { .. } | State::Attached { .. } => {}
    }
    if Instant::now() >= heard + SILENCE {
        return Step::End(Reason::Silent);
    }
    loop {
        let (ask, length) = match Frame::first(&asked[..*asked_length]) {
            Ok(None) => break,
            Ok(Some((frame, length))) => match Ask::read(frame) {
                // It stays where it is until there is room, and this reader's output goes on.
                Ok(Ask::Input(bytes)) if console::TYPED.free_capacity() < bytes.len() => break,
                Ok(ask) => (ask, length),
                Err(_) => return Step::End(Reason::Protocol),
            },
            Err(_) => return Step::End(Reason::Protocol),
        };
        let answer = answer(id, state, ask);
        drop_front(asked, asked_length, length);
        match answer {
            Err(reason) => return Step::End(reason),
            Ok(None) => {}
            Ok(Some(tell)) => return Step::Frame(tell.write(out).expect("any frame has room")),
        }
    }
    news(id, state, out).map_or(Step::Wait, Step::Frame)
}

fn answer(id: u8, state: &mut State, ask: Ask<'_>) -> Result<Option<Tell<'static>>, Reason> {
    match (&mut *state, ask) {
        (State::Known { role, name }, Ask::Attach { since }) => {
            let (role, name) = (*role, *name);
            let (reader, welcome) = console::with(|console| {
                let recorder = &console.recorder;
                let reader = recorder.attach(since);
                let welcome = Tell::Welcome {
                    history: recorder.history(),
                    oldest: recorder.oldest(),
                    end: recorder.end(),
                    begins: reader.offset(),
                    may_type: role >= Role::Operator,
                };
                (reader, welcome)
            });
            *state = State::Attached {
                role,
                name,
                reader,
                told: None,
            };
            Ok(Some(welcome))
        }
        (State::Attached { .. }, Ask::Attach { .. }) | (State::New | State::Nobody, _) => {
            Err(Reason::Protocol)
        }
        (_, Ask::Alive) => {
            console::with(|console| console.input.heard(id, board::now()));
            Ok(Some(Tell::Alive))
        }
        (State::Known { .. }, _) => Err(Reason::Protocol),
        (State::Attached { role, .. }, _) if *role < Role::Operator => Ok(None),
        (State::Attached { name, .. }, Ask::Take) => {
            console::with(|console| {
                console.input.take(id, board::now());
                console.holder = *name;
            });
            console::tell();
            Ok(None)
        }
        (State::Attached { .. }, Ask::Release) => {
            console::with(|console| console.input.release(id));
            console::tell();
            Ok(None)
        }
        (State::Attached { .. }, Ask::Input(bytes)) => {
            let holds = console::with(|console| {
                console.input.heard(id, board::now());
                console.input.holder() == Some(id)
            });
            if holds {
                // It was looked whether there is room.
                let _ = console::TYPED.try_write(bytes);
            }
            Ok(None)
        }
        (State::Attached { .. }, Ask::Break(_)) => Ok(None),
    }
}

/// What is new for this reader.
fn news(id: u8, state: &mut State, out: &mut [u8; ROOM]) -> Option<usize> {
    let State::Attached { reader, told, .. } = state else {
        return None;
    };
    let mut bytes = [0; MOST_BYTES];
    console::with(|console| {
        let changes = console.input.changes();
        if *told != Some(changes) {
            *told = Some(changes);
            let holder = console.input.holder();
            let name = holder.map_or("", |_| console.holder.text());
            return Tell::Holder {
                yours: holder == Some(id),
                name,
            }
            .write(out);
        }
        match console.recorder.read(reader, &mut bytes) {
            Next::Nothing => None,
            Next::Lost { from, to } => Tell::Lost { from, to }.write(out),
            Next::Event { offset, event } => Tell::Event { offset, event }.write(out),
            Next::Bytes { offset, length } => Tell::Output {
                offset,
                bytes: &bytes[..length],
            }
            .write(out),
        }
    })
}

/// Who a session is, by the certificate that rustls found good.
fn holder(tls: &UnbufferedServerConnection) -> Option<(Role, Name)> {
    let certificate = tls.peer_certificates()?.first()?;
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let holder = certificate.valid_uri_names().find_map(Holder::read)?;
    Some((holder.role, Name::of(holder.name())))
}

fn drop_front(bytes: &mut [u8], length: &mut usize, front: usize) {
    bytes.copy_within(front..*length, 0);
    *length -= front;
}

async fn receive(
    socket: &mut TcpSocket<'_>,
    buffer: &mut [u8],
    filled: &mut usize,
) -> Result<(), End> {
    if *filled == buffer.len() {
        return Err(End::TooLarge);
    }
    match socket.read(&mut buffer[*filled..]).await {
        Ok(0) => Err(End::Closed),
        Ok(length) => {
            *filled += length;
            Ok(())
        }
        Err(_) => Err(End::Lost),
    }
}

async fn send(socket: &mut TcpSocket<'_>, buffer: &[u8], used: &mut usize) -> Result<(), End> {
    let mut rest = &buffer[..core::mem::take(used)];
    let all = async {
        while !rest.is_empty() {
            match socket.write(rest).await {
                Ok(0) | Err(_) => return Err(End::Lost),
                Ok(length) => rest = &rest[length..],
            }
        }
        Ok(())
    };
    with_timeout(SEND_TIME, all).await.unwrap_or(Err(End::Slow))
}
