//! Frames of HTTP/2 as a client writes and reads them (RFC 9113 section 6), with as much of HPACK as a status takes.

/// Kinds of frames.
pub mod kind {
    /// Content of a stream.
    pub const DATA: u8 = 0;
    /// A header section, or the first part of it.
    pub const HEADERS: u8 = 1;
    /// A priority, which nobody heeds.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// Settings of a connection.
    pub const SETTINGS: u8 = 4;
    /// A question whether the other side is there.
    pub const PING: u8 = 6;
    /// The end of a connection.
    pub const GOAWAY: u8 = 7;
    /// Room for content.
    pub const WINDOW_UPDATE: u8 = 8;
    /// A further part of a header section.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// The last frame of a stream.
    pub const END_STREAM: u8 = 1;
    /// An answer to settings or to a ping.
    pub const ACK: u8 = 1;
    /// The last part of a header section.
    pub const END_HEADERS: u8 = 4;
    /// Padding follows the payload.
    pub const PADDED: u8 = 8;
    /// A priority stands before a header section.
    pub const PRIORITY: u8 = 32;
}

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The window of a connection, and of each stream until a setting says otherwise.
pub const WINDOW: u32 = 65_535;
/// The largest payload that a side takes that has not asked for larger ones.
const LARGEST: usize = 16_384;

/// Writes one frame.
pub fn write(wire: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a payload is short");
    wire.extend_from_slice(&length.to_be_bytes()[1..]);
    wire.extend_from_slice(&[kind, flags]);
    wire.extend_from_slice(&stream.to_be_bytes());
    wire.extend_from_slice(payload);
}

/// Appends a field to a header section: a literal that no table keeps.
pub fn field(section: &mut Vec<u8>, name: &str, value: &str) {
    section.push(0);
    for text in [name, value] {
        section.push(u8::try_from(text.len()).ok().filter(|&length| length < 127).expect("a field is short"));
        section.extend_from_slice(text.as_bytes());
    }
}

/// A frame that has come.
#[derive(Debug)]
pub struct Frame<'a> {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// Without padding: a server of ours sends none.
    pub payload: &'a [u8],
}

/// The frame at the start of `bytes` and its length; none when it is not whole.
pub fn next(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let head = bytes.get(..9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    assert!(length <= LARGEST, "a frame is larger than any client has allowed: {length}");
    let payload = bytes.get(9..9 + length)?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let (kind, flags) = (head[3], head[4]);
    assert!(!matches!(kind, kind::DATA | kind::HEADERS) || flags & flag::PADDED == 0, "nobody pads here");
    Some((Frame { kind, flags, stream, payload }, 9 + length))
}

/// The status that a header section begins with. Its sender must have been told to keep no table.
pub fn status(mut section: &[u8]) -> u16 {
    // The table has another size from here on.
    while let [first, rest @ ..] = section
        && first & 0xE0 == 0x20
    {
        section = rest;
    }
    let (first, rest) = section.split_first().expect("a response has a status");
    if first & 0x80 != 0 {
        // The static table (RFC 7541 appendix A).
        let known = [200, 204, 206, 304, 400, 404, 500];
        let status = known.get(usize::from(first & 0x7F).wrapping_sub(8));
        return *status.unwrap_or_else(|| panic!("a response begins with {section:?}"));
    }
    // A literal whose name is that of one of these.
    let index = if first & 0x40 != 0 { first & 0x3F } else { first & 0x0F };
    assert!((8..=14).contains(&index), "a response begins with {section:?}");
    let (length, rest) = rest.split_first().expect("a value has a length");
    let value = &rest[..usize::from(length & 0x7F)];
    let digits = if length & 0x80 == 0 { value.to_vec() } else { digits(value) };
    let text = std::str::from_utf8(&digits).expect("a status is ASCII");
    assert_eq!(text.len(), 3, "no status: {text:?}");
    text.parse().unwrap_or_else(|_| panic!("no status: {text:?}"))
}

/// Decodes digits (RFC 7541 appendix B: five bits for 0 to 2, six for the others).
fn digits(value: &[u8]) -> Vec<u8> {
    let mut bits = value.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1));
    let mut digits = Vec::new();
    while let Some(first) = bits.next() {
        let mut code = first;
        for _ in 0..4 {
            let Some(bit) = bits.next() else { return digits };
            code = code << 1 | bit;
        }
        if code < 3 {
            digits.push(b'0' + code);
            continue;
        }
        let Some(bit) = bits.next() else { return digits };
        code = code << 1 | bit;
        match code {
            0b01_1001..=0b01_1111 => digits.push(b'3' + code - 0b01_1001),
            // Padding is all ones.
            _ => return digits,
        }
    }
    digits
}
