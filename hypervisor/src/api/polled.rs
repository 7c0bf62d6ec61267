// SPDX-License-Identifier: Apache-2.0
//! What hyper polls, over sockets that wait: a thread has one connection, and each of its reads and writes ends at the connection's
//! deadline, so that nothing has to be woken.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::rt::ReadBufCursor;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A stream for one request.
pub(super) struct Polled<'s, S> {
    pub(super) stream: &'s RefCell<S>,
    /// The request is here, or given up. hyper reads on, to notice a client that is gone: that would wait for the client, who waits
    /// for the answer.
    pub(super) whole: &'s Cell<bool>,
}

impl<S: Read> hyper::rt::Read for Polled<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.whole.get() {
            return Poll::Pending;
        }
        let mut bytes = [0; 1024];
        let most = to.remaining().min(bytes.len());
        let read = self.stream.borrow_mut().read(&mut bytes[..most])?;
        to.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl<S: Write> hyper::rt::Write for Polled<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.stream.borrow_mut().write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.borrow_mut().flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Who has the stream ends it.
        Poll::Ready(Ok(()))
    }
}

/// A body in one piece.
pub(super) struct Whole(pub(super) Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
