//! The chunked transfer coding (RFC 9112 section 7.1).

use super::*;

/// Decodes `input` in pieces of `size` bytes.
fn decode(input: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let (mut body, mut taken, mut done) = (Vec::new(), 0, false);
    let mut decoder = ChunkedDecoder::default();
    for piece in input.chunks(size.max(1)) {
        let consumed;
        (consumed, done) = decoder.decode(piece, &mut |data: &[u8]| body.extend_from_slice(data))?;
        taken += consumed;
        assert_eq!(done, decoder.is_done());
        if done {
            break;
        }
        assert_eq!(consumed, piece.len());
    }
    Ok((body, taken, done))
}

/// B-HT-12; RFC 9112 section 7.1.
#[test]
fn accepted() {
    let cases = [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\na\r\n0002\r\nbc\r\n000\r\n\r\n", "abc"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("5;x\r\nhello\r\n0;a=\"b;\"\r\n\r\n", "hello"),
        ("5 \t; x = y ;z\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n0\r\nExpires: never\r\nX:\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    ];
    for (input, body) in cases {
        for size in [1, 2, 3, usize::MAX] {
            let followed = format!("{input}GET /");
            let got = decode(followed.as_bytes(), size);
            assert_eq!(got, Ok((body.into(), input.len(), true)), "{input:?} by {size}");
        }
        for cut in 0..input.len() {
            assert!(!decode(&input.as_bytes()[..cut], usize::MAX).unwrap().2, "{input:?} cut at {cut}");
        }
    }
}

#[test]
fn refused() {
    let cases = [
        ("\r\n", ChunkError::Size),
        (" 5\r\nhello", ChunkError::Size),
        ("g\r\n", ChunkError::Size),
        ("-1\r\n", ChunkError::Size),
        ("+5\r\n", ChunkError::Size),
        ("0x5\r\n", ChunkError::Size),
        ("5 \r\nhello", ChunkError::Size),
        ("5 5\r\nhello", ChunkError::Size),
        ("5,x\r\nhello", ChunkError::Size),
        (";x\r\n", ChunkError::Size),
        ("10000000000000000\r\n", ChunkError::SizeTooLong),
        ("00000000000000005\r\nhello", ChunkError::SizeTooLong),
        ("5\nhello", ChunkError::LineEnd),
        ("5\rhello", ChunkError::LineEnd),
        ("5\r\r\nhello", ChunkError::LineEnd),
        ("5;x\nhello", ChunkError::LineEnd),
        ("5;a\0b\r\n", ChunkError::Extension),
        ("5\r\nhello\n0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhello\r0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhelloo\r\n0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhello0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhell\r\n0\r\n\r\n", ChunkError::DataEnd),
        ("0\r\n\n", ChunkError::Trailer),
        ("0\r\n\rX", ChunkError::LineEnd),
        ("0\r\nA: b\n\r\n", ChunkError::LineEnd),
        ("0\r\nA: b\rc\r\n\r\n", ChunkError::LineEnd),
        ("0\r\nA: b\r\n c\r\n\r\n", ChunkError::Trailer),
        ("0\r\nA b\r\n\r\n", ChunkError::Trailer),
        ("0\r\nA\r\n\r\n", ChunkError::Trailer),
        ("0\r\nA: \0\r\n\r\n", ChunkError::Trailer),
        ("0\r\n: a\r\n\r\n", ChunkError::Trailer),
    ];
    for (input, error) in cases {
        for size in [1, 2, usize::MAX] {
            assert_eq!(decode(input.as_bytes(), size), Err(error), "{input:?} by {size}");
        }
    }
}

#[test]
fn bounds() {
    let extended = |count: usize| format!("0;{}\r\n\r\n", "x".repeat(count - 1));
    assert!(decode(extended(4096).as_bytes(), 99).unwrap().2);
    assert_eq!(decode(extended(4097).as_bytes(), 99), Err(ChunkError::ExtensionsTooLong));
    // The bound is over all chunks: one extension each does not avoid it.
    let many = "1;xyz\r\na\r\n".repeat(1025);
    assert_eq!(decode(many.as_bytes(), usize::MAX), Err(ChunkError::ExtensionsTooLong));
    let trailed = |count: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(count - 4));
    assert!(decode(trailed(8192).as_bytes(), 99).unwrap().2);
    assert_eq!(decode(trailed(8193).as_bytes(), 99), Err(ChunkError::TrailersTooLong));
    // B-HT-11: 64-bit sizes. The largest is accepted, and its data is awaited.
    let (body, taken, done) = decode(b"ffffffffffffffff\r\nabc", usize::MAX).unwrap();
    assert_eq!((body.as_slice(), taken, done), (&b"abc"[..], 21, false));
}

#[test]
fn encodes_sizes_without_leading_zeros() {
    for len in [1, 9, 10, 15, 16, 255, 256, 4095, 65536, 0xdead_beef, usize::MAX] {
        let mut out = b"before".to_vec();
        encode_chunk_header(len, &mut out);
        assert_eq!(out, format!("before{len:x}\r\n").into_bytes());
    }
}

proptest! {
    #[test]
    fn split_anywhere_decodes_alike(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        extension in "(;[a-z]{1,5}(=[a-z0-9]{1,5})?)?",
        trailer in "([A-Za-z-]{1,8}: ?[ -~]{0,10}\r\n)?",
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n");
        wire.extend(trailer.bytes());
        wire.extend(b"\r\n");
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let (mut body, mut decoder, mut ended) = (Vec::new(), ChunkedDecoder::default(), false);
        for pair in cuts.windows(2) {
            let piece = &wire[pair[0]..pair[1]];
            let mut out = |data: &[u8]| body.extend_from_slice(data);
            let (taken, done) = decoder.decode(piece, &mut out).unwrap();
            prop_assert_eq!(taken, piece.len());
            ended = done;
        }
        prop_assert!(ended);
        prop_assert_eq!(&body, &chunks.concat());
        prop_assert_eq!(decode(&wire, usize::MAX).unwrap().0, body);
    }

    #[test]
    fn any_bytes_decode_alike_in_pieces(bytes in "[0-9a-f;: \r\n\txZ]{0,60}", size in 1_usize..8) {
        prop_assert_eq!(decode(bytes.as_bytes(), size), decode(bytes.as_bytes(), usize::MAX));
    }

    #[test]
    fn encoded_chunks_decode(data in proptest::collection::vec(any::<u8>(), 1..5000)) {
        let mut wire = Vec::new();
        encode_chunk_header(data.len(), &mut wire);
        wire.extend_from_slice(&data);
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(LAST_CHUNK);
        prop_assert_eq!(decode(&wire, usize::MAX).unwrap(), (data, wire.len(), true));
    }
}
