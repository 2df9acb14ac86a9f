//! Listeners that lag.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socketify::app::Lane;
use socketify::config::SocketConfig;
use socketify::websocket::OpCode;

use super::client::{Client, masked, stamp, stamped, text};
use super::sites::echo;
use super::{Log, flag, site};
use crate::support::{until, with_threads};

/// Unread bytes from `client`, as the kernel counts them.
#[cfg(target_os = "linux")]
fn in_the_kernel(client: &Client) -> usize {
    let (client, server) =
        (client.stream.local_addr().unwrap().port(), client.stream.peer_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let mut sum = 0;
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |column: &str| u16::from_str_radix(column.rsplit(':').next().unwrap(), 16).unwrap();
        let (ours, theirs) = (port(columns[1]), port(columns[2]));
        let (sending, unread) = columns[4].split_once(':').unwrap();
        let bytes = |digits| usize::from_str_radix(digits, 16).unwrap();
        if (ours, theirs) == (client, server) {
            sum += bytes(sending);
        }
        if (ours, theirs) == (server, client) {
            sum += bytes(unread);
        }
    }
    sum
}

#[cfg(target_os = "linux")]
#[test]
fn a_listener_that_lags_holds_up_the_client() {
    /// Bytes of one read.
    const READ: usize = 128 * 1024;
    for (lane, length) in [(Lane::Turn, 500), (Lane::Loop, 16_000)] {
        let heard: Log<usize> = Log::default();
        let ((entered, enter), (open, wait), hear) = (flag(), flag(), Arc::clone(&heard));
        let served = site()
            .message(lane, move |_, message| {
                enter.set();
                wait.wait();
                hear.lock().push(stamp(message).1);
            })
            .serve(with_threads(2));
        let mut client = served.client();
        // More than the kernel has room for.
        let mut bytes = Vec::new();
        let mut count = 0;
        while bytes.len() < 16_000_000 {
            bytes.extend(masked(true, OpCode::Binary, &stamped(0, count, length)));
            count += 1;
        }
        let mut sent = masked(true, OpCode::Binary, &stamped(0, 0, length)).len();
        client.write(&bytes[..sent]);
        entered.wait();
        client.stream.set_write_timeout(Some(Duration::from_millis(150))).unwrap();
        while let Ok(taken) = client.stream.write(&bytes[sent..]) {
            sent += taken;
        }
        assert!(sent < bytes.len(), "the server reads whatever comes");
        let taken = sent - in_the_kernel(&client);
        let bound = SocketConfig::default().inbound_buffer + READ;
        assert!(taken <= bound, "{taken} bytes were read of messages of {length}");
        open.set();
        client.stream.set_write_timeout(None).unwrap();
        client.write(&bytes[sent..]);
        until("everything is heard", || heard.lock().len() == count);
        assert!(heard.lock().iter().copied().eq(0..count));
    }
}

#[test]
fn a_client_that_pings_and_does_not_read_is_left_alone() {
    let pings = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pings);
    let served = site()
        .ping(Lane::Turn, move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .message(Lane::Turn, echo)
        .serve(with_threads(1));
    let mut client = served.slow_client();
    let burst = masked(true, OpCode::Ping, &[b'p'; 125]).repeat(8_000);
    client.stream.set_write_timeout(Some(Duration::from_millis(150))).unwrap();
    let mut sent = 0;
    while let Ok(taken) = client.stream.write(&burst[sent % burst.len()..]) {
        sent += taken;
        assert!(sent < 200_000_000, "the pongs of a client that does not read pile up");
    }
    client.stream.set_write_timeout(None).unwrap();
    let mut sending = client.stream.try_clone().unwrap();
    let rest = sent.next_multiple_of(burst.len()) - sent;
    let sent = (sent + rest) / burst.len() * 8_000;
    let writer = thread::spawn(move || {
        sending.write_all(&burst[burst.len() - rest..]).unwrap();
        sending.write_all(&text("last")).unwrap();
    });
    for _ in 0..sent {
        let frame = client.frame();
        assert_eq!((frame.opcode, frame.payload.len()), (OpCode::Pong, 125));
    }
    assert_eq!(client.string(), "last");
    writer.join().unwrap();
    until("all pings are heard", || pings.load(Ordering::SeqCst) == sent);
}
