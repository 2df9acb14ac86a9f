//! Many silent connections.

use std::future::poll_fn;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use floor::tls;
use serde_json::json;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, unconstrained};
use tokio_rustls::client::TlsStream;

use crate::options::Options;
use crate::{Outcome, connection, say};

/// Time enough for the runtime to notice the bytes that arrived while it was blocked.
const NOTICING: Duration = Duration::from_millis(200);

/// Opens them, sends one request on each, and counts the remaining ones when the standard input has ended.
pub async fn run(options: Options) -> Outcome<()> {
    let settings = tls::client(false).map_err(|error| error.to_string())?;
    let begin = Instant::now();
    let mut streams = Vec::with_capacity(options.count);
    let mut opening = JoinSet::new();
    for number in 0..options.count {
        if number >= options.at_once {
            streams.extend(opened(&mut opening).await?);
        }
        let (address, settings) = (options.address, settings.clone());
        opening.spawn(async move { connection::open(address, &settings).await });
    }
    while let Some(stream) = opened(&mut opening).await? {
        streams.push(stream);
    }
    let seconds = begin.elapsed().as_secs_f64();
    say("MEASURING");
    // Blocks the runtime as well, and so takes no CPU time from the server.
    let mut ignored = [0; 1024];
    while io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    tokio::time::sleep(NOTICING).await;
    let mut open = 0;
    for stream in &mut streams {
        open += usize::from(is_open(stream).await);
    }
    say(json!({ "connections": options.count, "open": open, "seconds_to_open": seconds }));
    Ok(())
}

/// Waits for one of the opening connections; `None` if none is left.
async fn opened(
    opening: &mut JoinSet<Outcome<TlsStream<TcpStream>>>,
) -> Outcome<Option<TlsStream<TcpStream>>> {
    opening.join_next().await.transpose().map_err(|error| error.to_string())?.transpose()
}

/// Whether the server has neither closed nor reset it, nor sent anything.
async fn is_open(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut piece = [0; 1024];
    let look = poll_fn(|context| {
        let read = Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut piece));
        Poll::Ready(read.is_pending())
    });
    // The runtime limits the number of ready polls of a task.
    unconstrained(look).await
}
