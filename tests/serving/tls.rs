//! Connections under TLS, with rustls as the client and user code in Rust: handshakes, records, and bytes
//! that are no TLS.

mod connections;

use std::any::Any;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, version};
use socketify::app::{App, Job, Lane, Responder, Signal};
use socketify::config::Config;
use socketify::files::types::Types;
use socketify::files::{Directory, Options};
use socketify::router::{Kind, Router};
use socketify::server::{Exchange, Server};
use socketify::tls::Certificates;

use crate::support::{Flag, PATIENCE, connect, start, with_threads};

/// Longer than a record, than a write, and than the kernel's buffer.
const LARGE: usize = 20_000_000;

/// Bytes without short repetitions.
fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

/// User code: responses by path, in the turn.
#[derive(Default)]
struct Code {
    /// Requested names.
    names: Mutex<Vec<String>>,
    asks: bool,
    notes: Mutex<Vec<String>>,
    aborted: Flag,
}

impl Code {
    fn answer(exchange: &Arc<Exchange>) {
        match exchange.path() {
            b"/large" => drop(exchange.end(&pattern(LARGE), false)),
            b"/pieces" => {
                for piece in pattern(LARGE / 10).chunks(7_000) {
                    exchange.write(piece);
                }
                exchange.end(b"", false);
            }
            b"/close" => drop(exchange.end(b"the last", true)),
            b"/never" => {}
            path if path.starts_with(b"/bytes/") => {
                let length = std::str::from_utf8(&path[7..]).unwrap().parse().unwrap();
                exchange.end(&pattern(length), false);
            }
            b"/client" => drop(exchange.end(format!("{:?}", exchange.proxied_peer()).as_bytes(), false)),
            b"/secure" => {
                let secure = exchange.secure().unwrap();
                exchange.end(format!("{:?} {:?}", secure.version, secure.cipher).as_bytes(), false);
            }
            _ => drop(exchange.end(b"Hello, World!", false)),
        }
        exchange.uncork();
    }
}

impl App for Code {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        for job in jobs {
            match job {
                Job::Request(exchange) => Self::answer(&exchange),
                Job::ServerName(name) => self.names.lock().push(name.name().to_owned()),
                Job::Note(note) => self.notes.lock().push(note.text().into()),
                Job::Signal(..) | Job::Socket(_) => {}
            }
        }
    }

    fn post(&self, _job: Job) {}

    fn posted(&self) {}

    fn signal(&self, _exchange: Arc<Exchange>, signal: Signal) {
        if signal == Signal::Aborted {
            self.aborted.set();
        }
    }

    fn drained(&self) {}

    fn takes_notes(&self) -> bool {
        true
    }

    fn missing_server_name(&self) -> Option<Lane> {
        self.asks.then_some(Lane::Turn)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Served {
    server: Arc<Server>,
    code: Arc<Code>,
    port: u16,
    root: CertificateDer<'static>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let jobs = self.server.join(PATIENCE);
        if !std::thread::panicking() {
            assert!(jobs.is_some(), "the threads did not end");
        }
    }
}

fn serve(config: Config, code: Code, directory: Option<&std::path::Path>) -> Served {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
    let certificates = Arc::new(Certificates::from_config(Arc::new(tls.unwrap())));
    let mut site = Router::new();
    site.insert(
        Kind::any(),
        "/*",
        Responder::Handler { id: 0, lane: Lane::Turn, max_body_size: None, invites_late: false, lease: None },
    )
    .unwrap();
    if let Some(directory) = directory {
        let files = Directory::new(directory, 1, Options::default(), Types::default()).unwrap();
        site.insert(Kind::Files, "/files/*", Responder::Files(Arc::new(files))).unwrap();
    }
    let code = Arc::new(code);
    let config = Config { certificates: Some(certificates), ..config };
    let (server, port) = start(config, Arc::<Code>::clone(&code), site);
    Served { server, code, port, root: cert.der().clone() }
}

fn started() -> Served {
    serve(with_threads(1), Code::default(), None)
}

impl Served {
    fn socket(&self) -> TcpStream {
        connect(self.port)
    }

    fn session(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config.with_no_client_auth()), name).unwrap()
    }

    fn client(&self) -> Client {
        self.client_of(&[&version::TLS13])
    }

    fn client_of(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Client {
        Client(StreamOwned::new(self.session(versions), self.socket()))
    }
}

struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    fn ask(&mut self, path: &str) -> &mut Self {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        self
    }

    fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    fn body(&mut self) -> Vec<u8> {
        let head = self.head();
        let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        body
    }

    fn text(&mut self, path: &str) -> String {
        String::from_utf8(self.ask(path).body()).unwrap()
    }
}
