//! `floor-hyper`: the routes of the comparison, from hyper alone.
//!
//! The reference of the Python servers: the cost of the sockets and of HTTP/1.1, or HTTP/2 with `--http 2`,
//! and nothing else; with `--certificate` and `--key` also that of TLS. Each thread has a single-threaded
//! runtime and one listening socket; `--threads` sets their number.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

/// The largest queue of connections not yet accepted, for the runs that open hundreds at once.
const BACKLOG: u32 = 4096;
/// One piece of the download: 64 KiB of a repeating pattern the client knows.
static PIECE: [u8; 64 * 1024] = piece();
/// 1600 pieces are 100 MiB.
const PIECES: u64 = 1600;

#[expect(clippy::large_stack_arrays, reason = "evaluated while compiling")]
const fn piece() -> [u8; 64 * 1024] {
    let pattern = *b"0123456789abcdef";
    let mut piece = [0; 64 * 1024];
    let mut at = 0;
    while at < piece.len() {
        piece[at] = pattern[at % pattern.len()];
        at += 1;
    }
    piece
}

type Answer = Response<Either<Full<Bytes>, Download>>;

/// The download, handed to hyper a piece at a time as the socket takes them.
struct Download {
    pieces_left: u64,
}

impl Body for Download {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.pieces_left == 0 {
            return Poll::Ready(None);
        }
        self.pieces_left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces_left * PIECE.len() as u64)
    }
}

#[derive(Serialize)]
struct Greeting {
    message: &'static str,
}

#[derive(Serialize)]
struct Summary {
    id: u64,
    items: usize,
}

fn answer(content_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(body: impl Into<Bytes>) -> Answer {
    answer("text/plain", body.into())
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer("application/json", body.into()),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

fn download() -> Answer {
    let mut response = Response::new(Either::Right(Download { pieces_left: PIECES }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// Reads the JSON body, and shows with two of its values that it was parsed.
async fn post_json(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let Ok(value) = serde_json::from_slice::<Value>(&body) else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    match (value["id"].as_u64(), value["items"].as_array()) {
        (Some(id), Some(items)) => Ok(json(&Summary { id, items: items.len() })),
        _ => Ok(status(StatusCode::BAD_REQUEST)),
    }
}

/// Counts the body without keeping it.
async fn upload(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let mut body = request.into_body();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(text(total.to_string()))
}

async fn respond(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let path = request.uri().path();
    if request.method() == Method::GET {
        return Ok(match path {
            "/" | "/async" => text("Hello, World!"),
            "/sleep0" => {
                tokio::task::yield_now().await;
                text("Hello, World!")
            }
            "/json" => json(&Greeting { message: "Hello, World!" }),
            "/download" => download(),
            _ => match path.strip_prefix("/user/") {
                Some(id) if !id.is_empty() && !id.contains('/') => text(id.to_owned()),
                _ => status(StatusCode::NOT_FOUND),
            },
        });
    }
    match (request.method(), path) {
        (&Method::POST, "/json") => post_json(request).await,
        (&Method::POST, "/upload") => upload(request).await,
        _ => Ok(status(StatusCode::NOT_FOUND)),
    }
}

/// The protocol of every connection.
#[derive(Clone)]
struct Transport {
    http2: bool,
    tls: Option<TlsAcceptor>,
}

impl Transport {
    // A load generator drops its connections at the end of a run: an error here is normal.
    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Some(tls) = &self.tls else { return self.answer(stream).await };
        if let Ok(stream) = tls.accept(stream).await {
            self.answer(stream).await;
        }
    }

    async fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (stream, service) = (TokioIo::new(stream), service_fn(respond));
        let _ = if self.http2 {
            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
        } else {
            http1::Builder::new().serve_connection(stream, service).await
        };
    }
}

async fn serve(listener: TcpListener, transport: Transport) -> io::Result<Infallible> {
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The client has already gone: the listener is fine.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        tokio::spawn(transport.clone().speak(stream));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

struct Options {
    address: SocketAddr,
    threads: usize,
    http2: bool,
    certificate: PathBuf,
    key: PathBuf,
}

impl Options {
    fn transport(&self) -> Result<Transport, String> {
        let protocol = if self.http2 { "h2" } else { "http/1.1" };
        let tls = if self.certificate.as_os_str().is_empty() {
            None
        } else {
            Some(floor::tls::server(&self.certificate, &self.key, protocol)?.into())
        };
        Ok(Transport { http2: self.http2, tls })
    }
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        threads: 1,
        http2: false,
        certificate: PathBuf::new(),
        key: PathBuf::new(),
    };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let refused = || format!("{name} cannot be {value:?}");
        match name.as_str() {
            "--host" => options.address.set_ip(value.parse::<IpAddr>().map_err(|_| refused())?),
            "--port" => options.address.set_port(value.parse().map_err(|_| refused())?),
            "--threads" => options.threads = value.parse().ok().filter(|&n| n > 0).ok_or_else(refused)?,
            "--http" if matches!(value.as_str(), "1" | "2") => options.http2 = value == "2",
            "--http" => return Err(refused()),
            "--certificate" => options.certificate = value.into(),
            "--key" => options.key = value.into(),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

/// Serves on the calling thread, for as long as the process lives.
fn run(
    address: SocketAddr,
    transport: Transport,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<Infallible> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = listen(address)?;
        announce(listener.local_addr()?);
        serve(listener, transport).await
    })
}

fn main() -> io::Result<()> {
    let options = options(std::env::args().skip(1)).map_err(io::Error::other)?;
    let transport = options.transport().map_err(io::Error::other)?;
    run(options.address, transport.clone(), |bound| {
        for _ in 1..options.threads {
            let transport = transport.clone();
            thread::spawn(move || {
                let Err(error) = run(bound, transport, |_| ());
                eprintln!("a thread of floor-hyper ended: {error}");
                std::process::exit(1);
            });
        }
        println!("READY {}", bound.port());
        // It does not matter whether the line is read.
        let _ = io::stdout().flush();
    })
    .map(|never| match never {})
}
