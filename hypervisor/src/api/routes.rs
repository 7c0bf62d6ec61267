// SPDX-License-Identifier: Apache-2.0
//! From a request to its answer. Who asks is settled first; nothing here opens a connection.

use super::logs::{self, From, Log};
use super::request::{Request, Response};
use super::{metrics, monitors};
use crate::options::Options;
use crate::sensors;
use crate::shared::{Shared, unix_time};
use racklet_api::hypervisor::access::{self, Channel, Denied};
use racklet_api::hypervisor::{MAX_FOLLOW, SyncAnswer};
use racklet_rack::Name;
use racklet_trust::PublicKey;
use std::time::{Duration, Instant};

/// Answers one request of somebody who may ask.
pub(super) fn answer(shared: &Shared, options: &Options, request: &Request) -> Response {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let get = request.method == "GET";
    match (path, request.method.as_str()) {
        ("/v1/sync", "POST") => {
            let head = shared.view().head.clone();
            shared.nudge();
            Response::json(&SyncAnswer { v: 1, head })
        }
        ("/v1/sync", _) => Response::fault(405, "ask for this with POST"),
        _ if !get => Response::fault(405, "ask for this with GET"),
        ("/v1/state", _) => Response::json(&shared.state()),
        ("/v1/rejected", _) => match &shared.view().rejected {
            Some(rejected) => Response::json(rejected),
            None => Response::fault(404, "nothing is refused"),
        },
        ("/metrics", _) => {
            let state = shared.state();
            let view = shared.view();
            let counters = metrics::Counters {
                looks: view.looks.clone(),
                received: view.received,
                memory: metrics::own_memory(),
                sensors: sensors::of_tray(),
                monitors: Vec::new(),
            };
            drop(view);
            let names = state.workloads.iter().map(|w| w.name.as_str());
            let counters = metrics::Counters {
                monitors: monitors::ask(options, names),
                ..counters
            };
            Response {
                status: 200,
                kind: metrics::KIND,
                body: metrics::render(&state, &counters).into_bytes(),
            }
        }
        _ => match path.strip_prefix("/v1/workloads/") {
            Some(rest) => workload(shared, options, rest, query),
            None => Response::fault(404, "there is nothing here: see /v1/state"),
        },
    }
}

/// Whether a request that came over the network by `channel` may be answered.
pub(super) fn admit(
    shared: &Shared,
    identity: &PublicKey,
    channel: &Channel,
    request: &Request,
) -> Result<(), Response> {
    let root = shared.view().root.clone();
    let Some(root) = root else {
        return Err(Response::fault(
            503,
            "this tray has not accepted a rack repository yet: nobody may ask",
        ));
    };
    let (Some(pass), Some(signature)) = (&request.pass, &request.signature) else {
        return Err(Response::fault(401, Denied::Unsigned.to_string()));
    };
    let asked = access::Request {
        rack: &shared.rack,
        tray: &shared.tray,
        identity,
        channel,
        method: &request.method,
        target: &request.target,
        body: &request.body,
    };
    match access::authorise(&asked, pass, signature, unix_time(), &root) {
        Ok(_) => Ok(()),
        Err(denied @ Denied::Key(_)) => Err(Response::fault(403, denied.to_string())),
        Err(denied) => Err(Response::fault(401, denied.to_string())),
    }
}

fn workload(shared: &Shared, options: &Options, rest: &str, query: &str) -> Response {
    let (name, more) = rest.split_once('/').unwrap_or((rest, ""));
    // A name has no dots and slashes: it cannot lead out of the folder.
    let Ok(name) = name.parse::<Name>() else {
        return Response::fault(404, "that is no workload's name");
    };
    let state = shared
        .view()
        .workloads
        .iter()
        .find(|w| w.name == name.as_str())
        .cloned();
    let Some(state) = state else {
        return Response::fault(404, format!("there is no workload {name} on this tray"));
    };
    match more {
        "" => Response::json(&state),
        "logs" => match LogQuery::parse(query) {
            Ok(query) => read_log(options, &name, &query),
            Err(message) => Response::fault(400, message),
        },
        _ => Response::fault(404, "there is nothing here: a workload has `logs`"),
    }
}

/// What a page of a log is asked for by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogQuery {
    pub(super) log: Log,
    pub(super) from: From,
    /// How long to wait for a line, should there be none.
    pub(super) follow: Duration,
}

impl LogQuery {
    // untrusted: api_query
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        let mut parsed = Self {
            log: Log::Workload,
            from: From::Tail,
            follow: Duration::ZERO,
        };
        for (key, value) in query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
        {
            match key {
                "log" => parsed.log = Log::parse(value).ok_or("`log` is workload or console")?,
                "from" => {
                    parsed.from = From::parse(value)
                        .ok_or("`from` is the `next` of an earlier page, or `start`")?;
                }
                "follow" => {
                    let seconds: u64 = value
                        .parse()
                        .map_err(|_| "`follow` is a number of seconds")?;
                    parsed.follow = Duration::from_secs(seconds.min(MAX_FOLLOW));
                }
                _ => return Err("known here: log, from, follow"),
            }
        }
        Ok(parsed)
    }
}

fn read_log(options: &Options, name: &Name, query: &LogQuery) -> Response {
    let end = Instant::now() + query.follow;
    loop {
        match logs::page(
            &options.vm(name.as_str()),
            query.log,
            query.from,
            logs::this_boot(),
        ) {
            Ok(page) if page.lines.is_empty() && !page.lost && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(page) => return Response::json(&page),
            Err(error) => return Response::fault(500, format!("read the log: {error}")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use racklet_api::handoff::Head;
    use racklet_api::hypervisor::{Phase, Rejection, State, WorkloadState};

    fn shared() -> Shared {
        let shared = Shared::new("tray-1".into(), "0123456789abcdef0123456789abcdef".into());
        let mut view = shared.view();
        view.head = Some(Head {
            commit: "ab".into(),
            generation: 3,
        });
        view.rejected = Some(Rejection {
            commit: Some("cd".into()),
            since: 1,
            reason: "workloads/web.yaml:9:3: say \"128Mi\"".into(),
            problems: vec![],
        });
        view.workloads = vec![WorkloadState {
            name: "web".into(),
            phase: Phase::Running,
            current: true,
            message: None,
            age: Some(1),
            restarts: 2,
            exit_code: None,
            pid: Some(7),
            addresses: vec!["10.80.0.10".into()],
            rootfs: "ab".repeat(32),
        }];
        drop(view);
        shared
    }

    pub(in crate::api) fn state() -> State {
        shared().state()
    }

    fn request(method: &str, target: &str) -> Request {
        Request {
            method: method.into(),
            target: target.into(),
            pass: None,
            signature: None,
            body: vec![],
        }
    }

    fn ask(method: &str, target: &str) -> (u16, String) {
        let response = answer(&shared(), &Options::default(), &request(method, target));
        (
            response.status,
            String::from_utf8(response.body).expect("text"),
        )
    }

    #[test]
    fn every_path_has_its_answer() {
        for (method, target, status, contains) in [
            ("GET", "/v1/state", 200, "\"generation\":3"),
            ("GET", "/v1/workloads/web", 200, "\"restarts\":2"),
            ("GET", "/v1/workloads/web/logs", 200, "\"lines\":[]"),
            (
                "GET",
                "/v1/workloads/web/logs?log=kernel",
                400,
                "workload or console",
            ),
            ("GET", "/v1/workloads/web/logs?from=x", 400, "earlier page"),
            ("GET", "/v1/workloads/web/logs?x=1", 400, "known here"),
            ("GET", "/v1/workloads/web/shell", 404, "logs"),
            ("GET", "/v1/workloads/../../etc", 404, "no workload's name"),
            ("GET", "/v1/workloads/api", 404, "no workload api"),
            ("GET", "/v1/rejected", 200, "web.yaml:9:3"),
            ("GET", "/metrics", 200, "racklet_head_generation 3"),
            ("POST", "/v1/sync", 200, "\"generation\":3"),
            ("GET", "/v1/sync", 405, "POST"),
            ("POST", "/v1/state", 405, "GET"),
            ("GET", "/", 404, "nothing here"),
        ] {
            let (found, body) = ask(method, target);
            assert_eq!(found, status, "{method} {target}: {body}");
            assert!(body.contains(contains), "{method} {target}: {body}");
        }
    }

    #[test]
    fn before_a_rack_is_accepted_nobody_is_let_in_over_the_network() {
        // The encoding of the curve's base point.
        let mut base = [0x66; 32];
        base[0] = 0x58;
        let identity = access::ed25519(&base).expect("a key");
        for target in ["/v1/state", "/metrics", "/", "/v1/rejected"] {
            let refusal = admit(&shared(), &identity, &[0; 32], &request("GET", target));
            assert_eq!(refusal.expect_err("refused").status, 503, "{target}");
        }
    }
}
