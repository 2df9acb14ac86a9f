//! Many silent connections.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use crate::options::Options;
use crate::report::say;
use crate::socket::connect_and_upgrade;
use crate::traffic::{Receiving, Sending, Traffic};
use crate::{Outcome, wait_for_end_of_input};

/// Opens them, has one message echoed on each, and counts the remaining ones when the standard input has
/// ended.
pub fn run(options: &Options) -> Outcome<()> {
    let mut traffic = Traffic::new(options);
    let begin = Instant::now();
    let mut streams = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        let mut stream = connect_and_upgrade(options, number)?;
        echo_once(&mut stream, &mut traffic, number)
            .map_err(|error| format!("connection {number}: {error}"))?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        streams.push(stream);
    }
    let seconds = begin.elapsed().as_secs_f64();
    say("MEASURING");
    wait_for_end_of_input();
    let open = streams.iter_mut().filter_map(|stream| is_open(stream).then_some(())).count();
    say(json!({ "connections": options.connections, "open": open, "seconds_to_open": seconds, "errors": 0 }));
    Ok(())
}

fn echo_once(stream: &mut TcpStream, traffic: &mut Traffic, number: usize) -> Outcome<()> {
    let (mut sending, mut receiving) = (Sending::starting_at(number), Receiving::starting_at(number));
    sending.queued = 1;
    stream.write_all(traffic.to_send(&sending)).map_err(|error| error.to_string())?;
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("closed by the server".to_owned());
        }
        if traffic.receive(&mut receiving, &piece[..count])? > 0 {
            return Ok(());
        }
    }
}

/// Whether the server has neither closed nor reset it. It may have sent pings.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut ignored = [0; 1024];
    loop {
        match stream.read(&mut ignored) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
