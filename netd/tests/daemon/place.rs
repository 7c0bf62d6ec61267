// SPDX-License-Identifier: Apache-2.0
//! A tray with the real netd, the outside, and guests, each in a network namespace of its own.
//!
//! A guest is a namespace whose `eth0` is a tap; two threads carry its frames to and from the tap that netd made, as a
//! monitor does for a virtual machine. So the real IP stack of Linux is at both ends.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use racklet_api::init;
use racklet_api::netd::{Attached, Bridge, Op, Port, Request, Response};
use racklet_api::vmm::Mac;
use racklet_linux::rtnl::{Route, Rtnl};
use racklet_linux::{netns, tap};

/// The tray's own address on the outside's network.
pub(crate) const TRAY: &str = "192.0.2.2";
/// The outside.
pub(crate) const OUTSIDE: &str = "192.0.2.1";

pub(crate) struct Place {
    pub(crate) outside: File,
    folder: tempfile::TempDir,
    netd: Option<Child>,
    dnsmasq: Option<Child>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill_netd();
        self.stop_dhcp_server();
    }
}

/// Runs a test on a tray with fixed addresses.
pub(crate) fn on_a_tray(test: impl FnOnce(&mut Place) + Send + 'static) {
    let fixed = r#"{"interface":"eth0","addresses":["192.0.2.2/24","2001:db8::2/64"],
        "gateways":["192.0.2.1","2001:db8::1"],"dns":["192.0.2.1"]}"#;
    on_a_tray_with(fixed, |place| {
        place.start_netd();
        assert!(place.addresses().contains(&ip(TRAY)));
        test(place);
    });
}

/// Runs a test on a thread in the tray's namespace, with this network configuration and no netd yet; says loudly when it
/// cannot because the user is not root.
pub(crate) fn on_a_tray_with(
    network: &'static str,
    test: impl FnOnce(&mut Place) + Send + 'static,
) {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/proc/self").map_or(u32::MAX, |own| own.uid()) != 0 {
        eprintln!("SKIPPED: needs root to make network namespaces; nothing was tested");
        return;
    }
    let run = move || {
        let outside = new_namespace();
        netns::unshare().expect("the tray's namespace");
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        rtnl.create_veth("eth0", "far").expect("cable");
        let far = index(&mut rtnl, "far");
        rtnl.move_to(far, &outside).expect("move");
        inside(&outside, || {
            let mut rtnl = Rtnl::open().expect("rtnetlink");
            let far = index(&mut rtnl, "far");
            for (address, length) in [(OUTSIDE, 24), ("2001:db8::1", 64)] {
                rtnl.add_address(far, ip(address), length).expect("address");
            }
            rtnl.set_up(far, true).expect("up");
        });
        let mut place = Place {
            outside,
            folder: tempfile::tempdir().expect("scratch folder"),
            netd: None,
            dnsmasq: None,
        };
        let tray = r#"{"v":1,"rack":"00112233445566778899aabbccddeeff","tray":"tray-1","board":"qemu-x86_64",
            "built":1790000000,"repository":{"url":"https://git.example/rack.git"},"network":"#;
        fs::write(place.path("tray.json"), format!("{tray}{network}}}")).expect("tray.json");
        test(&mut place);
    };
    std::thread::spawn(run)
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn new_namespace() -> File {
    let thread = std::thread::spawn(|| {
        netns::unshare().expect("a namespace");
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        let lo = index(&mut rtnl, "lo");
        rtnl.set_up(lo, true).expect("loopback");
        netns::current().expect("its handle")
    });
    thread.join().expect("namespace thread")
}

/// Runs something in a namespace.
pub(crate) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            netns::enter(namespace).expect("the namespace");
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn index(rtnl: &mut Rtnl, name: &str) -> u32 {
    let link = rtnl.link(name).expect("links are listed");
    link.unwrap_or_else(|| panic!("no {name}")).index
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts netd in the calling thread's namespace and waits until it answers and the tray is online.
    pub(crate) fn start_netd(&mut self) {
        self.spawn_netd();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if self.try_ask(Op::Status).is_some() && !self.addresses().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("netd does not come up:\n{}", self.log());
    }

    pub(crate) fn spawn_netd(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("netd.log"))
            .expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_netd"))
            .arg("--tray")
            .arg(self.path("tray.json"))
            .arg("--handoff")
            .arg(self.path("handoff.json"))
            .arg("--resolv-conf")
            .arg(self.path("resolv.conf"))
            .arg("--run")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("netd starts");
        self.netd = Some(child);
    }

    /// Plays init: the next thing netd says of its health.
    pub(crate) fn hear_health(&self, init: &UnixListener) -> (bool, String) {
        let (stream, _) = init.accept().expect("netd speaks");
        let heard = racklet_line::read::<init::Request>(&mut BufReader::new(&stream));
        // It fails when netd has stopped waiting; then netd says it again.
        let _ = racklet_line::write(&mut &stream, &init::Response::done());
        match heard.expect("a request").expect("not the end").op {
            init::Op::Health {
                healthy, message, ..
            } => (healthy, message),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn init(&self) -> UnixListener {
        UnixListener::bind(self.path("init.sock")).expect("init's socket")
    }

    /// The addresses of the tray's card, as netd tells them.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let status = self.ask(Op::Status).status.expect("status");
        let links = status.links.values().filter(|link| link.network.is_none());
        links
            .flat_map(|link| &link.addresses)
            .map(|cidr| cidr.address)
            .collect()
    }

    /// Whether netd answers.
    pub(crate) fn answers(&self) -> bool {
        self.try_ask(Op::Status).is_some()
    }

    /// A real DHCP server on the outside.
    pub(crate) fn start_dhcp_server(&mut self) {
        self.start_dhcp_server_with(&[]);
    }

    /// The same with further arguments.
    pub(crate) fn start_dhcp_server_with(&mut self, more: &[&str]) {
        let leases = self.path("leases");
        let child = inside(&self.outside, || {
            Command::new("/usr/sbin/dnsmasq")
                .args([
                    "--no-daemon",
                    "--conf-file=/dev/null",
                    "--port=0",
                    "--interface=far",
                ])
                .args(["--user=root", "--pid-file=", "--no-ping"])
                .arg("--dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,600")
                .arg(format!("--dhcp-leasefile={}", leases.display()))
                .args(more)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("dnsmasq runs (package dnsmasq-base)")
        });
        self.dnsmasq = Some(child);
    }

    pub(crate) fn stop_dhcp_server(&mut self) {
        if let Some(mut child) = self.dnsmasq.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGKILL, and what it leaves behind.
    pub(crate) fn kill_netd(&mut self) {
        if let Some(mut child) = self.netd.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// KiB that netd alone uses.
    pub(crate) fn own_memory(&self) -> u64 {
        let netd = self.netd.as_ref().expect("it runs").id();
        let rollup = fs::read_to_string(format!("/proc/{netd}/smaps_rollup")).expect("it runs");
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Private_Dirty:"));
        let words = line.expect("the kernel says it").trim();
        words
            .trim_end_matches(" kB")
            .trim()
            .parse()
            .expect("a number")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("netd.log")).unwrap_or_default()
    }

    fn try_ask(&self, op: Op) -> Option<Response> {
        let patience = Duration::from_secs(10);
        racklet_line::ask(&self.path("netd.sock"), &Request::new(op), patience).ok()
    }

    pub(crate) fn ask(&self, op: Op) -> Response {
        self.try_ask(op)
            .unwrap_or_else(|| panic!("netd does not answer:\n{}", self.log()))
    }

    pub(crate) fn attach(&self, network: &Bridge, port: &Port) -> Attached {
        let response = self.ask(Op::Attach {
            network: network.clone(),
            port: port.clone(),
        });
        response
            .attached
            .unwrap_or_else(|| panic!("refused: {:?}\n{}", response.error, self.log()))
    }

    /// A guest that behaves as it was told.
    pub(crate) fn guest(&self, network: &Bridge, port: &Port) -> Guest {
        let attached = self.attach(network, port);
        Guest::boot(&attached.tap, network, port)
    }
}

pub(crate) fn network(name: &str, gateways: &[&str]) -> Bridge {
    Bridge {
        name: name.into(),
        gateways: gateways.iter().map(|g| g.parse().expect("cidr")).collect(),
        nat: true,
    }
}

pub(crate) fn port(workload: &str, last: u8, addresses: &[&str]) -> Port {
    Port {
        workload: workload.into(),
        mac: Mac([2, 0x52, 0x4b, 0, 0, last]),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        uid: 1000,
    }
}

/// A namespace whose `eth0` hangs on a tap of the tray.
pub(crate) struct Guest {
    pub(crate) namespace: File,
    stop: Arc<AtomicBool>,
    wires: Vec<JoinHandle<()>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for wire in self.wires.drain(..) {
            let _ = wire.join();
        }
    }
}

impl Guest {
    fn boot(name: &str, network: &Bridge, port: &Port) -> Self {
        let outer = tap::attach(name).expect("the tap netd made");
        let namespace = new_namespace();
        let inner = inside(&namespace, || {
            tap::create("eth0", 0).expect("the guest's card");
            tap::attach("eth0").expect("the guest's card")
        });
        let stop = Arc::new(AtomicBool::new(false));
        let wire = |from: &File, to: &File| {
            let (mut from, mut to) = (from.try_clone().expect("fd"), to.try_clone().expect("fd"));
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut frame = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    match from.read(&mut frame) {
                        // A frame that cannot be delivered is lost, as on a wire.
                        Ok(length) => drop(to.write(&frame[..length])),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        // EIO: the card is off, not yet or no more.
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
            })
        };
        let wires = vec![wire(&outer, &inner), wire(&inner, &outer)];
        inside(&namespace, || {
            let mut rtnl = Rtnl::open().expect("rtnetlink");
            let card = index(&mut rtnl, "eth0");
            rtnl.set_mac(card, port.mac.0).expect("mac");
            rtnl.set_up(card, true).expect("up");
            for gateway in &network.gateways {
                let family = gateway.address.is_ipv4();
                for address in port.addresses.iter().filter(|a| a.is_ipv4() == family) {
                    rtnl.add_address(card, *address, gateway.prefix)
                        .expect("address");
                    let any: IpAddr = if family {
                        Ipv4Addr::UNSPECIFIED.into()
                    } else {
                        Ipv6Addr::UNSPECIFIED.into()
                    };
                    rtnl.set_route(&Route {
                        destination: any,
                        prefix_length: 0,
                        gateway: Some(gateway.address),
                        interface: card,
                        metric: 100,
                        protocol: Route::OURS,
                    })
                    .expect("route");
                }
            }
        });
        Self {
            namespace,
            stop,
            wires,
        }
    }

    /// What the listener sees as the source of a TCP connection from here, which must come about.
    pub(crate) fn reaches(&self, listener: &Listener) -> IpAddr {
        listener.reached_from(&self.namespace)
    }

    /// Whether no TCP connection comes about.
    pub(crate) fn is_cut_off_from(&self, listener: &Listener) -> bool {
        listener.is_cut_off(&self.namespace)
    }
}

/// A TCP listener in some namespace.
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn open(namespace: &File, address: &str) -> Self {
        let address = SocketAddr::new(ip(address), 0);
        let listener = inside(namespace, || TcpListener::bind(address).expect("listens"));
        listener.set_nonblocking(true).expect("nonblocking");
        Self(listener)
    }

    pub(crate) fn accept(&self) -> (TcpStream, IpAddr) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Ok((stream, peer)) = self.0.accept() {
                stream.set_nonblocking(false).expect("blocking");
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .expect("timeout");
                return (stream, peer.ip());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("connected, but nobody came");
    }

    fn try_connect(&self, from: &File, patience: Duration) -> Option<TcpStream> {
        let address = self.0.local_addr().expect("bound");
        inside(from, || TcpStream::connect_timeout(&address, patience).ok())
    }

    /// A connection that must come about: a busy machine may take its time, and first packets may be lost.
    pub(crate) fn connect(&self, from: &File) -> TcpStream {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(stream) = self.try_connect(from, Duration::from_secs(10)) {
                return stream;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no connection to {:?}", self.0.local_addr());
    }

    pub(crate) fn reached_from(&self, from: &File) -> IpAddr {
        let _stream = self.connect(from);
        self.accept().1
    }

    pub(crate) fn is_cut_off(&self, from: &File) -> bool {
        // Enough for ARP and a lost SYN where there is a way.
        self.try_connect(from, Duration::from_millis(2500))
            .is_none()
    }
}
