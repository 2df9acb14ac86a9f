//! Foreign text and bytes in TLS: cipher lists, and the name in a client's certificate.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::tls::{ciphers, subject};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Ciphers(&'a str),
    Certificate(&'a [u8]),
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Ciphers(list) => {
        let Ok(chosen) = ciphers::parse(list) else { return };
        assert!(!chosen.is_empty(), "a server without ciphers");
        let names: Vec<&str> = chosen
            .iter()
            .map(|&suite| ciphers::name(suite).expect("only what is served is chosen"))
            .collect();
        let once: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "{names:?}");
        // A list of the names alone chooses the same ciphers in the same order, unless it leaves TLS 1.3 to
        // the default.
        if names.iter().any(|name| name.starts_with("TLS_")) {
            assert_eq!(ciphers::parse(&names.join(":")).ok(), Some(chosen));
        }
    }
    Input::Certificate(der) => {
        let Some(name) = subject(der) else { return };
        assert!(!name.contains(['\n', '\r', '\0']), "{name:?}");
    }
});
