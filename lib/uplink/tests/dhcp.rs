// SPDX-License-Identifier: Apache-2.0
//! The uplink against a real DHCP server (dnsmasq), each test with two network namespaces and a cable between them.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use racklet_api::handoff::Lease;
use racklet_api::tray::NetworkConfig;
use racklet_linux::netns;
use racklet_linux::rtnl::Rtnl;
use racklet_net::dhcp4::Message;
use racklet_net::dhcp4::message::{Kind, option};
use racklet_uplink::{Event, Settings, Uplink, What};

/// The tray's namespace is the test thread's; the server's is at the other end of the cable `eth0` - `srv`.
struct Lan {
    server: File,
    folder: tempfile::TempDir,
    dnsmasq: Option<Child>,
    start: Instant,
    /// How far the tray's clock is ahead: tests need not wait for leases to age.
    skew: Duration,
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.stop_dnsmasq();
    }
}

/// Runs a test on a thread in its own namespace; says loudly when it cannot because the user is not root.
fn on_a_lan(test: impl FnOnce(&mut Lan) + Send + 'static) {
    if !rustix_is_root() {
        eprintln!("SKIPPED: needs root to make network namespaces; nothing was tested");
        return;
    }
    let run = move || {
        let server = std::thread::spawn(|| {
            netns::unshare().expect("a namespace for the server");
            netns::current().expect("its handle")
        });
        let server = server.join().expect("server namespace");
        netns::unshare().expect("a namespace for the tray");
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        rtnl.create_veth("eth0", "srv").expect("cable");
        let peer = rtnl.link("srv").expect("links").expect("srv").index;
        rtnl.move_to(peer, &server).expect("move");
        let folder = tempfile::tempdir().expect("scratch folder");
        let mut lan = Lan {
            server,
            folder,
            dnsmasq: None,
            start: Instant::now(),
            skew: Duration::ZERO,
        };
        lan.renumber(&[("10.77.0.1", 24), ("fd77::1", 64)]);
        test(&mut lan);
    };
    std::thread::spawn(run)
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

impl Lan {
    /// Runs something in the server's namespace.
    fn on_server<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                netns::enter(&self.server).expect("server namespace");
                work()
            });
            thread.join().expect("server side")
        })
    }

    fn renumber(&self, addresses: &[(&str, u8)]) {
        self.on_server(|| {
            let mut rtnl = Rtnl::open().expect("rtnetlink");
            let index = rtnl.link("srv").expect("links").expect("srv").index;
            for old in rtnl.addresses().expect("addresses") {
                if old.interface == index && old.permanent {
                    rtnl.delete_address(index, old.address, old.prefix_length)
                        .expect("delete");
                }
            }
            for (address, length) in addresses {
                let address = address.parse().expect("an address");
                rtnl.add_address(index, address, *length).expect("address");
            }
            rtnl.set_up(index, true).expect("up");
        });
    }

    fn dnsmasq(&mut self, arguments: &[&str]) {
        self.stop_dnsmasq();
        let folder = self.folder.path().to_owned();
        let log = File::create(folder.join("dnsmasq.log")).expect("log");
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        self.dnsmasq = Some(self.on_server(move || {
            Command::new("/usr/sbin/dnsmasq")
                .args([
                    "--no-daemon",
                    "--conf-file=/dev/null",
                    "--port=0",
                    "--log-dhcp",
                ])
                .args(["--interface=srv", "--user=root", "--pid-file=", "--no-ping"])
                .arg(format!(
                    "--dhcp-leasefile={}",
                    folder.join("leases").display()
                ))
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("dnsmasq runs (package dnsmasq-base)")
        }));
    }

    fn stop_dnsmasq(&mut self) {
        if let Some(mut child) = self.dnsmasq.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed() + self.skew
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    fn uplink(&self, network: NetworkConfig, resume: Option<Lease>) -> Uplink {
        Uplink::open(Settings {
            network: NetworkConfig {
                interface: Some("eth0".into()),
                ..network
            },
            host_name: Some("tray-1".into()),
            resolv_conf: self.resolv_conf(),
            resume,
            ignore: vec![],
        })
        .expect("uplink")
    }

    /// Lets the uplink work until an event satisfies the condition; gives all events up to then.
    fn until(
        &self,
        uplink: &mut Uplink,
        what: &str,
        mut done: impl FnMut(&Uplink, &Event) -> bool,
    ) -> Vec<Event> {
        let begun = Instant::now();
        let mut events = Vec::new();
        while begun.elapsed() < Duration::from_secs(20) {
            let new = uplink.handle(self.now()).expect("uplink works");
            let found = new.iter().any(|event| done(uplink, event));
            events.extend(new);
            if found {
                return events;
            }
            uplink
                .wait(self.now(), Duration::from_millis(100))
                .expect("wait");
        }
        let log = std::fs::read_to_string(self.folder.path().join("dnsmasq.log"));
        let events: Vec<String> = events.iter().map(ToString::to_string).collect();
        panic!(
            "never happened: {what}\nevents: {events:#?}\ndnsmasq: {}",
            log.unwrap_or_default()
        );
    }

    fn until_lease(&self, uplink: &mut Uplink) -> Ipv4Addr {
        let mut leased = None;
        self.until(uplink, "a lease", |_, event| {
            if let What::Lease { address, .. } = event.what {
                leased = Some(address);
            }
            leased.is_some()
        });
        leased.expect("set above")
    }
}

const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,120";

fn kernel_addresses() -> Vec<IpAddr> {
    let mut rtnl = Rtnl::open().expect("rtnetlink");
    let all = rtnl.addresses().expect("addresses");
    all.iter().map(|found| found.address).collect()
}

#[test]
fn a_lease_configures_address_route_mtu_and_dns() {
    on_a_lan(|lan| {
        lan.dnsmasq(&[
            RANGE,
            "--dhcp-option=6,10.77.0.1,9.9.9.9",
            "--dhcp-option=42,10.77.0.3",
            "--dhcp-option=26,1400",
        ]);
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        let address = lan.until_lease(&mut uplink);
        assert!(address.octets().starts_with(&[10, 77, 0]));
        assert!(kernel_addresses().contains(&IpAddr::V4(address)));
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        let routes = rtnl.routes().expect("routes");
        let gateway = IpAddr::from([10, 77, 0, 1]);
        assert!(
            routes
                .iter()
                .any(|route| route.prefix_length == 0 && route.gateway == Some(gateway))
        );
        assert_eq!(rtnl.link("eth0").expect("links").expect("eth0").mtu, 1400);
        let resolv = std::fs::read_to_string(lan.resolv_conf()).expect("resolv.conf");
        assert!(
            resolv.contains("nameserver 10.77.0.1\nnameserver 9.9.9.9\n"),
            "{resolv}"
        );
        assert_eq!(uplink.ntp_servers(), [IpAddr::from([10, 77, 0, 3])]);
        assert!(uplink.is_online());
        let lease = uplink.lease(lan.now()).expect("a lease to hand over");
        assert_eq!(lease.interface, "eth0");
        assert_eq!(lease.gateways, [gateway]);
        // The address works: the server answers a connection attempt, if only with a reset.
        let error = std::net::TcpStream::connect_timeout(
            &(Ipv4Addr::new(10, 77, 0, 1), 9).into(),
            Duration::from_secs(5),
        );
        assert_eq!(
            error.expect_err("nobody listens").kind(),
            std::io::ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn the_lease_is_renewed_before_it_ends_and_lost_when_nobody_renews_it() {
    on_a_lan(|lan| {
        lan.dnsmasq(&[RANGE]);
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        let address = lan.until_lease(&mut uplink);
        for _ in 0..2 {
            lan.skew += Duration::from_secs(62);
            assert_eq!(lan.until_lease(&mut uplink), address, "renewed");
        }
        lan.stop_dnsmasq();
        lan.skew += Duration::from_secs(119);
        lan.until(&mut uplink, "the end of the lease", |_, event| {
            matches!(event.what, What::LeaseLost(_))
        });
        assert!(!kernel_addresses().contains(&IpAddr::V4(address)));
        assert!(!uplink.is_online());
        lan.dnsmasq(&[RANGE]);
        lan.until_lease(&mut uplink);
    });
}

#[test]
fn a_lease_from_another_network_is_refused_by_the_server_and_replaced() {
    on_a_lan(|lan| {
        lan.dnsmasq(&[RANGE]);
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        let old = lan.until_lease(&mut uplink);
        let handed = uplink.lease(lan.now());
        drop(uplink);
        lan.renumber(&[("10.78.0.1", 24)]);
        lan.dnsmasq(&[
            "--dhcp-authoritative",
            "--dhcp-range=10.78.0.50,10.78.0.99,255.255.255.0,120",
        ]);
        let mut uplink = lan.uplink(NetworkConfig::default(), handed);
        let mut withdrawn = false;
        let mut new = None;
        lan.until(&mut uplink, "refusal and a new lease", |_, event| {
            withdrawn |= matches!(event.what, What::LeaseLost(_));
            if let What::Lease { address, .. } = event.what
                && address != old
            {
                new = Some(address);
            }
            new.is_some()
        });
        assert!(withdrawn, "the server said no");
        let new = new.expect("set above");
        assert!(new.octets().starts_with(&[10, 78, 0]));
        let addresses = kernel_addresses();
        assert!(addresses.contains(&IpAddr::V4(new)) && !addresses.contains(&IpAddr::V4(old)));
    });
}

#[test]
fn a_handed_over_lease_works_before_any_server_answers() {
    on_a_lan(|lan| {
        lan.dnsmasq(&[RANGE]);
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        let address = lan.until_lease(&mut uplink);
        let handed = uplink.lease(lan.now());
        drop(uplink);
        lan.stop_dnsmasq();
        // As after kexec: the kernel knows nothing.
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        let index = rtnl.link("eth0").expect("links").expect("eth0").index;
        rtnl.delete_address(index, address.into(), 24)
            .expect("delete");
        let mut uplink = lan.uplink(NetworkConfig::default(), handed);
        assert_eq!(lan.until_lease(&mut uplink), address);
        assert!(kernel_addresses().contains(&IpAddr::V4(address)));
    });
}

#[test]
fn answers_of_a_rogue_server_are_refused_and_the_real_one_is_found() {
    on_a_lan(|lan| {
        // Answers every question with nonsense of several kinds, at once and to everybody.
        let rogue = lan.on_server(|| UdpSocket::bind("0.0.0.0:67").expect("port 67"));
        rogue.set_broadcast(true).expect("broadcast");
        rogue
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("timeout");
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        let mut refusals = Vec::new();
        let begun = Instant::now();
        while refusals.len() < 3 && begun.elapsed() < Duration::from_secs(20) {
            for event in uplink.handle(lan.now()).expect("works") {
                match event.what {
                    What::Refused(why) => refusals.push(why),
                    What::Lease { .. } => panic!("believed the rogue: {event}"),
                    _ => {}
                }
            }
            let mut buffer = [0; 1500];
            if let Ok((length, _)) = rogue.recv_from(&mut buffer) {
                let question = Message::parse(&buffer[..length]).expect("our own question");
                for answer in nonsense(&question) {
                    rogue
                        .send_to(&answer.encode(), "10.77.0.255:68")
                        .expect("send");
                }
            }
        }
        refusals.sort();
        let all = refusals.join("\n");
        for expected in ["MTU 68", "server identifier", "subnet mask"] {
            assert!(all.contains(expected), "{expected} not in:\n{all}");
        }
        drop(rogue);
        lan.dnsmasq(&[RANGE]);
        lan.until_lease(&mut uplink);
    });
}

fn nonsense(question: &Message) -> Vec<Message> {
    let mut good = question.clone();
    good.reply = true;
    good.yiaddr = Ipv4Addr::new(10, 77, 0, 66);
    good.options = [
        (option::MESSAGE_TYPE, vec![Kind::Offer as u8]),
        (option::SERVER_ID, vec![10, 77, 0, 1]),
        (option::MASK, vec![255, 255, 255, 0]),
        (option::LEASE_TIME, vec![0, 0, 14, 16]),
    ]
    .into();
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message
    };
    vec![
        with(&|m| m.xid ^= 1),
        with(&|m| m.chaddr[0] ^= 1),
        with(&|m| drop(m.options.insert(option::MTU, vec![0, 68]))),
        with(&|m| drop(m.options.remove(&option::SERVER_ID))),
        with(&|m| drop(m.options.insert(option::MASK, vec![0, 255, 255, 0]))),
    ]
}

#[test]
fn router_advertisements_give_an_address_and_dns_without_dhcp() {
    on_a_lan(|lan| {
        lan.dnsmasq(&[
            "--enable-ra",
            "--dhcp-range=fd77::,ra-only,64,120",
            "--dhcp-option=option6:dns-server,[fd77::1]",
            "--ra-param=srv,4,120",
        ]);
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        lan.until(&mut uplink, "an IPv6 address and DNS", |uplink, _| {
            uplink.is_online() && !uplink.dns_servers().is_empty()
        });
        let expected: IpAddr = "fd77::1".parse().expect("an address");
        assert_eq!(uplink.dns_servers(), [(expected, None)]);
        let lease = uplink.lease(lan.now()).expect("online");
        assert!(
            lease.addresses[0].to_string().starts_with("fd77:"),
            "{lease:?}"
        );
    });
}

#[test]
fn an_ipv6_only_network_leads_to_a_server_beyond_its_router() {
    on_a_lan(|lan| {
        lan.renumber(&[("fd77::1", 64)]);
        let beyond = lan.on_server(|| {
            let mut rtnl = Rtnl::open().expect("rtnetlink");
            let lo = rtnl.link("lo").expect("links").expect("lo").index;
            let address: IpAddr = "fd78::1".parse().expect("an address");
            rtnl.set_up(lo, true).expect("up");
            rtnl.add_address(lo, address, 128).expect("address");
            std::net::TcpListener::bind((address, 0)).expect("listens")
        });
        lan.dnsmasq(&[
            "--enable-ra",
            "--dhcp-range=fd77::,ra-only,64,1200",
            "--dhcp-option=option6:dns-server,[fd77::1]",
            "--ra-param=srv,4,1200",
        ]);
        let mut uplink = lan.uplink(NetworkConfig::default(), None);
        lan.until(&mut uplink, "an IPv6 address", |uplink, _| {
            uplink.is_online()
        });
        let to = beyond.local_addr().expect("bound");
        let stream = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(20));
        let own = stream.expect("a connection").local_addr().expect("bound");
        let lease = uplink.lease(lan.now()).expect("online");
        assert!(lease.dhcp4.is_none(), "{lease:?}");
        let named = lease.addresses.iter().any(|cidr| cidr.address == own.ip());
        assert!(named, "{own} is handed over: {lease:?}");
        let v4 = |address: &IpAddr| address.is_ipv4() && !address.is_loopback();
        assert!(!kernel_addresses().iter().any(v4));
    });
}

#[test]
fn fixed_addresses_are_set_and_put_back_when_somebody_removes_them() {
    on_a_lan(|lan| {
        let network = NetworkConfig {
            addresses: vec!["10.77.0.7/24".parse().expect("cidr")],
            gateways: vec!["10.77.0.1".parse().expect("address")],
            ..NetworkConfig::default()
        };
        let mut uplink = lan.uplink(network, None);
        let set = IpAddr::from([10, 77, 0, 7]);
        let steady = |uplink: &mut Uplink| {
            let begun = Instant::now();
            while !kernel_addresses().contains(&set) && begun.elapsed() < Duration::from_secs(10) {
                uplink.handle(lan.now()).expect("works");
                uplink
                    .wait(lan.now(), Duration::from_millis(50))
                    .expect("wait");
            }
            assert!(kernel_addresses().contains(&set));
        };
        steady(&mut uplink);
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        let index = rtnl.link("eth0").expect("links").expect("eth0").index;
        rtnl.delete_address(index, set, 24).expect("delete");
        steady(&mut uplink);
    });
}
