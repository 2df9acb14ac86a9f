//! `Forwarded` and the `X-Forwarded-` headers: no bytes of a client choose the address that a trusted proxy saw.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::forwarded::{Origin, origin};
use socketify::http::head::{HeadLimits, parse};
use socketify::http::trust::Trust;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    proxy: Proxy,
    client: Client,
    /// The client's header lines; for the proxy's own header, the value that it appends to.
    lines: &'a [u8],
}

/// The proxy's way to name its client.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    /// A line of its own after those of the client.
    ForwardedLine,
    XForwardedForLine,
    /// A member after those of the client's line.
    ForwardedMember,
    XForwardedForMember,
    /// An untrusted proxy that adds nothing.
    Stranger,
    /// A trusted one that adds nothing: all values may be true.
    Silent,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Client {
    V4(u32),
    V6(u128),
}

fn request(proxy: Proxy, client: IpAddr, lines: &[u8]) -> Vec<u8> {
    let node = match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let client = client.to_string();
    let join =
        |parts: &[&[u8]]| [&b"GET / HTTP/1.1\r\nHost: h\r\n"[..], &parts.concat(), b"\r\n\r\n"].concat();
    match proxy {
        Proxy::ForwardedLine => join(&[lines, b"\r\nForwarded: for=", node.as_bytes()]),
        Proxy::XForwardedForLine => join(&[lines, b"\r\nX-Forwarded-For: ", client.as_bytes()]),
        Proxy::ForwardedMember => join(&[b"Forwarded: ", lines, b", for=", node.as_bytes()]),
        Proxy::XForwardedForMember => join(&[b"X-Forwarded-For: ", lines, b", ", client.as_bytes()]),
        Proxy::Stranger | Proxy::Silent => join(&[b"A: ", lines]),
    }
}

fn check_words(origin: &Origin) {
    if let Some(scheme) = &origin.scheme {
        assert!(scheme.starts_with(|first: char| first.is_ascii_lowercase()), "{scheme:?}");
        assert!(
            scheme
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
        );
    }
    if let Some(host) = &origin.host {
        assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()), "{host:?}");
        assert!(!host.contains(['/', '?', '#', '@', '"', '<', '>', '\\']), "{host:?}");
    }
    if let Some(address) = origin.address {
        assert_eq!(address, address.to_canonical());
    }
}

fuzz_target!(|input: Input<'_>| {
    let client = match input.client {
        Client::V4(bits) => IpAddr::from(Ipv4Addr::from(bits)),
        Client::V6(bits) => IpAddr::from(Ipv6Addr::from(bits)),
    };
    let peer = IpAddr::from([10, 0, 0, 1]);
    let is_member = matches!(input.proxy, Proxy::ForwardedMember | Proxy::XForwardedForMember);
    if is_member && input.lines.contains(&b'\n') {
        return; // the proxy would add to another line than its own
    }
    let wire = request(input.proxy, client, input.lines);
    let limits = HeadLimits { max_header_bytes: 1 << 16, max_headers: 100 };
    let Ok(Some(head)) = parse(&wire, &limits) else { return };
    if head.len < wire.len() {
        return; // the client's bytes ended the head: what the proxy adds is no part of it
    }
    let block = head.header_block(&wire);
    let trust = Trust::parse(["10.0.0.0/8", "unix"]).expect("they are networks");
    let told = origin(block, Some(peer), &trust);
    check_words(&told);
    assert_eq!(
        origin(block, Some(IpAddr::from([10, 9, 9, 9])), &trust).address.is_some(),
        told.address.is_some()
    );
    match input.proxy {
        Proxy::Stranger => {
            let stranger = IpAddr::from([203, 0, 113, 1]);
            let alone = Origin { address: Some(stranger), ..Origin::default() };
            assert_eq!(origin(block, Some(stranger), &trust), alone);
        }
        Proxy::Silent => {}
        // An address in the trusted network is a hop like the others, and the one before it counts.
        _ if trust.includes(Some(client)) => {}
        _ => assert!(
            told.address.is_none() || told.address == Some(client.to_canonical()),
            "the client chose {:?}",
            told.address
        ),
    }
});
