//! Requests, pipelines and bodies, and the threads that answer them.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socketify::app::{Lane, Signal};
use socketify::config::{AddedHeader, Config};

use super::{ROUNDS_OF_A_RACE, Site, Text, echo, ok, request, site};
use crate::support::{Flag, with_threads};

#[test]
fn requests_are_answered_on_every_lane() {
    for threads in 1..4 {
        let served = site().serve(with_threads(threads));
        let mut client = served.client();
        for _ in 0..50 {
            assert_eq!(client.get("/turn/1"), ok("/turn/1"));
            assert_eq!(client.get("/loop/1"), ok("/loop/1"));
            assert_eq!(client.get("/constant"), ok("constant"));
            assert_eq!(client.get("/nothing"), (404, "Not Found".into()));
        }
    }
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let served = site().serve(with_threads(2));
    let paths: Vec<String> = (0..2000)
        .map(|number| match number % 4 {
            0 => format!("/turn/{number}"),
            1 => format!("/loop/{number}"),
            2 => "/constant".to_owned(),
            _ => format!("/nothing/{number}"),
        })
        .collect();
    let mut client = served.client();
    let mut sending = client.stream.try_clone().unwrap();
    let requests: String = paths.iter().map(|path| request(path)).collect();
    let writer = thread::spawn(move || sending.write_all(requests.as_bytes()).unwrap());
    for path in &paths {
        let expected = match path.as_str() {
            "/constant" => ok("constant"),
            _ if path.starts_with("/nothing") => (404, "Not Found".into()),
            _ => ok(path),
        };
        assert_eq!(client.answer(), expected);
    }
    writer.join().unwrap();
}

/// The server sees the end of the input while another thread completes the first response: the second request
/// still counts. As many connections as it takes for the two to meet.
#[test]
fn a_client_that_shuts_its_side_gets_all_it_asked_for() {
    let served = site().serve(with_threads(2));
    for _ in 0..ROUNDS_OF_A_RACE {
        let mut client = served.client();
        client.ask("/loop/1").ask("/loop/2").stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer(), ok("/loop/1"));
        assert_eq!(client.answer(), ok("/loop/2"));
        assert!(client.is_closed());
    }
}

/// For any request and any refusal or response: its body is not the next request. The next request gets its
/// response, or nothing does.
#[test]
fn a_body_is_never_the_next_request() {
    const INNER: &str = "GET /loop/smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    let directory = std::env::temp_dir().join(format!("socketify-framing-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("file"), "file").unwrap();
    let served = site().files("/files", &directory).websocket("/socket").serve(with_threads(2));
    let framings = [
        format!("Content-Length: {}\r\n\r\n{INNER}", INNER.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len()),
        "\r\n".to_owned(),
    ];
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let kinds = [
        String::new(),
        "Expect: 100-continue\r\n".to_owned(),
        format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"),
        format!("{upgrade}{key}Sec-WebSocket-Version: 12\r\n"),
        format!("{upgrade}Sec-WebSocket-Version: 13\r\n"),
    ];
    for method in ["GET", "POST", "OPTIONS"] {
        for path in ["/turn/x", "/loop/x", "/constant", "/files/file", "/files/none", "/socket", "/nowhere"] {
            for (kind, framing) in kinds.iter().flat_map(|kind| framings.iter().map(move |how| (kind, how))) {
                let mut client = served.client();
                let first = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{kind}{framing}");
                client.send(first.as_bytes()).ask("/turn/next").stream.shutdown(Shutdown::Write).unwrap();
                while client.receive() > 0 {}
                let text = String::from_utf8_lossy(&client.pending).into_owned();
                let answers = text.matches("HTTP/1.1 ").count() - text.matches("HTTP/1.1 100").count();
                let ended = text.contains("Connection: close") || text.contains("HTTP/1.1 101");
                assert_eq!(answers, if ended { 1 } else { 2 }, "{first}{text}");
                assert_eq!(text.contains("/turn/next"), !ended, "{first}{text}");
                assert!(!text.contains("smuggled"), "{first}{text}");
            }
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A client that sends no more gets the responses to all its requests, from routes of every kind.
#[test]
fn a_client_that_sends_no_more_gets_every_answer() {
    let served = site().route("/slow/*", Lane::Loop, |exchange| {
        thread::sleep(Duration::from_millis(1));
        echo(exchange);
    });
    let served = served.serve(with_threads(2));
    let requests = [
        ("/slow/x", ok("/slow/x")),
        ("/turn/x", ok("/turn/x")),
        ("/constant", ok("constant")),
        ("/nowhere", (404, "Not Found".to_owned())),
    ];
    for choice in 0..requests.len().pow(4) {
        let picked: Vec<_> =
            (0..4).map(|place| &requests[choice / requests.len().pow(place) % requests.len()]).collect();
        let mut client = served.client();
        let wire: String = picked.iter().map(|(path, _)| request(path)).collect();
        client.send(wire.as_bytes()).stream.shutdown(Shutdown::Write).unwrap();
        for (_, answer) in &picked {
            assert_eq!(&client.answer(), answer);
        }
        assert!(client.is_closed());
    }
}

/// A thread that still writes one response also writes the next one, larger than the buffer's limit: the
/// request after them goes on when that has been sent. As many pipelines as it takes for the threads to meet.
#[test]
fn a_pipeline_goes_on_when_another_thread_has_written() {
    let large = "L".repeat(200_000);
    let answer = large.clone();
    let small = Site::default().route("/small", Lane::Loop, |exchange| {
        let exchange = Arc::clone(exchange);
        thread::spawn(move || exchange.end(b"small", false));
    });
    let served = small.route("/large", Lane::Turn, move |exchange| {
        exchange.end(answer.as_bytes(), false);
    });
    let served = served.route("/last", Lane::Turn, echo).serve(with_threads(2));
    let mut client = served.client();
    for _ in 0..ROUNDS_OF_A_RACE / 20 {
        client.ask("/small").ask("/large").ask("/last");
        assert_eq!(client.answer(), ok("small"));
        assert_eq!(client.answer(), ok(&large));
        assert_eq!(client.answer(), ok("/last"));
    }
}

/// What a handler has written is sent when the next handler runs elsewhere, and does not wait for its end.
#[test]
fn a_request_is_passed_on_with_output() {
    let go_on = Arc::new(Flag::default());
    let waits = Arc::clone(&go_on);
    let first = Site::default().route("/both", Lane::Loop, |exchange| {
        exchange.cork();
        exchange.write(b"first");
        exchange.set_yield(true);
        exchange.next_in(Lane::Loop);
    });
    let both = first.route("/*", Lane::Turn, move |exchange| {
        waits.wait();
        exchange.end(b"second", false);
    });
    let served = both.serve(with_threads(2));
    let mut client = served.client();
    client.ask("/both").until(b"first");
    go_on.set();
    client.until(b"second");
}

/// Files need no user code: here is only their route, and then one for missing files.
#[test]
fn files_are_served_without_user_code() {
    let directory = std::env::temp_dir().join(format!("socketify-files-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("below")).unwrap();
    let large = "0123456789abcdef".repeat(200_000);
    for (name, content) in [("small.txt", "small"), ("below/large.txt", &large), ("empty.txt", "")] {
        std::fs::write(directory.join(name), content).unwrap();
    }
    let served = Site::default().files("/files", &directory).route("/files/*", Lane::Loop, echo);
    let served = served.serve(with_threads(2));
    let mut client = served.client();
    for _ in 0..20 {
        assert_eq!(client.get("/files/small.txt"), ok("small"));
        assert_eq!(client.get("/files/below/large.txt"), ok(&large));
        assert_eq!(client.get("/files/empty.txt"), ok(""));
        assert_eq!(client.get("/files/nothing.txt"), ok("/files/nothing.txt"));
        assert_eq!(client.get("/files/../small.txt"), ok("/files/../small.txt"));
        assert_eq!(client.get("/small.txt").0, 404);
    }
    let paths =
        ["/files/below/large.txt", "/files/small.txt", "/files/nothing.txt", "/files/below/large.txt"];
    for path in paths {
        client.ask(path);
    }
    for body in [large.as_str(), "small", "/files/nothing.txt", large.as_str()] {
        assert_eq!(client.answer(), ok(body));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let served = site().serve(with_threads(1));
    let mut client = served.client();
    for byte in request("/turn/slow").bytes() {
        client.send(&[byte]);
    }
    assert_eq!(client.answer(), ok("/turn/slow"));
}

#[test]
fn an_answer_may_come_from_any_thread() {
    let served = Site::default()
        .route("/*", Lane::Turn, |exchange| {
            let exchange = Arc::clone(exchange);
            thread::spawn(move || {
                exchange.write(b"one ");
                exchange.write(b"two ");
                exchange.end(exchange.path(), false);
                assert!(exchange.has_responded());
                assert!(!exchange.end(b"again", false));
            });
        })
        .serve(with_threads(2));
    let mut client = served.client();
    for number in 0..200 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path), ok(&format!("one two {path}")));
    }
}

#[test]
fn a_body_is_read_through_signals() {
    let served = Site::default()
        .route("/*", Lane::Loop, |exchange| {
            exchange.read_whole();
        })
        .on_signal(|exchange, signal| {
            if signal == Signal::Readable {
                let (body, last) = exchange.take_body().unwrap();
                assert!(last);
                exchange.end(body.len().to_string().as_bytes(), false);
            }
        })
        .serve(with_threads(2));
    let mut client = served.client();
    for size in [0_usize, 1, 1000, 1_000_000] {
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n").as_bytes());
        client.send(&vec![b'x'; size]);
        assert_eq!(client.answer(), ok(&size.to_string()));
    }
}

#[test]
fn headers_of_the_server() {
    let name: Box<[u8]> = Box::from(&b"X-Frame-Options"[..]);
    let lines: Box<[u8]> = Box::from(&b"X-Frame-Options: DENY\r\n"[..]);
    let headers = vec![AddedHeader { name, lines }];
    let served = site()
        .route("/own", Lane::Turn, |exchange| {
            let _ = exchange.add_header(b"x-frame-options", b"SAMEORIGIN");
            exchange.end(b"own", false);
        })
        .serve(Config { headers, date_header: false, ..with_threads(1) });
    let mut client = served.client();
    // Responses of handlers, constant ones and those of the core; a header of the application goes before ours.
    for (path, expected) in
        [("/turn/1", "DENY"), ("/constant", "DENY"), ("/nothing", "DENY"), ("/own", "SAMEORIGIN")]
    {
        client.ask(path);
        let head = client.until(b"\r\n\r\n").to_str().to_ascii_lowercase();
        let wanted = format!("x-frame-options: {}\r\n", expected.to_ascii_lowercase());
        assert!(head.contains(&wanted), "{head}");
        assert_eq!(head.matches("x-frame-options").count(), 1, "{head}");
        assert!(!head.contains("\r\ndate:"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
        client.exactly(length.unwrap().parse().unwrap());
    }
    client.send(b"BROKEN\r\n\r\n");
    assert!(!client.until(b"\r\n\r\n").to_str().to_ascii_lowercase().contains("\r\ndate:"));
}
