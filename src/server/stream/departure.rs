//! Waiting for the client to go while nothing is read from it.
//!
//! A read would find the end only behind the bytes that wait in the kernel. The kernel reports the end and a reset apart from
//! them, and this waits for its report.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{Interest, Ready};
use tokio::net::{tcp, unix};

use crate::server::stream::Reading;

/// How a client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It sends nothing beyond what the kernel has.
    End,
    /// The connection is lost.
    Reset,
}

/// The reports that a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The end and a reset. Only Linux reports the end to those who do not read.
    Both,
    /// A reset.
    Reset,
}

impl Watch {
    fn interest(self) -> Interest {
        match self {
            // Urgent data is never asked for, so that tokio reports only the end under this name.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Both => Interest::ERROR | Interest::PRIORITY,
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Self::Both => Interest::ERROR,
            Self::Reset => Interest::ERROR,
        }
    }
}

/// The reading half of a socket that is watched and not read.
pub(crate) struct Watched {
    /// Also in `report`, which goes first.
    half: Arc<Half>,
    watch: Watch,
    report: Pin<Box<dyn Future<Output = Departure> + Send>>,
}

enum Half {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl Half {
    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(half) => half.ready(interest).await,
            Self::Unix(half) => half.ready(interest).await,
        }
    }

    async fn departure(&self, watch: Watch) -> Departure {
        loop {
            match self.ready(watch.interest()).await {
                Ok(ready) if ready.is_error() => return Departure::Reset,
                Ok(ready) if ready.is_read_closed() => return Departure::End,
                // tokio may report nothing.
                Ok(_) => {}
                Err(_) => return Departure::Reset,
            }
        }
    }
}

impl Watched {
    fn new(half: Half, watch: Watch) -> Self {
        let half = Arc::new(half);
        let watched = Arc::clone(&half);
        let report = Box::pin(async move { watched.departure(watch).await });
        Self { half, watch, report }
    }

    fn give_back(self) -> Reading {
        drop(self.report);
        match Arc::into_inner(self.half).expect("invariant: the report had the only other reference") {
            Half::Tcp(half) => Reading::Tcp(half),
            Half::Unix(half) => Reading::Unix(half),
        }
    }
}

impl Reading {
    /// Waits for the client to go. Nothing is read; the next read ends the watch.
    pub(crate) fn poll_departure(&mut self, context: &mut Context<'_>, watch: Watch) -> Poll<Departure> {
        if let Self::Tls(half) = self {
            return half.poll_departure(context, watch);
        }
        if matches!(self, Self::Watched(watched) if watched.watch != watch) {
            self.end_watch();
        }
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Tcp(half) => Self::Watched(Box::new(Watched::new(Half::Tcp(half), watch))),
            Self::Unix(half) => Self::Watched(Box::new(Watched::new(Half::Unix(half), watch))),
            other => other,
        };
        let Self::Watched(watched) = self else { return Poll::Pending };
        let departure = ready!(watched.report.as_mut().poll(context));
        self.end_watch();
        Poll::Ready(departure)
    }

    /// Makes the half ready to be read.
    pub(super) fn end_watch(&mut self) {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Watched(watched) => watched.give_back(),
            other => other,
        };
    }
}
