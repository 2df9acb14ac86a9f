//! Many connections that say nothing.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use floor::tls;
use serde_json::json;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::options::Options;
use crate::{Outcome, connection, say};

/// Time enough for the runtime to notice what has arrived while it stood still.
const NOTICING: Duration = Duration::from_millis(50);

/// Opens them, has one request answered on each, and says how many are left when the standard input has ended.
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
    // Blocks the runtime as well, and so takes no processor time from the server.
    let mut ignored = [0; 1024];
    while io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    tokio::time::sleep(NOTICING).await;
    let open = streams.iter_mut().filter_map(|stream| is_open(stream).then_some(())).count();
    say(json!({ "connections": options.count, "open": open, "seconds_to_open": seconds }));
    Ok(())
}

/// Waits for one of those that are being opened; none when there is none left.
async fn opened(
    opening: &mut JoinSet<Outcome<TlsStream<TcpStream>>>,
) -> Outcome<Option<TlsStream<TcpStream>>> {
    opening.join_next().await.transpose().map_err(|error| error.to_string())?.transpose()
}

/// Whether the server has neither closed nor reset it, nor said anything.
fn is_open(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut piece = [0; 1024];
    let read =
        Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut piece));
    matches!(read, Poll::Pending)
}
