use proptest::prelude::*;

use super::*;

const PROXIES: [&str; 3] = ["10.0.0.0/8", "fd00::/8", "unix"];

fn read(peer: &str, block: &str) -> Origin {
    let trust = Trust::parse(PROXIES).unwrap();
    origin(format!("{block}\r\n").as_bytes(), (!peer.is_empty()).then(|| peer.parse().unwrap()), &trust)
}

fn address(block: &str) -> Option<String> {
    read("10.0.0.1", block).address.map(|address| address.to_string())
}

#[test]
fn the_scheme_of_a_websocket_is_that_of_its_request() {
    for (said, scheme) in
        [("wss", "https"), ("WSS", "https"), ("ws", "http"), ("https", "https"), ("wsx", "wsx")]
    {
        let origin = read("10.0.0.1", &format!("Forwarded: for=192.0.2.7;proto={said}"));
        assert_eq!(origin.scheme.as_deref(), Some(scheme), "{said}");
    }
}

#[test]
fn the_first_from_the_right_that_is_not_trusted_is_the_client() {
    for (header, client) in [
        ("Forwarded: for=192.0.2.7", Some("192.0.2.7")),
        ("forwarded: For=192.0.2.7;proto=http;by=10.0.0.9", Some("192.0.2.7")),
        ("Forwarded: for=9.9.9.9, for=192.0.2.7, for=10.1.1.1", Some("192.0.2.7")),
        ("Forwarded: for=9.9.9.9\r\nForwarded: for=192.0.2.7\r\nForwarded: for=10.1.1.1", Some("192.0.2.7")),
        ("Forwarded: for=10.3.3.3, for=10.2.2.2", Some("10.3.3.3")),
        (r#"Forwarded: for="[2001:db8::7]""#, Some("2001:db8::7")),
        (r#"Forwarded: for="[2001:db8::7]:4711" ; proto=http"#, Some("2001:db8::7")),
        ("Forwarded: for=[2001:db8::7]:4711", Some("2001:db8::7")),
        (r#"Forwarded: for="192.0.2.7:80""#, Some("192.0.2.7")),
        (r#"Forwarded: for="192.0.2.7:_hidden""#, Some("192.0.2.7")),
        (r#"Forwarded: for="\1\9\2.0.2.7""#, Some("192.0.2.7")),
        (r#"Forwarded: x="a,b;for=1.1.1.1\"";for=192.0.2.7"#, Some("192.0.2.7")),
        (r#"Forwarded: for="[::ffff:192.0.2.7]""#, Some("192.0.2.7")),
        ("Forwarded: for=192.0.2.7,,", Some("192.0.2.7")),
        ("Forwarded: ,;,for=192.0.2.7;", Some("192.0.2.7")),
        ("X-Forwarded-For: 192.0.2.7", Some("192.0.2.7")),
        ("X-Forwarded-For: 9.9.9.9, 192.0.2.7,10.1.1.1", Some("192.0.2.7")),
        ("X-Forwarded-For: 9.9.9.9\r\nX-FORWARDED-FOR: 192.0.2.7", Some("192.0.2.7")),
        ("X-Forwarded-For: 2001:db8::7, fd00::2", Some("2001:db8::7")),
        ("X-Forwarded-For: [2001:db8::7]:99", Some("2001:db8::7")),
        ("X-Forwarded-For: 192.0.2.7:99", Some("192.0.2.7")),
        ("X-Forwarded-For: 10.3.3.3, 10.2.2.2", Some("10.3.3.3")),
        ("X-Forwarded-For: ", Some("10.0.0.1")),
        ("Accept: */*", Some("10.0.0.1")),
        ("X-Forwarded-Proto: https", Some("10.0.0.1")),
    ] {
        assert_eq!(address(header).as_deref(), client, "{header}");
    }
}

#[test]
fn who_is_not_named_is_nobody() {
    for header in [
        "Forwarded: for=unknown",
        "Forwarded: for=_secret",
        "Forwarded: for=192.0.2.7, for=unknown",
        "Forwarded: for=192.0.2.7, for=_x, for=10.1.1.1",
        "Forwarded: proto=https",
        "Forwarded: for=",
        r#"Forwarded: for="192.0.2.7"#,
        r#"Forwarded: for="192.0.2.7" x"#,
        r#"Forwarded: for="192.0.2.7\"#,
        "Forwarded: for=192.0.2.7;for=192.0.2.7",
        "Forwarded: for = 192.0.2.7",
        "Forwarded: 192.0.2.7",
        "Forwarded: for=192.0.2.7:123456",
        "Forwarded: for=192.0.2.7:",
        "Forwarded: for=192.0.2.7:_",
        "Forwarded: for=2001:db8::7",
        "Forwarded: for=[2001:db8::7",
        "Forwarded: for=192.0.2.07",
        "X-Forwarded-For: 192.0.2.7, unknown",
        "X-Forwarded-For: 192.0.2.7, localhost",
        "X-Forwarded-For: 192.0.2.7, 10.0.0.1;x",
    ] {
        assert_eq!(address(header), None, "{header}");
    }
}

#[test]
fn what_one_family_says_alone_does_not_count_beside_the_other() {
    let both = |one: &str, other: &str| read("10.0.0.1", &format!("{one}\r\n{other}"));
    let agreed = both("Forwarded: for=192.0.2.7;proto=https;host=a", "X-Forwarded-For: 192.0.2.7");
    assert_eq!(agreed, Origin { address: "192.0.2.7".parse().ok(), ..Origin::default() });
    let agreed = both(
        "Forwarded: for=192.0.2.7;proto=https",
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: HTTPS",
    );
    assert_eq!(agreed.scheme.as_deref(), Some("https"));
    for other in ["X-Forwarded-For: 192.0.2.8", "X-Forwarded-For: x"] {
        assert_eq!(both("Forwarded: for=192.0.2.7;proto=https;host=a", other), Origin::default(), "{other}");
    }
}

#[test]
fn a_family_that_names_no_client_takes_nothing_away() {
    let told = |standard: &str, customary: &str| {
        let found = read("10.0.0.1", &format!("Forwarded: {standard}\r\n{customary}"));
        (found.address.map(|address| address.to_string()), found.scheme, found.host)
    };
    let some = |text: &str| Some(text.to_owned());
    let client = || some("192.0.2.7");
    for (customary, scheme, host) in [
        // Without both, malformed, or without one of them; agreeing; contradicting.
        ("X-Forwarded-For: \r\nX-Forwarded-Host: ", Some("https"), Some("a")),
        ("X-Forwarded-Proto: <script>\r\nX-Forwarded-Host: a/../b", Some("https"), Some("a")),
        ("X-Forwarded-Host: a", Some("https"), Some("a")),
        ("X-Forwarded-Proto: https", Some("https"), Some("a")),
        ("X-Forwarded-Host: x", Some("https"), None),
        ("X-Forwarded-Proto: http", None, Some("a")),
        ("X-Forwarded-Proto: http\r\nX-Forwarded-Host: x", None, None),
    ] {
        let expected = (client(), scheme.map(str::to_owned), host.map(str::to_owned));
        assert_eq!(told("for=192.0.2.7;proto=https;host=a", customary), expected, "{customary}");
    }
    // Values that only it has may come from the client, since the proxy has written the one with the address.
    for customary in
        ["X-Forwarded-Host: x", "X-Forwarded-Proto: https", "X-Forwarded-Proto: https\r\nX-Forwarded-Host: x"]
    {
        assert_eq!(told("for=192.0.2.7", customary), (client(), None, None), "{customary}");
        assert_eq!(told("for=unknown", customary), (None, None, None), "{customary}");
    }
    // Both name a client: neither counts alone, since the proxy may have written either.
    let customary = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a";
    assert_eq!(told("for=192.0.2.7", customary), (client(), None, None));
    assert_eq!(told("proto=https;host=a", customary), (None, some("https"), some("a")));
    assert_eq!(told("for=192.0.2.7;proto=https;host=x", customary), (client(), some("https"), None));
    assert_eq!(told("for=9.9.9.9;proto=http;host=x", customary), (None, None, None));
}

#[test]
fn only_trusted_peers_are_asked() {
    let block = "Forwarded: for=192.0.2.7;proto=https;host=a";
    for (peer, client) in [("192.0.2.99", "192.0.2.99"), ("::ffff:192.0.2.99", "192.0.2.99"), ("::1", "::1")]
    {
        let expected = Origin { address: client.parse().ok(), ..Origin::default() };
        assert_eq!(read(peer, block), expected, "{peer}");
    }
    for peer in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1", ""] {
        assert_eq!(read(peer, block).address, "192.0.2.7".parse().ok(), "{peer}");
    }
    assert_eq!(read("", "Accept: */*").address, None);
    assert_eq!(read("::ffff:10.0.0.1", "Accept: */*").address, "10.0.0.1".parse().ok());
}

#[test]
fn scheme_and_host_are_those_of_the_hop_that_saw_the_client() {
    for (block, scheme, host) in [
        (
            "Forwarded: for=192.0.2.7;proto=HTTPS;host=\"a.example:8443\"",
            Some("https"),
            Some("a.example:8443"),
        ),
        (
            "Forwarded: for=192.0.2.7;proto=https;host=a, for=10.1.1.1;proto=http;host=b",
            Some("https"),
            Some("a"),
        ),
        ("Forwarded: for=9.9.9.9;proto=https;host=evil, for=192.0.2.7", None, None),
        ("Forwarded: for=192.0.2.7;proto=\"1x\";host=\"a b\"", None, None),
        ("Forwarded: for=192.0.2.7;host=\"[::1]:80\"", None, Some("[::1]:80")),
        ("Forwarded: for=192.0.2.7;host=\"a:b:c\"", None, None),
        ("Forwarded: for=192.0.2.7;host=\"::1\"", None, None),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: a:8443", None, Some("a:8443")),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: [::1", None, None),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: a%zz", None, None),
        ("Forwarded: for=192.0.2.7;proto=https;proto=http", None, None),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example", Some("https"), Some("a.example")),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: Https", Some("https"), None),
        ("X-Forwarded-For: 192.0.2.7, 10.1.1.1\r\nX-Forwarded-Proto: https", Some("https"), None),
        ("X-Forwarded-For: 192.0.2.7, 10.1.1.1\r\nX-Forwarded-Proto: https, http", Some("https"), None),
        ("X-Forwarded-For: 9.9.9.9, 192.0.2.7\r\nX-Forwarded-Proto: ftp, https", Some("https"), None),
        ("X-Forwarded-For: 192.0.2.7, 10.1.1.1, 10.1.1.2\r\nX-Forwarded-Proto: https, http", None, None),
        ("X-Forwarded-Proto: ftp, https", Some("https"), None),
        ("X-Forwarded-Host: a/b", None, None),
        ("X-Forwarded-Host: a@b", None, None),
    ] {
        let found = read("10.0.0.1", block);
        assert_eq!((found.scheme.as_deref(), found.host.as_deref()), (scheme, host), "{block}");
    }
}

fn line_of_text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,60}", r#"(for=("?[0-9.:\[\]a-f_]{0,12}"?)?[,; "\\]?){0,6}"#]
}

proptest! {
    /// A client's values stand to the left of the proxy's, or on an earlier line.
    #[test]
    fn a_spoofed_left_part_never_wins(left in line_of_text(), same_line: bool) {
        let client = Some("192.0.2.7".to_owned());
        let separator = |name: &str| if same_line { ", ".to_owned() } else { format!("\r\n{name}: ") };
        let standard = format!("Forwarded: {left}{}for=192.0.2.7", separator("Forwarded"));
        let found = address(&standard);
        // An open quote makes one unreadable line of it.
        prop_assert!(found == client || (same_line && found.is_none()), "{:?}: {:?}", standard, found);
        let customary = format!("X-Forwarded-For: {left}{}192.0.2.7, 10.1.1.1", separator("X-Forwarded-For"));
        prop_assert_eq!(address(&customary), client, "{}", customary);
    }

    /// For any input, the output is text, and a host is a valid host.
    #[test]
    fn anything_is_survived(lines in proptest::collection::vec(("(x-forwarded-(for|proto|host)|forwarded)", line_of_text()), 0..4)) {
        let block = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\r\n");
        let found = read("10.0.0.1", &block);
        prop_assert!(found.host.is_none_or(|host| !host.is_empty() && is_host(host.as_bytes())));
        prop_assert!(found.scheme.is_none_or(|scheme| scheme.bytes().all(|byte| byte.is_ascii_graphic())));
    }
}
