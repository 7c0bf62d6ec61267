// SPDX-License-Identifier: Apache-2.0
//! nftables over netlink: whole tables are replaced in one transaction, which happens entirely or not at all.
//!
//! Only what Racklet's own rules need: base and plain chains, matches on interface names, protocols, header bytes and
//! connection state, verdicts, counters and masquerading. Nothing is read back; a table is always written anew.

mod expression;

pub use expression::{Base, Expression, Meta, Verdict};

use crate::netlink::codec::{APPEND, CREATE, Request};
use crate::netlink::{NetlinkError, Socket};

const NETLINK_NETFILTER: u32 = 12;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// Frames that pass a bridge.
    Bridge = 7,
}

/// Where a base chain is called from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Everything that comes in.
    Prerouting = 0,
    /// For this host.
    Input = 1,
    /// Through this host.
    Forward = 2,
    /// Everything that goes out.
    Postrouting = 4,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// Where it is called from.
    pub hook: Hook,
    /// Order among the chains there; lower is earlier.
    pub priority: i32,
    /// True for address translation, false for filtering.
    pub nat: bool,
    /// Whether packets that reach its end go on.
    pub accept: bool,
}

/// A chain with its rules. A chain must come after those that it jumps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name within the table.
    pub name: String,
    /// Nothing for a chain that is only jumped to.
    pub attachment: Option<Attachment>,
    /// Each rule is its expressions, in order.
    pub rules: Vec<Vec<Expression>>,
}

/// A whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// Puts these tables in place of those of the same names, in one transaction. A table without chains is deleted.
pub fn replace(tables: &[Table]) -> Result<(), NetlinkError> {
    Socket::open(NETLINK_NETFILTER, 0)?.transact(requests(tables))
}

fn requests(tables: &[Table]) -> Vec<Request> {
    let mut batch = vec![Request::new(BATCH_BEGIN, 0, &header(0, SUBSYSTEM))];
    for table in tables {
        let request = |kind, flags| {
            Request::new(SUBSYSTEM << 8 | kind, flags, &header(table.family as u8, 0))
        };
        // Adding what may be there, deleting it, adding it: the only order that works whether it was there or not.
        for (kind, flags) in [(NEW_TABLE, CREATE), (DEL_TABLE, 0), (NEW_TABLE, CREATE)] {
            let mut request = request(kind, flags);
            request.text(TABLE_NAME, &table.name);
            batch.push(request);
        }
        if table.chains.is_empty() {
            batch.pop();
        }
        for chain in &table.chains {
            let mut new = request(NEW_CHAIN, CREATE);
            write_chain(&mut new, &table.name, chain);
            batch.push(new);
            for rule in &chain.rules {
                let mut new = request(NEW_RULE, CREATE | APPEND);
                new.text(RULE_TABLE, &table.name);
                new.text(RULE_CHAIN, &chain.name);
                new.nest(RULE_EXPRESSIONS, |list| {
                    for expression in rule {
                        expression.write(list);
                    }
                });
                batch.push(new);
            }
        }
    }
    batch.push(Request::new(BATCH_END, 0, &header(0, SUBSYSTEM)));
    batch
}

fn write_chain(request: &mut Request, table: &str, chain: &Chain) {
    request.text(CHAIN_TABLE, table);
    request.text(CHAIN_NAME, &chain.name);
    let Some(attachment) = chain.attachment else {
        return;
    };
    request.nest(CHAIN_HOOK, |hook| {
        hook.be32(HOOK_NUMBER, attachment.hook as u32);
        hook.be32(HOOK_PRIORITY, attachment.priority.cast_unsigned());
    });
    let policy = if attachment.accept { ACCEPT } else { DROP };
    request.be32(CHAIN_POLICY, policy);
    request.text(CHAIN_TYPE, if attachment.nat { "nat" } else { "filter" });
}

/// `struct nfgenmsg`: family, version 0, resource id.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_between_the_markers_of_one_batch() {
        let table = Table {
            family: Family::Inet,
            name: "t".into(),
            chains: vec![Chain {
                name: "c".into(),
                attachment: None,
                rules: vec![vec![Expression::Counter], vec![]],
            }],
        };
        let kinds: Vec<u16> = requests(&[table])
            .into_iter()
            .map(|request| {
                let bytes = request.finish(0).unwrap();
                u16::from_ne_bytes([bytes[4], bytes[5]])
            })
            .collect();
        let nft = |kind| SUBSYSTEM << 8 | kind;
        assert_eq!(
            kinds,
            [
                BATCH_BEGIN,
                nft(NEW_TABLE),
                nft(DEL_TABLE),
                nft(NEW_TABLE),
                nft(NEW_CHAIN),
                nft(NEW_RULE),
                nft(NEW_RULE),
                BATCH_END
            ]
        );
    }
}
