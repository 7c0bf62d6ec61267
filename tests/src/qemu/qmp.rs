// SPDX-License-Identifier: Apache-2.0
//! QEMU's machine protocol (QMP), one question at a time.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// What QEMU answers to `execute`, e.g. `system_reset` or `screendump`, at this socket.
///
/// # Errors
/// When it does not answer or refuses.
pub fn ask(socket: &Path, execute: &str, arguments: Value) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).context("QMP socket")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut ask = |request: Value| -> Result<Value> {
        writeln!(stream, "{request}")?;
        loop {
            let mut line = String::new();
            if replies.read_line(&mut line)? == 0 {
                bail!("QEMU closed its machine protocol");
            }
            let reply: Value = serde_json::from_str(&line)?;
            if let Some(error) = reply.get("error") {
                bail!("QEMU refuses {execute}: {error}");
            }
            if let Some(value) = reply.get("return") {
                return Ok(value.clone());
            }
        }
    };
    ask(json!({"execute": "qmp_capabilities"}))?;
    ask(json!({"execute": execute, "arguments": arguments}))
}
