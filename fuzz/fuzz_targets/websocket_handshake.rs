//! Handshakes: a valid request is a handshake, and the negotiated extension corresponds to one of the
//! client's offers.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::head::{HeadLimits, HeaderLines, joined, parse};
use socketify::websocket::deflate::{Compression, negotiate};
use socketify::websocket::handshake::{
    Handshake, accept, breaks_compression, examine, first_protocol, is_valid_key,
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// The server's options: its contexts, each shared or with a window.
    compressor: u8,
    decompressor: u8,
    /// A request head, and at the same time a value for each header that is read here.
    bytes: &'a [u8],
}

/// An extension and its parameters.
#[derive(Debug, Default)]
struct Extension {
    name: Vec<u8>,
    parameters: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Extension {
    /// The value of a present parameter; empty if it has none.
    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let mut found = self.parameters.iter().filter(|(other, _)| other == name);
        let first = found.next().map(|(_, value)| value.as_deref().unwrap_or_default());
        assert!(found.next().is_none(), "{name:?} twice in {self:?}");
        first
    }

    fn bits(&self, name: &[u8]) -> Option<u8> {
        let value = str::from_utf8(self.get(name)?).expect("a number");
        (!value.is_empty()).then(|| value.parse().expect("a number"))
    }

    fn is_repetitive(&self) -> bool {
        let mut names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        names.sort();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Reads a list of extensions a byte at a time (RFC 6455 section 9.1).
fn extensions(text: &[u8]) -> Vec<Extension> {
    let mut all = Vec::new();
    let mut extension = Extension::default();
    // The place of the next byte: 0, the name of the extension; 1, of a parameter; 2, its value.
    let mut place = 0;
    let mut part = Vec::new();
    let mut quote = Quote::Outside;
    for &byte in text.iter().chain(b",") {
        match (quote, byte) {
            (Quote::Inside, b'\\') => quote = Quote::Escaped,
            (Quote::Inside, b'"') => {
                quote = Quote::Outside;
                part.push(byte);
            }
            (Quote::Inside, _) => part.push(byte),
            (Quote::Escaped, _) => {
                quote = Quote::Inside;
                part.push(byte);
            }
            (Quote::Outside, b',' | b';' | b'=') if byte != b'=' || place == 1 => {
                let whole = trim(&std::mem::take(&mut part));
                match place {
                    0 => extension.name = whole,
                    1 => extension.parameters.push((whole, None)),
                    _ => {
                        let whole = match &*whole {
                            [b'"', inner @ .., b'"'] => inner.to_vec(),
                            _ => whole,
                        };
                        extension.parameters.last_mut().expect("its name was read").1 = Some(whole);
                    }
                }
                place = if byte == b'=' { 2 } else { 1 };
                if byte == b',' {
                    all.push(std::mem::take(&mut extension));
                    place = 0;
                }
            }
            (Quote::Outside, _) => {
                if byte == b'"' {
                    quote = Quote::Inside;
                }
                part.push(byte);
            }
        }
    }
    all
}

#[derive(Clone, Copy)]
enum Quote {
    Outside,
    Inside,
    Escaped,
}

fn trim(text: &[u8]) -> Vec<u8> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().take_while(|byte| is_blank(byte)).count();
    let end = text[start..].iter().rev().take_while(|byte| is_blank(byte)).count();
    text[start..text.len() - end].to_vec()
}

const PARAMETERS: [&[u8]; 4] = [
    b"server_no_context_takeover",
    b"client_no_context_takeover",
    b"server_max_window_bits",
    b"client_max_window_bits",
];

/// Whether this response is allowed for this offer (RFC 7692 section 7.1).
fn answers(answer: &Extension, offer: &Extension) -> bool {
    // The first two have no value, the third has one, and the last may have one.
    let is_known = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| {
        let place = PARAMETERS.iter().position(|known| known == name);
        let is_empty = value.as_ref().is_some_and(Vec::is_empty);
        !is_empty && place.is_some_and(|place| place == 3 || value.is_some() == (place == 2))
    };
    if offer.name != b"permessage-deflate" || offer.is_repetitive() || !offer.parameters.iter().all(is_known)
    {
        return false;
    }
    let has = |name| answer.get(name).is_some();
    let at_most = |name| match (answer.bits(name), offer.get(name)) {
        (Some(bits), Some(b"")) => bits <= 15,
        (Some(bits), Some(value)) => {
            matches!(value, [b'8' | b'9'] | [b'1', b'0'..=b'5'])
                && bits <= str::from_utf8(value).expect("digits").parse::<u8>().expect("a number")
        }
        (_, None) => true,
        (None, Some(_)) => false,
    };
    (has(PARAMETERS[0]) || offer.get(PARAMETERS[0]).is_none())
        && at_most(PARAMETERS[2])
        && (!has(PARAMETERS[3]) || offer.get(PARAMETERS[3]).is_some() && at_most(PARAMETERS[3]))
}

fn check_extensions(input: &Input<'_>, offers: &[u8]) {
    let (compressor, decompressor) = (input.compressor % 8, input.decompressor % 8);
    let option = |window: u8| u32::from(window) + 8;
    let low = if compressor == 0 { 1 } else { option(compressor) << 4 | 8 };
    let high = if decompressor == 0 { 1 } else { option(decompressor) };
    let wanted = Compression::from_options(high << 8 | low).expect("it is an option").expect("it compresses");
    let Some(agreed) = negotiate(&wanted, offers) else { return };
    let mut text = Vec::new();
    agreed.write_to(&mut text);
    let read = extensions(&text);
    let [answer] = &*read else { panic!("not one extension: {read:?}") };
    assert_eq!(answer.name, b"permessage-deflate");
    for (name, value) in &answer.parameters {
        let place = PARAMETERS.iter().position(|known| known == name).expect("a known parameter");
        assert_eq!(value.is_some(), place >= 2, "{answer:?}");
    }
    let server_bits = answer.bits(PARAMETERS[2]);
    let client_bits = answer.bits(PARAMETERS[3]);
    assert!(server_bits.is_none_or(|bits| (9..=15).contains(&bits)));
    assert!(client_bits.is_none_or(|bits| (8..=15).contains(&bits)));
    // The context is no larger than the user chose.
    let server_forgets = answer.get(PARAMETERS[0]).is_some();
    let client_forgets = answer.get(PARAMETERS[1]).is_some();
    assert!(server_forgets || compressor > 0 && u32::from(server_bits.unwrap_or(15)) <= option(compressor));
    assert!(
        client_forgets || decompressor > 0 && u32::from(client_bits.unwrap_or(15)) <= option(decompressor)
    );
    assert_eq!(agreed.shared_key(), server_forgets.then_some(server_bits.unwrap_or(15)));
    let offered = extensions(offers);
    assert!(offered.iter().any(|offer| answers(answer, offer)), "{answer:?} to {offered:?}");
    // As an offer, the response gives the same negotiation.
    let mut again = Vec::new();
    negotiate(&wanted, &text).expect("it is an offer that was taken").write_to(&mut again);
    assert_eq!(again, text);
}

fn check_protocols(offers: &[u8]) {
    if let Some(protocol) = first_protocol(offers) {
        assert!(!protocol.is_empty());
        assert!(
            protocol.iter().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(byte))
        );
        assert!(offers.split(|&byte| byte == b',').any(|offer| trim(offer) == protocol));
    }
}

fuzz_target!(|input: Input<'_>| {
    let bytes = input.bytes;
    check_extensions(&input, bytes);
    check_protocols(bytes);
    let _ = (breaks_compression(bytes), is_valid_key(bytes));
    let Ok(Some(head)) = parse(bytes, &HeadLimits::default()) else { return };
    let block = head.header_block(bytes);
    let values = |name: &[u8]| -> Vec<&[u8]> {
        let lines = HeaderLines::new(block).filter(|(other, _)| other.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value).collect()
    };
    let lists = |name: &[u8], member: &[u8]| {
        values(name)
            .join(&b","[..])
            .split(|&byte| byte == b',')
            .any(|other| trim(other).eq_ignore_ascii_case(member))
    };
    let is_upgrade =
        head.version_minor == 1 && lists(b"connection", b"upgrade") && lists(b"upgrade", b"websocket");
    match examine(&head, bytes) {
        Handshake::Absent => assert!(!is_upgrade),
        Handshake::Refused(status) => {
            assert!(is_upgrade && matches!(status, 400 | 426));
            if status == 426 {
                assert_ne!(values(b"sec-websocket-version"), [b"13"]);
            }
        }
        Handshake::Valid => {
            assert!(is_upgrade);
            assert_eq!(head.method(bytes), b"GET");
            assert_eq!(values(b"sec-websocket-version"), [b"13"]);
            let keys = values(b"sec-websocket-key");
            let [key] = *keys else { panic!("not one key: {keys:?}") };
            assert!(is_valid_key(key));
            assert!(accept(key).ends_with(b"="), "20 bytes are 27 digits and a filler");
            check_protocols(&joined(block, b"sec-websocket-protocol").unwrap_or_default());
            check_extensions(&input, &joined(block, b"sec-websocket-extensions").unwrap_or_default());
        }
    }
});
