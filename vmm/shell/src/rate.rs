// SPDX-License-Identifier: Apache-2.0
//! How fast disks and cards may be: as a document says it, and `racklet-vmm rate` for a guest that runs.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::vmm::rate::RateOrder;
use racklet_api::vmm::{ControlAction, ControlReply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// So much per second, and after a rest so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// 1 to 2^40.
    per_second: u64,
    /// A second's worth where absent; of bytes at least 131,072.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
}

/// How fast a disk may be; what is absent is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskRate {
    /// Bytes read, written and zeroed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Limit>,
    /// Requests of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operations: Option<Limit>,
}

/// How fast a card may be in one direction; what is absent is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flow {
    /// Bytes of frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Limit>,
    /// Frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packets: Option<Limit>,
}

/// How fast a card may be, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardRate {
    /// What the guest sends.
    #[serde(default)]
    sent: Flow,
    /// What it receives; what waits too long at the tap is dropped there.
    #[serde(default)]
    received: Flow,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
        let (per_second, burst) = match text.split_once(',') {
            Some((per_second, burst)) => (per_second, Some(number(burst)?)),
            None => (text, None),
        };
        Ok(Limit {
            per_second: number(per_second)?,
            burst,
        })
    }
}

/// Let a disk or card of a running guest be only so fast from now on; without limits, as fast as it can
#[derive(Args)]
pub(crate) struct Rate {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// disk0, disk1, …, card0, …, in the order of the document
    device: String,
    /// Of a disk: bytes per second, and at once
    #[arg(long, value_name = "N[,BURST]")]
    bytes: Option<Limit>,
    /// Of a disk: requests per second, and at once
    #[arg(long, value_name = "N[,BURST]")]
    operations: Option<Limit>,
    /// Of a card: bytes that the guest sends per second, and at once
    #[arg(long, value_name = "N[,BURST]")]
    sent_bytes: Option<Limit>,
    /// Of a card: frames that the guest sends
    #[arg(long, value_name = "N[,BURST]")]
    sent_packets: Option<Limit>,
    /// Of a card: bytes that the guest receives
    #[arg(long, value_name = "N[,BURST]")]
    received_bytes: Option<Limit>,
    /// Of a card: frames that the guest receives
    #[arg(long, value_name = "N[,BURST]")]
    received_packets: Option<Limit>,
}

impl Rate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let action = ControlAction::Rate(self.order()?);
        let ControlReply::Status(status) = crate::ask::ask(&self.folder, action)? else {
            bail!("the monitor answers something else");
        };
        crate::print(&format!("{}\n", serde_json::to_string_pretty(&status)?))
    }

    /// What is asked of the monitor; its bounds are checked here, too.
    fn order(&self) -> anyhow::Result<RateOrder> {
        let number = |kind: &str| self.device.strip_prefix(kind)?.parse::<u8>().ok();
        let card = [
            self.sent_bytes,
            self.sent_packets,
            self.received_bytes,
            self.received_packets,
        ];
        let order = if let Some(number) = number("disk") {
            if card.iter().any(Option::is_some) {
                bail!("a disk has --bytes and --operations");
            }
            let rate = DiskRate {
                bytes: self.bytes,
                operations: self.operations,
            };
            json!({"disk": {"number": number, "rate": rate}})
        } else if let Some(number) = number("card") {
            if self.bytes.is_some() || self.operations.is_some() {
                bail!(
                    "a card has --sent-bytes, --sent-packets, --received-bytes and --received-packets"
                );
            }
            let flow = |bytes, packets| Flow { bytes, packets };
            let rate = CardRate {
                sent: flow(self.sent_bytes, self.sent_packets),
                received: flow(self.received_bytes, self.received_packets),
            };
            json!({"card": {"number": number, "rate": rate}})
        } else {
            bail!("{} is neither disk0, … nor card0, …", self.device);
        };
        serde_json::from_value(order).context("this cannot be a limit")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        rate: Rate,
    }

    fn order(line: &str) -> Result<RateOrder, String> {
        let words = ["rate", "/vm"].into_iter().chain(line.split_whitespace());
        let only = Only::try_parse_from(words).map_err(|e| e.to_string())?;
        let order = only.rate.order();
        order.map_err(|e| racklet_tell::error::chain(e.as_ref()))
    }

    #[test]
    fn an_order_is_what_the_line_says_and_nonsense_is_explained() {
        let is = |line: &str, expected: serde_json::Value| {
            assert_eq!(order(line), Ok(serde_json::from_value(expected).unwrap()));
        };
        let rate = json!({"bytes": {"per_second": 1_000_000, "burst": 2_000_000}});
        is(
            "disk1 --bytes 1000000,2000000",
            json!({"disk": {"number": 1, "rate": rate}}),
        );
        is("disk0", json!({"disk": {"number": 0}}));
        let rate = json!({"sent": {"packets": {"per_second": 7}}, "received": {"bytes": {"per_second": 9}}});
        is(
            "card0 --sent-packets 7 --received-bytes 9",
            json!({"card": {"number": 0, "rate": rate}}),
        );
        for (line, why) in [
            ("disk", "neither"),
            ("disk0 --sent-bytes 1", "a disk has"),
            ("card0 --operations 1", "a card has"),
            ("disk0 --bytes 0", "per_second: 0"),
            ("disk0 --bytes 9,1", "burst: 1 is not within 131072"),
            ("disk0 --bytes much", "much"),
        ] {
            let refused = order(line).unwrap_err();
            assert!(refused.contains(why), "{line}: {refused}");
        }
    }
}
