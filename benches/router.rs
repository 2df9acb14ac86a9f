//! The cost of one look-up, and its growth with the number of routes, or of domains.

use std::hint::black_box;

use criterion::Criterion;
use socketify::router::{Hosts, Kind, Router};

/// `count` routes shaped like an API: of every four, two are static, one ends in a parameter and one
/// continues after it.
fn router(count: usize) -> Router<usize> {
    let mut router = Router::new();
    for number in 0..count {
        let group = number / 4;
        let pattern = match number % 4 {
            0 => format!("/api/v1/resource{group}"),
            1 => format!("/api/v1/resource{group}/search"),
            2 => format!("/api/v1/resource{group}/:id"),
            _ => format!("/api/v1/resource{group}/:id/comments/:comment"),
        };
        let replaced = router.insert(Kind::method("GET"), &pattern, number).expect("a good pattern");
        assert!(replaced.is_none(), "every pattern is different");
    }
    router
}

/// One group of look-ups in a table of `count` routes, each at the middle of the table.
fn look_up(criterion: &mut Criterion, count: usize) {
    let router = router(count);
    let group = count / 8;
    let found =
        |path: &str| router.find(b"GET", path.as_bytes()).map(|found| (*found.value, found.params.len()));
    let cases = [
        ("find a static path", format!("/api/v1/resource{group}/search"), Some((group * 4 + 1, 0))),
        (
            "find a path with one parameter",
            format!("/api/v1/resource{group}/12345"),
            Some((group * 4 + 2, 1)),
        ),
        ("miss a path that differs at its end", format!("/api/v1/resource{group}/12345/likes"), None),
    ];
    for (name, path, expected) in cases {
        assert_eq!(found(&path), expected, "{path}");
        criterion.bench_function(&format!("{name} among {count} routes"), |bencher| {
            bencher.iter(|| router.find(black_box(b"GET"), black_box(path.as_bytes())));
        });
    }
}

/// Hosts among `count` names and one pattern.
fn choose(criterion: &mut Criterion, count: usize) {
    let mut hosts = Hosts::new();
    for number in 0..count {
        *hosts.entry(&format!("site{number}.example.com")).expect("a good name") = number;
    }
    *hosts.entry("*.example.com").expect("a good name") = count;
    let cases = [
        ("choose a domain by its name", format!("site{}.example.com:8080", count / 2), Some(count / 2)),
        ("choose a domain by its pattern", "www.example.com".to_owned(), Some(count)),
        ("choose no domain", "www.other.example.org".to_owned(), None),
    ];
    for (name, host, expected) in cases {
        assert_eq!(hosts.find(host.as_bytes()).copied(), expected, "{host}");
        criterion.bench_function(&format!("{name} among {count}"), |bencher| {
            bencher.iter(|| hosts.find(black_box(host.as_bytes())));
        });
    }
}

// Without criterion's macros: a plain `main` lists the benchmarks in order.
fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for count in [10, 100, 1000] {
        look_up(&mut criterion, count);
    }
    for count in [1, 1000] {
        choose(&mut criterion, count);
    }
    criterion.final_summary();
}
