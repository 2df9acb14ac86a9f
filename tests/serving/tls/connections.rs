//! Handshakes, records and the end, and bytes that are no TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustls::{StreamOwned, version};
use socketify::config::{Config, ProxyProtocol};

use super::{Client, Code, LARGE, Served, pattern, serve, started};
use crate::support::{PATIENCE, timed, until, with_threads};

#[test]
fn both_versions_are_spoken_and_connections_kept() {
    let served = started();
    for (version, name) in [(&version::TLS12, "TLSv1_2"), (&version::TLS13, "TLSv1_3")] {
        let mut client = served.client_of(&[version]);
        for _ in 0..3 {
            assert_eq!(client.text("/"), "Hello, World!");
        }
        assert!(client.text("/secure").contains(name));
    }
}

#[test]
fn a_preface_comes_before_the_handshake() {
    let config = Config { proxy_protocol: ProxyProtocol::Required, ..with_threads(1) };
    let served = serve(config, Code::default(), None);
    let preface = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    // The hello comes in one segment with it, with its end, or by itself.
    for cut in [0, 10, preface.len() - 1, preface.len()] {
        let (mut session, mut socket) = (served.session(&[&version::TLS13]), served.socket());
        socket.write_all(&preface[..cut]).unwrap();
        let mut rest = preface[cut..].to_vec();
        session.write_tls(&mut rest).unwrap();
        socket.write_all(&rest).unwrap();
        let mut client = Client(StreamOwned::new(session, socket));
        for _ in 0..2 {
            assert_eq!(client.text("/client"), "Some(192.0.2.7)", "cut at {cut}");
        }
    }
    let mut without = served.client();
    let refused = write!(without.0, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(refused.and_then(|()| without.0.read_exact(&mut [0])).is_err());
}

#[test]
fn large_answers_come_whole_and_in_order() {
    let served = started();
    let mut client = served.client();
    assert!(client.ask("/large").body() == pattern(LARGE));
    client.ask("/pieces");
    assert!(client.head().contains("transfer-encoding: chunked"));
    let mut body = Vec::new();
    while !body.ends_with(b"\r\n0\r\n\r\n") {
        let mut bytes = [0; 4096];
        let count = client.0.read(&mut bytes).unwrap();
        body.extend_from_slice(&bytes[..count]);
    }
    let mut rest = &body[..];
    let mut plain = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        plain.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    assert!(plain == pattern(LARGE / 10));
    assert_eq!(client.text("/"), "Hello, World!");
}

#[test]
fn an_answer_is_whole_before_the_connection_closes() {
    let served = started();
    let mut client = served.client();
    write!(client.0, "GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(client.body() == pattern(LARGE));
    // An end without `close_notify` would be an error.
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    let mut client = served.client();
    assert_eq!(client.text("/close"), "the last");
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_large_file_comes_whole() {
    let directory = std::env::temp_dir().join(format!("tls-connections-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("large"), pattern(LARGE)).unwrap();
    std::fs::write(directory.join("small"), pattern(1000)).unwrap();
    let served = serve(with_threads(1), Code::default(), Some(&directory));
    let mut client = served.client();
    for _ in 0..2 {
        assert!(client.ask("/files/large").body() == pattern(LARGE));
        assert!(client.ask("/files/small").body() == pattern(1000));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// I-S-04: head and body are one record and one write.
#[test]
fn a_short_answer_is_one_record() {
    let served = started();
    let mut socket = served.socket();
    let mut session = served.session(&[&version::TLS13]);
    while session.is_handshaking() {
        session.complete_io(&mut socket).unwrap();
    }
    for _ in 0..3 {
        session.writer().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        session.write_tls(&mut socket).unwrap();
        let mut text = Vec::new();
        let mut records = 0;
        while !text.ends_with(b"Hello, World!") {
            let mut header = [0; 5];
            socket.read_exact(&mut header).unwrap();
            let mut record = header.to_vec();
            record.resize(5 + usize::from(u16::from_be_bytes([header[3], header[4]])), 0);
            socket.read_exact(&mut record[5..]).unwrap();
            session.read_tls(&mut &record[..]).unwrap();
            let state = session.process_new_packets().unwrap();
            // The tickets come before, as records of their own.
            if state.plaintext_bytes_to_read() > 0 {
                records += 1;
                let start = text.len();
                text.resize(start + state.plaintext_bytes_to_read(), 0);
                session.reader().read_exact(&mut text[start..]).unwrap();
            }
        }
        assert_eq!(records, 1);
        assert!(text.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn http_in_plain_text_is_told_so() {
    let served = started();
    let mut socket = served.socket();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    assert!(body.contains("HTTPS"));
    until("it has been noted", || !served.code.notes.lock().is_empty());
    let notes = served.code.notes.lock();
    assert_eq!(*notes, ["TLS handshake of 127.0.0.1 failed: it began with HTTP in plain text"]);
}

#[test]
fn what_is_no_handshake_is_closed() {
    let served = started();
    for garbage in
        [&b"\x80\x2e\x01\x03\x01"[..], b"\0\0\0", b"\x15\x03\x01\0\x02\x02\x28", b"\x16\x03\x01\xff\xff"]
    {
        let mut socket = served.socket();
        socket.write_all(garbage).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset ends it as well.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() <= 7, "{answer:?}");
    }
    assert_eq!(served.client().text("/"), "Hello, World!");
    until("the connections have ended", || served.server.connection_count() == 0);
}

#[test]
fn a_stalled_handshake_ends_and_keeps_nobody_waiting() {
    let timeout = Duration::from_millis(300);
    let served = serve(Config { handshake_timeout: timeout, ..with_threads(1) }, Code::default(), None);
    let mut stalled: Vec<_> = (0..50).map(|_| served.socket()).collect();
    for socket in &mut stalled[25..] {
        socket.write_all(b"\x16\x03\x01\x01\0\x01").unwrap();
    }
    assert_eq!(served.client().text("/"), "Hello, World!");
    for socket in &mut stalled {
        assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn an_unknown_name_is_asked_for_once() {
    let served = serve(with_threads(1), Code { asks: true, ..Code::default() }, None);
    assert_eq!(served.client().text("/"), "Hello, World!");
    assert_eq!(*served.code.names.lock(), ["localhost"]);
}

#[test]
fn a_client_that_goes_aborts_its_request() {
    let served = started();
    let mut client = served.client();
    client.ask("/never").0.flush().unwrap();
    // The request has arrived once its neighbour has its response.
    assert_eq!(served.client().text("/"), "Hello, World!");
    assert!(!served.code.aborted.is_set());
    client.0.sock.shutdown(Shutdown::Both).unwrap();
    served.code.aborted.wait();
    drop(client);
    until("the connections have ended", || served.server.connection_count() == 0);
}

#[test]
fn a_close_says_goodbye_to_idle_clients() {
    let served = started();
    let mut client = served.client();
    assert_eq!(client.text("/"), "Hello, World!");
    let took = timed(|| {
        served.server.close(PATIENCE);
        assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    });
    assert!(took < PATIENCE);
}

/// A client that sends all its requests and then only reads gets the whole response, no matter where the
/// kernel had no room: also if that was at the last records.
#[test]
fn a_client_that_shuts_its_side_gets_all_of_its_answer() {
    let served = started();
    let steps: Vec<usize> = (1..80).collect();
    // Few at a time: a client that has shut its side gets its response within some seconds, or not at all.
    for steps in steps.chunks(4) {
        let waiting: Vec<_> = steps.iter().map(|step| half_closed(&served, step * 60_000)).collect();
        // All responses have been written, as far as there was room.
        assert_eq!(served.client().text("/"), "Hello, World!");
        for (length, mut client) in waiting {
            assert!(client.body() == pattern(length), "{length}");
            // And it ends with `close_notify`.
            assert_eq!(client.0.read(&mut [0]).unwrap(), 0, "{length}");
        }
    }
}

/// A client with a small buffer that has requested so many bytes, and requests nothing more.
fn half_closed(served: &Served, length: usize) -> (usize, Client) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], served.port)).into()).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut session = served.session(&[&version::TLS13]);
    while session.is_handshaking() {
        session.complete_io(&mut socket).unwrap();
    }
    let close = if length.is_multiple_of(120_000) { "Connection: close\r\n" } else { "" };
    write!(session.writer(), "GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n").unwrap();
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut socket).unwrap();
    }
    (length, Client(StreamOwned::new(session, socket)))
}

/// A handshake does not delay the end.
#[test]
fn a_server_that_closes_ends_its_handshakes() {
    let served = started();
    let mut stalled = served.socket();
    stalled.write_all(b"\x16\x03\x01\x01\0\x01").unwrap();
    let mut busy = served.client();
    busy.ask("/never").0.flush().unwrap();
    assert_eq!(served.client().text("/"), "Hello, World!");
    served.server.close(PATIENCE);
    let took = timed(|| assert!(matches!(stalled.read(&mut [0]), Ok(0) | Err(_))));
    assert!(took < PATIENCE / 4, "{took:?}");
}
