//! Host names and the routers that they select, against the rules and against a plain implementation of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot register a name has failed")]

use proptest::prelude::*;
use socketify::router::{Domains, Hosts, Kind};

fn hosts(names: &[&'static str]) -> Hosts<&'static str> {
    let mut hosts = Hosts::new();
    for name in names {
        *hosts.entry(name).unwrap() = *name;
    }
    hosts
}

/// B-TL-07: label by label from the left, an exact one before `*`, which is exactly one.
#[test]
fn the_more_exact_host_wins() {
    let hosts = hosts(&["*.*.com", "*.b.com", "a.*.com", "a.b.com", "*", "b.com"]);
    let cases = [
        ("a.b.com", Some("a.b.com")),
        ("A.B.COM:443", Some("a.b.com")),
        ("a.x.com", Some("a.*.com")),
        ("x.b.com.", Some("*.b.com")),
        ("x.y.com", Some("*.*.com")),
        ("b.com", Some("b.com")),
        ("x.com", None),
        ("x.y.z.com", None),
        ("localhost", Some("*")),
        ("", None),
        (".", None),
        (".b.com", None),
        (":80", None),
        ("a.b.com:80x", None),
        ("a:b:1", None),
    ];
    for (host, expected) in cases {
        assert_eq!(hosts.find(host.as_bytes()).copied(), expected, "{host:?}");
    }
}

#[test]
fn addresses_are_named_exactly_and_in_any_form() {
    let hosts = hosts(&["192.0.2.1", "2001:db8::1", "[::1]", "*.*.*.*", "*"]);
    let cases = [
        ("192.0.2.1:80", Some("192.0.2.1")),
        ("192.0.2.2", None),
        ("a.b.c.d", Some("*.*.*.*")),
        ("[2001:DB8:0:0::1]", Some("2001:db8::1")),
        ("[::1]:3000", Some("[::1]")),
        ("[::1]:", Some("[::1]")),
        ("[::2]", None),
        ("[::1]3000", None),
        ("[::1", None),
        ("[]", None),
        ("[fe80::1%25eth0]", None),
        ("[v1.x]", None),
        ("::1", None),
        ("7", None),
    ];
    for (host, expected) in cases {
        assert_eq!(hosts.find(host.as_bytes()).copied(), expected, "{host:?}");
    }
}

#[test]
fn names_are_the_same_in_any_case_and_with_a_dot_at_the_end() {
    let mut hosts = Hosts::<u32>::new();
    assert!(hosts.is_empty());
    for name in ["Example.COM", "example.com.", "EXAMPLE.com"] {
        *hosts.entry(name).unwrap() += 1;
    }
    assert_eq!(hosts.find(b"eXample.com"), Some(&3));
    assert_eq!(&*Hosts::<()>::normalise("Example.COM.").unwrap(), b"example.com");
    assert_eq!(&*Hosts::<()>::normalise("::0:1").unwrap(), b"[::1]");
}

#[test]
fn mistaken_names_are_named() {
    let long = "a".repeat(64);
    let many = ["a"; 128].join(".");
    let cases = [
        ("", "empty label"),
        (".", "empty label"),
        ("a..b", "empty label"),
        (".a", "empty label"),
        ("a:80", "no port"),
        ("[::1]:80", "no port"),
        ("http://a", "address of a page"),
        ("a/b", "address of a page"),
        ("a b", "no host name has"),
        ("ä", "no host name has"),
        ("a*.b", "whole label"),
        (&long, "longer than 63"),
        (&many, "longer than 253"),
    ];
    for (name, reason) in cases {
        let error = Hosts::<()>::new().entry(name).unwrap_err();
        assert_eq!(&*error.name, name);
        assert!(error.to_string().contains(reason), "{error}");
    }
    // The longest possible ones.
    let longest = ["a"; 127].join(".");
    assert_eq!(hosts_of(&longest).find(longest.as_bytes()), Some(&()));
    let stars = ["*"; 127].join(".");
    assert_eq!(hosts_of(&stars).find(longest.as_bytes()), Some(&()));
    assert_eq!(hosts_of(&stars).find(&longest.as_bytes()[2..]), None);
}

fn hosts_of(name: &str) -> Hosts<()> {
    let mut hosts = Hosts::new();
    hosts.entry(name).unwrap();
    hosts
}

/// The plain implementation of the rules, to compare with.
fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern.len() == host.len() && pattern.iter().zip(&host).all(|(label, own)| *label == "*" || label == own)
}

proptest! {
    /// Random tables of few labels, so that there are many matches.
    #[test]
    fn hosts_agree_with_the_plain_reading(
        names in proptest::collection::vec("[ab*](\\.[ab*]){0,3}", 0..12),
        host in "[abc](\\.[abc]){0,3}",
    ) {
        let mut hosts = Hosts::<String>::new();
        for name in &names {
            *hosts.entry(name).unwrap() = name.clone();
        }
        // `*` sorts below every letter, and the reverse order applies: exact before `*`, from the left.
        let key = |name: &&String| name.split('.').map(|label| label == "*").collect::<Vec<_>>();
        let expected = names.iter().filter(|name| matches(name, &host)).min_by_key(key);
        prop_assert_eq!(hosts.find(host.as_bytes()), expected);
    }

    /// Bytes from outside never panic.
    #[test]
    fn any_bytes_are_looked_for(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let hosts = hosts(&["*", "*.*", "a.b"]);
        let _ = hosts.find(&bytes);
    }
}

/// DEC-13, B-TL-08.
#[test]
fn a_domain_has_its_routes_alone() {
    let mut domains = Domains::default();
    domains.router_mut(None).unwrap().insert(Kind::any(), "/*", "default").unwrap();
    let asked = std::cell::Cell::new(0);
    let find = |domains: &Domains<&'static str>, host: Option<&'static str>, path: &str| {
        let router = domains.select(|| {
            asked.set(asked.get() + 1);
            host.map(str::as_bytes)
        });
        router.find(b"GET", path.as_bytes()).map(|found| *found.value)
    };
    assert_eq!(find(&domains, Some("a"), "/x"), Some("default"));
    assert_eq!(asked.get(), 0, "without domains nobody asks for the host");
    domains.router_mut(Some("a")).unwrap().insert(Kind::any(), "/x", "a").unwrap();
    assert_eq!(find(&domains, Some("A:80"), "/x"), Some("a"));
    assert_eq!(find(&domains, Some("a"), "/y"), None);
    assert_eq!(find(&domains, Some("b"), "/y"), Some("default"));
    assert_eq!(find(&domains, None, "/y"), Some("default"));
    assert_eq!(asked.get(), 4);
    assert!(domains.router_mut(Some("a:1")).is_err());
}

/// Removed names leave nothing behind for a search.
#[test]
fn a_removed_name_leaves_the_others_as_they_are() {
    let mut hosts = hosts(&["*.b.com", "*.c.com", "a.b.com"]);
    assert_eq!(hosts.remove("*.b.com"), Some("*.b.com"));
    assert_eq!(hosts.remove("*.b.com"), None);
    assert_eq!(hosts.find(b"x.b.com"), None);
    assert_eq!(hosts.find(b"x.c.com"), Some(&"*.c.com"));
    *hosts.entry("*.b.com").unwrap() = "again";
    assert_eq!(hosts.find(b"x.b.com"), Some(&"again"));
    for name in ["*.b.com", "*.c.com", "a.b.com"] {
        assert!(hosts.remove(name).is_some());
    }
    assert!(hosts.is_empty());
    assert!(format!("{hosts:?}").contains("shapes: []"), "{hosts:?}");
}
