// SPDX-License-Identifier: Apache-2.0
//! Reads a whole HTTP/1.1 answer.

/// Status and body of a whole HTTP/1.1 answer; `None` when it is none or incomplete.
pub(super) fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else {
        return None;
    };
    let body = &answer[length..];
    let header = |name: &str| {
        head.headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|h| std::str::from_utf8(h.value).ok())
    };
    let body =
        if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            chunked(body)?
        } else if let Some(length) = header("content-length") {
            body.get(..length.trim().parse().ok()?)?.to_vec()
        } else {
            body.to_vec()
        };
    Some((head.code?, body))
}

fn chunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(rest).ok()?
        else {
            return None;
        };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(rest.get(start..start.checked_add(size)?)?);
        rest = rest.get(start + size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_read_and_cut_ones_are_not() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        let pieces =
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
        assert_eq!(parse(plain), Some((200, b"body".to_vec())));
        assert_eq!(parse(pieces), Some((404, b"body".to_vec())));
        for cut in 0..plain.len() {
            assert_eq!(parse(&plain[..cut]), None, "{cut}");
        }
        for cut in 0..pieces.len() - 4 {
            assert_eq!(parse(&pieces[..cut]), None, "{cut}");
        }
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
            None
        );
    }
}
