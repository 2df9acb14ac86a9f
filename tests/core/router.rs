//! The routing rules of the specification, row by row, and the search against a list of routes.

use std::collections::HashMap;

use proptest::prelude::*;
use socketify::router::{Kind, MAX_SEGMENTS, Pattern, PatternError, Router};

/// `"ws"`, `"any"` or a method.
fn kind(text: &str) -> Kind {
    match text {
        "ws" => Kind::WebSocket,
        "any" => Kind::any(),
        method => Kind::method(method),
    }
}

/// A table of routes `"KIND pattern"`, each registered under its own text.
fn router(table: &[&'static str]) -> Router<&'static str> {
    let mut router = Router::new();
    for route in table {
        let (method, pattern) = route.split_once(' ').expect("a kind and a pattern");
        router.insert(kind(method), pattern, *route).expect("a good pattern");
    }
    router
}

/// Every candidate as `"KIND pattern"`, followed by `[values]` if the pattern has parameters.
fn tries(router: &Router<&'static str>, method: &str, path: &str) -> Vec<String> {
    let candidates = router.all(method.as_bytes(), path.as_bytes());
    let shown = candidates.map(|found| {
        let values: Vec<&str> = found.params.iter().map(|(_, range)| &path[range]).collect();
        let values = if values.is_empty() { String::new() } else { format!(" [{}]", values.join(", ")) };
        format!("{}{values}", found.value)
    });
    shown.collect()
}

/// One row of the specification: routes in order of registration, then requests with their candidates.
struct Row {
    id: &'static str,
    routes: &'static [&'static str],
    requests: &'static [(&'static str, &'static [&'static str])],
}

impl Row {
    fn run(&self) {
        let router = router(self.routes);
        for (request, expected) in self.requests {
            let (method, path) = request.split_once(' ').expect("a method and a path");
            assert_eq!(tries(&router, method, path), *expected, "{}: {request}", self.id);
        }
    }
}

const ABC: &[&str] = &["any /a/b/c", "GET /a/:b/c", "GET /a/*", "GET /a/b/c", "POST /a/:b/c", "any /a/:b/c"];
const CANDY: &[&str] = &[
    "GET /candy/:kind/*",
    "GET /candy/lollipop/*",
    "GET /candy/:kind/:action",
    "GET /candy/lollipop/:action",
    "GET /candy/lollipop/eat",
];

/// The order table.
const ORDER: &[Row] = &[
    Row {
        id: "B-ORD-01",
        routes: &["any /static/route", "PATCH /static/route", "GET /static/route"],
        requests: &[
            ("POST /static/route", &["any /static/route"]),
            ("GET /static/route", &["GET /static/route", "any /static/route"]),
            ("PATCH /static/route", &["PATCH /static/route", "any /static/route"]),
        ],
    },
    Row {
        id: "B-ORD-02",
        routes: ABC,
        requests: &[("POST /a/b/c", &["any /a/b/c", "POST /a/:b/c [b]", "any /a/:b/c [b]"])],
    },
    Row {
        id: "B-ORD-03",
        routes: ABC,
        requests: &[(
            "GET /a/b/c",
            &["GET /a/b/c", "any /a/b/c", "GET /a/:b/c [b]", "any /a/:b/c [b]", "GET /a/*"],
        )],
    },
    Row {
        id: "B-ORD-04",
        routes: &["GET /something", "GET /*", "ws /*"],
        requests: &[
            ("GET /something", &["ws /*", "GET /something", "GET /*"]),
            ("GET /", &["ws /*", "GET /*"]),
        ],
    },
    Row {
        id: "B-ORD-05",
        routes: &["ws /*", "GET /static", "any /*"],
        requests: &[("GET /static", &["ws /*", "GET /static", "any /*"])],
    },
    Row { id: "B-ORD-06", routes: &["ws /", "GET /"], requests: &[("GET /", &["ws /", "GET /"])] },
    Row {
        id: "B-ORD-07",
        routes: &["GET /foo", "GET /:id", "GET /1ab"],
        requests: &[("GET /1ab", &["GET /1ab", "GET /:id [1ab]"])],
    },
    Row { id: "B-ORD-08", routes: &["GET /*", "GET /"], requests: &[("GET /", &["GET /", "GET /*"])] },
    Row {
        id: "B-ORD-09",
        routes: &["GET /foo//////bar/baz/qux", "GET /foo"],
        requests: &[
            ("GET /foo", &["GET /foo"]),
            ("GET /foo/", &[]),
            ("GET /foo//bar/baz/qux", &[]),
            ("GET /foo//////bar/baz/qux", &["GET /foo//////bar/baz/qux"]),
        ],
    },
    Row {
        id: "B-ORD-10",
        routes: CANDY,
        requests: &[(
            "GET /candy/lollipop/eat",
            &[
                "GET /candy/lollipop/eat",
                "GET /candy/lollipop/:action [eat]",
                "GET /candy/lollipop/*",
                "GET /candy/:kind/:action [lollipop, eat]",
                "GET /candy/:kind/* [lollipop]",
            ],
        )],
    },
    Row {
        id: "B-ORD-11",
        routes: CANDY,
        requests: &[("GET /candy/lollipop/", &["GET /candy/lollipop/*", "GET /candy/:kind/* [lollipop]"])],
    },
    Row { id: "B-ORD-12", routes: CANDY, requests: &[("GET /candy/lollipop", &[]), ("GET /candy/", &[])] },
    Row { id: "B-ORD-13", routes: CANDY, requests: &[("nonsense /candy/lollipop/eat", &[])] },
    Row {
        id: "B-ORD-13 EXT",
        routes: ABC,
        requests: &[("nonsense /a/b/c", &["any /a/b/c", "any /a/:b/c [b]"])],
    },
];

#[test]
fn candidates_come_in_the_order_of_the_specification() {
    ORDER.iter().for_each(Row::run);
}

/// The matches of a segment.
const SEGMENTS: &[Row] = &[
    Row {
        id: "B-RT-01",
        routes: &["GET users", "any *", "GET "],
        requests: &[
            ("GET /users", &["GET users", "any *"]),
            ("GET users", &["GET users", "any *"]),
            ("GET /sers", &["any *"]),
            ("GET /", &["GET ", "any *"]),
            ("GET ", &["GET ", "any *"]),
        ],
    },
    Row {
        id: "B-RT-02",
        routes: &["GET /Foo", "GET /a//b", "GET /é"],
        requests: &[
            ("GET /Foo", &["GET /Foo"]),
            ("GET /foo", &[]),
            ("GET /%46oo", &[]),
            ("GET /./Foo", &[]),
            ("GET /a/b", &[]),
            ("GET /a//b", &["GET /a//b"]),
            ("GET /é", &["GET /é"]),
        ],
    },
    Row {
        id: "B-RT-03",
        routes: &["GET /:id", "GET /:id/x"],
        requests: &[
            ("GET /", &[]),
            ("GET //x", &[]),
            ("GET /7", &["GET /:id [7]"]),
            ("GET /:id", &["GET /:id [:id]"]),
            ("GET /7/x", &["GET /:id/x [7]"]),
            ("GET /7/y", &[]),
        ],
    },
    Row {
        id: "B-RT-04",
        routes: &["any /:b/x", "any /:a", "GET /:b", "GET /:a"],
        requests: &[
            ("GET /7", &["GET /:b [7]", "GET /:a [7]", "any /:a [7]"]),
            ("PUT /7", &["any /:a [7]"]),
            ("PUT /7/x", &["any /:b/x [7]"]),
        ],
    },
    Row {
        id: "B-RT-05",
        routes: &["GET /a/*", "GET /b/*anything", "GET /b/*"],
        requests: &[
            ("GET /a", &[]),
            ("GET /a/", &["GET /a/*"]),
            ("GET /a/b", &["GET /a/*"]),
            ("GET /a/b/c", &["GET /a/*"]),
            ("GET /b/*", &["GET /b/*anything", "GET /b/*"]),
        ],
    },
    Row {
        id: "B-RT-06",
        routes: &["GET /a/*/b", "GET /a/*/b/:c"],
        requests: &[("GET /a/x/b", &[]), ("GET /a/*/b", &[]), ("GET /a/x/b/c", &[])],
    },
    Row {
        id: "B-RT-08",
        routes: &["GET /foo", "GET /bar/"],
        requests: &[("GET /foo/", &[]), ("GET /bar", &[]), ("GET /bar/", &["GET /bar/"])],
    },
];

#[test]
fn segments_match_as_specified() {
    SEGMENTS.iter().for_each(Row::run);
}

/// The matches of a method, and the order of routes.
const METHODS: &[Row] = &[
    Row {
        id: "B-RT-10",
        routes: &["any /x", "GET /x"],
        requests: &[("GET /x", &["GET /x", "any /x"]), ("PUT /x", &["any /x"])],
    },
    Row {
        id: "B-RT-11",
        routes: &["GET /a/b", "ws /:x/*", "ws /a/:y", "ws /*"],
        requests: &[("GET /a/b", &["ws /a/:y [b]", "ws /:x/* [a]", "ws /*", "GET /a/b"]), ("POST /a/b", &[])],
    },
    Row {
        id: "B-RT-12",
        routes: &["GET /:x", "any /static"],
        requests: &[("GET /static", &["any /static", "GET /:x [static]"])],
    },
    Row {
        id: "B-RT-13",
        routes: &["GET /", "any /any"],
        requests: &[("get /", &[]), ("PROPFIND /any", &["any /any"]), ("GET /any", &["any /any"])],
    },
    Row {
        id: "DEC-11: each at its own place",
        routes: &["any /*", "GET /users", "HEAD /x/:id", "GET /x/me", "GET /x/:id"],
        requests: &[
            ("HEAD /users", &["GET /users", "any /*"]),
            ("HEAD /x/me", &["GET /x/me", "HEAD /x/:id [me]", "GET /x/:id [me]", "any /*"]),
            ("HEAD /y", &["any /*"]),
        ],
    },
    Row {
        id: "DEC-11",
        routes: &["GET /get", "GET /:x", "any /any", "GET /any", "HEAD /head", "GET /head"],
        requests: &[
            ("HEAD /get", &["GET /get", "GET /:x [get]"]),
            ("HEAD /any", &["any /any", "GET /any", "GET /:x [any]"]),
            ("HEAD /head", &["HEAD /head", "GET /head", "GET /:x [head]"]),
            ("POST /get", &[]),
            ("head /get", &[]),
        ],
    },
];

#[test]
fn methods_match_as_specified() {
    METHODS.iter().for_each(Row::run);
}

#[test]
fn each_match_names_the_parameters_of_its_own_pattern() {
    let router = router(&["GET /:a/:b", "GET /:x/:y"]);
    let named = |skip| {
        let params = router.nth(b"GET", b"/1/22", skip).expect("two candidates").params;
        params.iter().map(|(name, range)| (name.to_owned(), range)).collect::<Vec<_>>()
    };
    assert_eq!(named(0), [("a".to_owned(), 1..2), ("b".to_owned(), 3..5)], "B-RT-04");
    assert_eq!(named(1), [("x".to_owned(), 1..2), ("y".to_owned(), 3..5)], "B-RT-04");
}

#[test]
fn more_than_four_parameters_are_captured() {
    let router = router(&["GET /:a/:b/:c/:d/:e/:f"]);
    assert_eq!(tries(&router, "GET", "/1/2/3/4/5/6"), ["GET /:a/:b/:c/:d/:e/:f [1, 2, 3, 4, 5, 6]"]);
}

#[test]
fn a_path_that_is_not_text_is_matched_byte_by_byte() {
    let router = router(&["GET /:id"]);
    let path = b"/\xff\x00";
    assert_eq!(router.find(b"GET", path).expect("any bytes").params.get(0), Some(1..3));
}

#[test]
fn the_later_of_two_equal_routes_takes_the_place_of_the_earlier() {
    let mut router = router(&["GET /:a", "GET /:b", "any /:a", "ws /:a"]);
    let insert =
        |router: &mut Router<_>, route| router.insert(kind("GET"), "/:a", route).expect("a good pattern");
    assert_eq!(insert(&mut router, "new"), Some("GET /:a"), "DEC-8");
    assert_eq!(router.len(), 4);
    assert_eq!(tries(&router, "GET", "/7"), ["ws /:a [7]", "new [7]", "any /:a [7]", "GET /:b [7]"], "DEC-8");
    assert_eq!(router.insert(kind("ws"), ":a", "ws"), Ok(Some("ws /:a")), "DEC-8 and B-RT-01");
}

#[test]
fn http_and_websocket_lookups_see_only_their_own_routes() {
    let router = router(&["ws /*", "GET /static", "any /*"]);
    assert_eq!(router.find(b"GET", b"/static").map(|found| *found.value), Some("GET /static"), "B-RT-11");
    assert_eq!(router.nth(b"GET", b"/static", 1).map(|found| *found.value), Some("any /*"));
    assert!(router.nth(b"GET", b"/static", 2).is_none());
    assert_eq!(router.find_websocket(b"/static").map(|found| *found.value), Some("ws /*"));
    assert!(router.nth_websocket(b"/static", 1).is_none());
}

#[test]
fn a_path_beyond_the_limit_matches_nothing() {
    let router = router(&["any /*", "ws /*"]);
    for (path, matched) in [
        ("/a".repeat(MAX_SEGMENTS), true),
        ("/a".repeat(MAX_SEGMENTS + 1), false),
        ("/".repeat(MAX_SEGMENTS), true),
        ("/".repeat(MAX_SEGMENTS + 1), false),
        (format!("a{}", "/".repeat(MAX_SEGMENTS - 1)), true),
        (format!("a{}", "/".repeat(MAX_SEGMENTS)), false),
        (format!("/{}", "a".repeat(100_000)), true),
    ] {
        assert_eq!(router.find(b"GET", path.as_bytes()).is_some(), matched, "B-RT-19: {path:.40}");
        assert_eq!(router.find_websocket(path.as_bytes()).is_some(), matched, "B-RT-19: {path:.40}");
    }
}

#[test]
fn bad_patterns_are_refused_with_the_pattern_in_the_message() {
    let long = "/a".repeat(MAX_SEGMENTS + 1);
    let text = |pattern: &str| -> Box<str> { pattern.into() };
    for (pattern, expected) in [
        ("/a\n", PatternError::ControlCharacter { pattern: text("/a\n"), at: 2 }),
        ("/\0", PatternError::ControlCharacter { pattern: text("/\0"), at: 1 }),
        ("a\x7f", PatternError::ControlCharacter { pattern: text("/a\x7f"), at: 2 }),
        ("/é\u{85}", PatternError::ControlCharacter { pattern: text("/é\u{85}"), at: 3 }),
        ("/a?b", PatternError::Delimiter { pattern: text("/a?b"), at: 2 }),
        ("/a/:b#c", PatternError::Delimiter { pattern: text("/a/:b#c"), at: 5 }),
        ("/:", PatternError::EmptyName { pattern: text("/:"), at: 1 }),
        ("a/:/b", PatternError::EmptyName { pattern: text("/a/:/b"), at: 3 }),
        ("/:a/b/:a", PatternError::DuplicateName { pattern: text("/:a/b/:a"), at: 6 }),
        (&long, PatternError::TooManySegments { pattern: text(&long), count: MAX_SEGMENTS + 1 }),
    ] {
        let mut router = Router::new();
        let error = router.insert(Kind::any(), pattern, ()).expect_err(pattern);
        assert_eq!(error, expected, "{pattern:?}");
        assert!(error.to_string().contains(&pattern.escape_debug().to_string()), "{error}");
        assert!(error.to_string().contains("expected"), "{error}");
        assert!(router.is_empty());
        assert_eq!(router.remove(&Kind::any(), pattern), None);
    }
    assert!(size_of::<PatternError>() <= 32);
}

#[test]
fn messages_say_what_was_found() {
    let message = |pattern| Pattern::parse(pattern).expect_err("a bad pattern").to_string();
    assert!(message("/a#").ends_with("without query or fragment, found `#` at byte 2"));
    assert!(message("/:id/:id/x").ends_with("every parameter name once, found `:id` again at byte 5"));
    assert!(message("/a\n").starts_with(r#"route pattern "/a\n": "#));
}

#[test]
fn a_route_behind_a_wildcard_is_accepted_and_can_be_told() {
    for (pattern, reachable) in [("/*", true), ("/a/*b", true), ("/*/", false), ("/a/*/:b", false)] {
        assert_eq!(Pattern::parse(pattern).map(|parsed| parsed.is_reachable()), Ok(reachable), "B-RT-06");
        assert_eq!(Router::new().insert(Kind::any(), pattern, ()), Ok(None), "B-RT-06");
    }
}

#[test]
fn routes_can_be_taken_out() {
    let mut router = router(&["GET /a/:b", "GET /a/:c", "any /a/:b", "GET /a", "ws /*/x"]);
    assert_eq!(router.remove(&kind("GET"), "a/:b"), Some("GET /a/:b"), "B-RT-21");
    assert_eq!(tries(&router, "GET", "/a/7"), ["any /a/:b [7]", "GET /a/:c [7]"]);
    assert_eq!(router.remove(&kind("GET"), "/a/:b"), None);
    assert_eq!(router.remove(&kind("any"), "/a/:b"), Some("any /a/:b"));
    assert_eq!(router.insert(kind("GET"), "/a/:b", "again"), Ok(None));
    assert_eq!(tries(&router, "GET", "/a/7"), ["GET /a/:c [7]", "again [7]"], "the name was forgotten");
    assert_eq!(router.remove(&kind("ws"), "/*/x"), Some("ws /*/x"));
    assert_eq!(router.remove(&kind("ws"), "/*/y"), None);
    assert_eq!(router.len(), 3);
}

#[test]
fn many_siblings_are_found_one_by_one_and_after_removals() {
    let mut router = Router::new();
    let pattern = |number: usize| format!("/{}{number}", "name".repeat(number % 5));
    for number in 0..100 {
        assert_eq!(router.insert(kind("GET"), &pattern(number), number), Ok(None));
    }
    // A step of 37 visits all of 0..100, and leaves gaps at both ends and in between.
    for step in 0..100 {
        let gone: Vec<usize> = (0..step).map(|step| step * 37 % 100).collect();
        for number in 0..100 {
            let found = router.find(b"GET", pattern(number).as_bytes()).map(|found| *found.value);
            assert_eq!(found, (!gone.contains(&number)).then_some(number));
        }
        let next = step * 37 % 100;
        assert_eq!(router.remove(&kind("GET"), &pattern(next)), Some(next));
    }
    assert!(router.is_empty());
}

/// A list of routes that is scanned and sorted for every request: slow, and too simple for the same faults.
#[derive(Default)]
struct Oracle {
    routes: Vec<(Kind, Vec<String>, usize)>,
    /// When the beginning of a pattern, as segments after `ws` or `http`, was first seen among the living
    /// routes.
    births: HashMap<Vec<String>, usize>,
}

impl Oracle {
    /// The pattern as segments after the name of its tree.
    fn split(kind: &Kind, pattern: &str) -> Vec<String> {
        let tree = if *kind == Kind::WebSocket { "1ws" } else { "2http" };
        let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
        std::iter::once(tree).chain(pattern.split('/')).map(str::to_owned).collect()
    }

    fn insert(&mut self, kind: &Kind, pattern: &str, value: usize) -> Option<usize> {
        let segments = Self::split(kind, pattern);
        for depth in 1..=segments.len() {
            self.births.entry(segments[..depth].to_vec()).or_insert(value);
        }
        if let Some(route) = self.routes.iter_mut().find(|route| route.0 == *kind && route.1 == segments) {
            return Some(std::mem::replace(&mut route.2, value));
        }
        self.routes.push((kind.clone(), segments, value));
        None
    }

    fn remove(&mut self, kind: &Kind, pattern: &str) -> Option<usize> {
        let segments = Self::split(kind, pattern);
        let place = self.routes.iter().position(|route| route.0 == *kind && route.1 == segments)?;
        let (_, _, value) = self.routes.remove(place);
        self.births.retain(|beginning, _| self.routes.iter().any(|route| route.1.starts_with(beginning)));
        Some(value)
    }

    /// The values of the parameters with their names, or `None` when `pattern` does not match.
    fn captures(pattern: &[String], path: &[&str]) -> Option<Vec<(String, String)>> {
        let mut captured = Vec::new();
        for (depth, segment) in pattern.iter().enumerate() {
            let given = *path.get(depth)?;
            if segment.starts_with('*') {
                return (depth + 1 == pattern.len()).then_some(captured);
            }
            match segment.strip_prefix(':') {
                Some(name) if !given.is_empty() => captured.push((name.to_owned(), given.to_owned())),
                None if segment == given => {}
                _ => return None,
            }
        }
        (pattern.len() == path.len()).then_some(captured)
    }

    /// Value and captures of every candidate in order.
    fn all(&self, method: &str, path: &str) -> Vec<(usize, Vec<(String, String)>)> {
        let path: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let matching = |wanted: &str, sockets: bool| {
            let mut found: Vec<_> = Vec::new();
            for (kind, pattern, value) in &self.routes {
                // HEAD has the routes for GET after the others of their pattern.
                let place = match kind {
                    Kind::WebSocket => 0,
                    kind if *kind == Kind::method(wanted) => 0,
                    kind if *kind == Kind::any() => 1,
                    kind if wanted == "HEAD" && *kind == Kind::method("GET") => 2,
                    _ => continue,
                };
                if (*kind == Kind::WebSocket) != sockets {
                    continue;
                }
                if let Some(captured) = Self::captures(&pattern[1..], &path) {
                    found.push((self.rank(pattern), place, *value, captured));
                }
            }
            found.sort();
            found.into_iter().map(|(_, _, value, captured)| (value, captured)).collect::<Vec<_>>()
        };
        let mut candidates = if method == "GET" { matching("GET", true) } else { Vec::new() };
        candidates.extend(matching(method, false));
        candidates
    }

    /// The sort key of patterns that match the same path: at each segment its kind, then its age.
    fn rank(&self, pattern: &[String]) -> Vec<(u8, usize)> {
        let sort = |segment: &str| match segment.as_bytes().first() {
            Some(b'*') => 2,
            Some(b':') => 1,
            _ => 0,
        };
        (1..=pattern.len()).map(|depth| (sort(&pattern[depth - 1]), self.births[&pattern[..depth]])).collect()
    }
}

/// A route to insert, or to remove when the flag is set.
fn operations() -> impl Strategy<Value = Vec<(bool, &'static str, String)>> {
    let kinds = prop::sample::select(vec!["GET", "GET", "HEAD", "POST", "any", "ws"]);
    let segments = prop::sample::select(vec![
        "",
        "a",
        "b",
        "ab",
        "abcd",
        "long segment",
        "long segments",
        ":x",
        ":y",
        ":z",
        "*",
        "*z",
    ]);
    let pattern = prop::collection::vec(segments, 0..5).prop_map(|parts| parts.join("/"));
    let pattern =
        (any::<bool>(), pattern).prop_map(|(slash, text)| if slash { format!("/{text}") } else { text });
    prop::collection::vec((prop::bool::weighted(0.25), kinds, pattern), 0..40)
}

fn requests() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let methods = prop::sample::select(vec!["GET", "HEAD", "POST", "get", "ODD"]);
    let segments = prop::sample::select(vec![
        "",
        "a",
        "b",
        "c",
        "ab",
        "abcd",
        "long segment",
        "long segments",
        ":x",
        "*",
    ]);
    let path = prop::collection::vec(segments, 1..6).prop_map(|parts| format!("/{}", parts.join("/")));
    prop::collection::vec((methods, path), 1..20)
}

proptest! {
    #[test]
    fn the_search_agrees_with_a_list_of_routes(operations in operations(), requests in requests()) {
        let (mut router, mut oracle) = (Router::new(), Oracle::default());
        for (value, (remove, method, pattern)) in operations.iter().enumerate() {
            let kind = kind(method);
            if *remove {
                prop_assert_eq!(router.remove(&kind, pattern), oracle.remove(&kind, pattern));
            } else if let Ok(replaced) = router.insert(kind.clone(), pattern, value) {
                prop_assert_eq!(replaced, oracle.insert(&kind, pattern, value));
            } else {
                let names: Vec<_> = pattern.split('/').filter(|part| part.starts_with(':')).collect();
                prop_assert!((1..names.len()).any(|at| names[..at].contains(&names[at])), "refused {}", pattern);
            }
            prop_assert_eq!(router.len(), oracle.routes.len());
        }
        for (method, path) in &requests {
            let found: Vec<_> = router.all(method.as_bytes(), path.as_bytes()).map(|found| {
                let params = found.params.iter();
                let params = params.map(|(name, range)| (name.to_owned(), path[range].to_owned()));
                (*found.value, params.collect::<Vec<_>>())
            }).collect();
            prop_assert_eq!(&found, &oracle.all(method, path), "{} {}", method, path);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(
        pattern in any::<String>(),
        path in prop::collection::vec(any::<u8>(), 0..MAX_SEGMENTS),
    ) {
        let mut router = Router::new();
        if let Err(error) = router.insert(Kind::any(), &pattern, ()) {
            prop_assert!(error.to_string().contains("expected"));
        }
        router.insert(Kind::any(), "/*", ()).expect("a good pattern");
        // Shorter than the limit, so that even a path of slashes is within it.
        prop_assert!(router.find(b"GET", &path).is_some());
    }
}
