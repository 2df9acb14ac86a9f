//! Loading of keys, certificates and settings, names, and reloading: accepted and refused input, and the
//! error messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its files has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use socketify::tls::{Certificates, ClientCert, Error, MinVersion, Settings, subject};

/// A directory that is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("socketify-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs the `openssl` tool there.
    fn openssl(&self, arguments: &str) {
        let result =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.0).output().unwrap();
        assert!(result.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&result.stderr));
    }

    /// A certificate for `name` and its key, in files that are named after it.
    fn pair(&self, name: &str) -> Settings {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Settings {
            key_file_name: Some(self.write(&format!("{name}.key"), &key.serialize_pem())),
            cert_file_name: Some(self.write(&format!("{name}.pem"), &certificate.pem())),
            ..Settings::default()
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn passphrase(text: &str) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(text.to_owned())
}

/// The name of a file in errors.
fn named(file: &Path) -> String {
    format!("{:?}", file.to_string_lossy())
}

fn error(settings: &Settings) -> String {
    settings.load().err().map(|error| error.to_string()).unwrap()
}

/// The error names the file, and contains all of `words`.
fn assert_says(settings: &Settings, file: &Path, words: &[&str]) {
    let text = error(settings);
    assert!(text.contains(&named(file)), "{text} does not name {}", named(file));
    for word in words {
        assert!(text.contains(word), "{text} does not say {word:?}");
    }
}

#[test]
fn keys_of_every_kind_and_form() {
    let place = Place::new("keys");
    for (name, algorithm) in
        [("p256", &PKCS_ECDSA_P256_SHA256), ("p384", &PKCS_ECDSA_P384_SHA384), ("ed25519", &PKCS_ED25519)]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(["x.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let settings = Settings {
            key_file_name: Some(place.write(&format!("{name}.key"), &key.serialize_pem())),
            cert_file_name: Some(place.write(&format!("{name}.pem"), &certificate.pem())),
            ..Settings::default()
        };
        settings.load().unwrap();
    }
}

/// The output of `openssl`, plain and encrypted, with present and with old options.
#[test]
fn keys_as_openssl_writes_them() {
    let place = Place::new("openssl");
    for kind in ["rsa", "ec"] {
        if kind == "rsa" {
            place.openssl("genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key");
        } else {
            place.openssl("ecparam -genkey -name prime256v1 -noout -out ec.key");
        }
        place.openssl(&format!("req -x509 -key {kind}.key -subj /CN=x.test -days 2 -out {kind}.pem"));
        let traditional = if kind == "rsa" { "-traditional" } else { "" };
        let mut forms = vec![
            ("pkcs8", format!("pkcs8 -topk8 -nocrypt -in {kind}.key"), false),
            ("plain", format!("{kind} -in {kind}.key {traditional}"), false),
        ];
        for cipher in ["aes128", "aes192", "aes256", "des3"] {
            forms.push((
                cipher,
                format!("{kind} -in {kind}.key {traditional} -{cipher} -passout pass:1234"),
                true,
            ));
        }
        for (name, options) in [
            ("v2-aes256", "-v2 aes-256-cbc"),
            ("v2-aes128", "-v2 aes-128-cbc -v2prf hmacWithSHA1"),
            ("v2-des3", "-v2 des3"),
            ("scrypt", "-scrypt -scrypt_N 1024"),
        ] {
            forms.push((name, format!("pkcs8 -topk8 {options} -passout pass:1234 -in {kind}.key"), true));
        }
        for (name, command, encrypted) in forms {
            let file = format!("{kind}-{name}.key");
            place.openssl(&format!("{command} -out {file}"));
            let mut settings = Settings {
                key_file_name: Some(place.path(&file)),
                cert_file_name: Some(place.path(&format!("{kind}.pem"))),
                passphrase: Some(passphrase("1234")),
                ..Settings::default()
            };
            if let Err(error) = settings.load() {
                panic!("{file}: {error}");
            }
            if encrypted {
                for wrong in ["12345", ""] {
                    settings.passphrase = Some(passphrase(wrong));
                    assert_says(&settings, &place.path(&file), &["the passphrase is wrong"]);
                }
                settings.passphrase = None;
                assert_says(&settings, &place.path(&file), &["encrypted", "a passphrase is needed"]);
            }
        }
    }
}

/// `openssl pkcs8` wrote PBES1 with MD5 and DES until 1.1; today it needs the legacy provider.
#[test]
fn keys_of_old_openssl() {
    let place = Place::new("old");
    place.openssl("ecparam -genkey -name prime256v1 -noout -out ec.key");
    place.openssl("req -x509 -key ec.key -subj /CN=x.test -days 2 -out ec.pem");
    for scheme in ["PBE-MD5-DES", "PBE-SHA1-DES"] {
        let providers = "-provider legacy -provider default";
        place.openssl(&format!(
            "pkcs8 -topk8 -v1 {scheme} -passout pass:1234 -in ec.key -out old.key {providers}"
        ));
        let mut settings = Settings {
            key_file_name: Some(place.path("old.key")),
            cert_file_name: Some(place.path("ec.pem")),
            passphrase: Some(passphrase("1234")),
            ..Settings::default()
        };
        settings.load().unwrap();
        settings.passphrase = Some(passphrase("4321"));
        assert_says(&settings, &place.path("old.key"), &["the passphrase is wrong"]);
    }
    place.openssl("pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:1234 -in ec.key -out pkcs12.key");
    let settings = Settings {
        key_file_name: Some(place.path("pkcs12.key")),
        cert_file_name: Some(place.path("ec.pem")),
        passphrase: Some(passphrase("1234")),
        ..Settings::default()
    };
    assert_says(&settings, &place.path("pkcs12.key"), &["not supported", "openssl pkcs8 -topk8 -v2"]);
}

#[test]
fn a_certificate_of_version_1_serves() {
    let place = Place::new("v1");
    place.openssl("ecparam -genkey -name prime256v1 -noout -out ec.key");
    place.openssl("req -new -key ec.key -subj /CN=x.test -out ec.csr");
    place.openssl("x509 -req -in ec.csr -signkey ec.key -days 2 -out ec.pem");
    let settings = Settings {
        key_file_name: Some(place.path("ec.key")),
        cert_file_name: Some(place.path("ec.pem")),
        ..Settings::default()
    };
    settings.load().unwrap();
}

#[test]
fn every_wrong_file_is_named_with_its_reason() {
    let place = Place::new("wrong");
    let good = place.pair("good.test");
    let other = place.pair("other.test");
    let (good_key, good_pem) = (good.key_file_name.clone().unwrap(), good.cert_file_name.clone().unwrap());
    let (missing, text) = (place.path("missing.pem"), place.write("text.pem", "hello"));
    let broken = place.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cut = place.write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");

    let key = |path: &Path| Settings { key_file_name: Some(path.into()), ..good.clone() };
    assert_says(&key(&missing), &missing, &["key_file_name", "cannot be read", "No such file"]);
    assert_says(&key(&place.0), &place.0, &["cannot be read", "Is a directory"]);
    assert_says(&key(&text), &text, &["has no private key", "no PEM section"]);
    assert_says(&key(&good_pem), &good_pem, &["has no private key", "CERTIFICATE"]);
    let other_key = other.key_file_name.clone().unwrap();
    assert_says(&key(&other_key), &other_key, &["does not match", &named(&good_pem)]);

    let certificate = |path: &Path| Settings { cert_file_name: Some(path.into()), ..good.clone() };
    assert_says(&certificate(&missing), &missing, &["cert_file_name", "No such file"]);
    assert_says(&certificate(&text), &text, &["has no certificate", "no PEM section"]);
    assert_says(&certificate(&good_key), &good_key, &["has no certificate", "PRIVATE KEY"]);
    assert_says(&certificate(&broken), &broken, &["number 1 is malformed"]);
    assert_says(&certificate(&cut), &cut, &["not PEM", "-----END CERTIFICATE----- is missing"]);

    let authorities = |path: &Path| Settings { ca_file_name: Some(path.into()), ..good.clone() };
    assert_says(&authorities(&missing), &missing, &["ca_file_name", "No such file"]);
    assert_says(&authorities(&good_key), &good_key, &["has no certificate"]);

    let parameters = |path: &Path| Settings { dh_params_file_name: Some(path.into()), ..good.clone() };
    assert_says(&parameters(&missing), &missing, &["dh_params_file_name", "No such file"]);
    assert_says(&parameters(&good_pem), &good_pem, &["no Diffie-Hellman parameters", "CERTIFICATE"]);

    let alone = Settings { cert_file_name: None, ..good.clone() };
    assert_says(&alone, &good_key, &["without cert_file_name"]);
    let alone = Settings { key_file_name: None, ..good.clone() };
    assert_says(&alone, &good_pem, &["without key_file_name"]);
}

#[test]
fn keys_that_tls_does_not_use() {
    let place = Place::new("unused");
    place.openssl("genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key");
    place.openssl("req -x509 -key weak.key -subj /CN=x.test -days 2 -out weak.pem");
    let weak = place.path("weak.key");
    let settings = Settings {
        key_file_name: Some(weak.clone()),
        cert_file_name: Some(place.path("weak.pem")),
        ..Settings::default()
    };
    assert_says(&settings, &weak, &["not supported", "RSA of 2048 to 8192 bits"]);
    let dsa =
        place.write("dsa.key", "-----BEGIN DSA PRIVATE KEY-----\nMAA=\n-----END DSA PRIVATE KEY-----\n");
    assert_says(
        &Settings { key_file_name: Some(dsa.clone()), ..settings },
        &dsa,
        &["not supported", "DSA PRIVATE KEY"],
    );
}

#[test]
fn options_are_checked() {
    let place = Place::new("options");
    let good = place.pair("good.test");
    for wanted in [ClientCert::Required, ClientCert::Optional] {
        let text = error(&Settings { client_cert: Some(wanted), ..good.clone() });
        assert!(text.contains(wanted.as_str()) && text.contains("needs ca_file_name"), "{text}");
    }
    Settings { client_cert: Some(ClientCert::None), ..good.clone() }.load().unwrap();
    assert!(
        "maybe"
            .parse::<ClientCert>()
            .unwrap_err()
            .to_string()
            .contains("'none', 'optional' or 'required', not \"maybe\"")
    );
    assert!("1.1".parse::<MinVersion>().unwrap_err().to_string().contains("'1.2' or '1.3', not \"1.1\""));

    let ciphers = |list: &str| Settings { ssl_ciphers: Some(list.into()), ..good.clone() };
    assert!(error(&ciphers("ECDHE-RSA-AES128-GCM-SHA256:NONSENSE")).contains("no cipher \"NONSENSE\""));
    let config = ciphers("ECDHE-ECDSA-AES128-GCM-SHA256").load().unwrap();
    assert!(config.ignore_client_order);
    assert_eq!(config.crypto_provider().cipher_suites.len(), 4);
    // A list of TLS 1.2 alone leaves TLS 1.3 on; one of TLS 1.3 alone has nothing for TLS 1.2.
    Settings { min_version: MinVersion::Tls13, ..ciphers("ECDHE-ECDSA-AES128-GCM-SHA256") }.load().unwrap();
    ciphers("TLS_AES_128_GCM_SHA256").load().unwrap();

    let protocols = |http2| Settings { http2, ..good.clone() }.load().unwrap().alpn_protocols.clone();
    assert_eq!(protocols(true), [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(protocols(false), [b"http/1.1".to_vec()]);
}

#[test]
fn the_passphrase_is_not_printed() {
    let settings = Settings { passphrase: Some(passphrase("hunter2")), ..Settings::default() };
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn remarks_are_no_errors() {
    let place = Place::new("remarks");
    let mut settings = place.pair("good.test");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(["old.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    settings.key_file_name = Some(place.write("old.key", &key.serialize_pem()));
    settings.cert_file_name = Some(place.write("old.pem", &params.self_signed(&key).unwrap().pem()));
    settings.dh_params_file_name =
        Some(place.write("dh.pem", "-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n"));
    let certificates = Certificates::new(settings).unwrap();
    let remarks = certificates.take_remarks();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks[0].contains("dh.pem") && remarks[0].contains("not used"));
    assert!(remarks[1].contains("old.pem") && remarks[1].contains("expired on 2002-01-01"));
    assert!(certificates.take_remarks().is_empty());
    certificates.reload().unwrap();
    assert_eq!(certificates.take_remarks().len(), 2);
}

/// B-TL-07, B-TL-09 and B-TL-10: which configuration a client gets.
#[test]
fn names_are_matched() {
    let place = Place::new("names");
    let certificates = Certificates::new(place.pair("default.test")).unwrap();
    assert!(!certificates.has_names());
    assert!(certificates.add("One.Test", Some(place.pair("one.test"))).unwrap());
    assert!(certificates.add("*.one.test", Some(place.pair("any.test"))).unwrap());
    assert!(certificates.add("www.one.test", None).unwrap());
    assert!(certificates.has_names());

    let name = |asked| certificates.select(asked).name.map(|name| name.to_string());
    assert_eq!(name(Some("one.test")).as_deref(), Some("one.test"));
    assert_eq!(name(Some("ONE.test")).as_deref(), Some("one.test"));
    assert_eq!(name(Some("a.one.test")).as_deref(), Some("*.one.test"));
    assert_eq!(name(Some("www.one.test")).as_deref(), Some("www.one.test"));
    assert_eq!(name(Some("a.b.one.test")), None);
    assert_eq!(name(Some("two.test")), None);
    assert_eq!(name(None), None);
    assert!(certificates.knows("x.one.test") && !certificates.knows("two.test"));

    let config = |asked: &str| certificates.select(Some(asked)).config;
    assert!(!Arc::ptr_eq(&config("one.test"), &config("a.one.test")));
    // Without settings: like a client that asks for no name.
    assert!(Arc::ptr_eq(&config("www.one.test"), &certificates.select(None).config));

    // A second registration changes nothing, and a removed name may come again.
    assert!(!certificates.add("one.TEST", None).unwrap());
    assert!(certificates.remove("ONE.test"));
    assert!(!certificates.remove("one.test") && !certificates.remove("no name"));
    assert_eq!(name(Some("one.test")), None);
    assert!(certificates.add("one.test", None).unwrap());
}

#[test]
fn a_name_with_settings_alone_has_the_default_certificate() {
    let place = Place::new("inherit");
    let default = place.pair("default.test");
    let certificates = Certificates::new(default.clone()).unwrap();
    let own = Settings {
        ca_file_name: default.cert_file_name,
        client_cert: Some(ClientCert::Required),
        ..Settings::default()
    };
    assert!(certificates.add("one.test", Some(own)).unwrap());
    let selected = certificates.select(Some("one.test"));
    assert!(!Arc::ptr_eq(&selected.config, &certificates.select(None).config));
}

#[test]
fn names_that_are_none_are_refused() {
    let certificates = Certificates::new(Settings::default()).unwrap();
    for name in ["", "a..b", "https://a.test", "a.test:443", "a*.test", "a b"] {
        assert!(matches!(certificates.add(name, None), Err(Error::Name(_))), "{name:?}");
    }
    assert!(!certificates.has_names());
}

#[test]
fn reloading_takes_all_or_nothing() {
    let place = Place::new("reload");
    let certificates = Certificates::new(place.pair("default.test")).unwrap();
    certificates.add("one.test", Some(place.pair("one.test"))).unwrap();
    let configs = || [None, Some("one.test")].map(|name| certificates.select(name).config);
    let [default, one] = configs();

    place.pair("default.test");
    place.write("one.test.pem", "nonsense");
    let text = certificates.reload().unwrap_err().to_string();
    assert!(text.contains("server name \"one.test\"") && text.contains("one.test.pem"), "{text}");
    let [same_default, same_one] = configs();
    assert!(Arc::ptr_eq(&default, &same_default) && Arc::ptr_eq(&one, &same_one));

    place.pair("one.test");
    certificates.reload().unwrap();
    let [new_default, new_one] = configs();
    assert!(!Arc::ptr_eq(&default, &new_default) && !Arc::ptr_eq(&one, &new_one));
    assert_eq!(certificates.select(Some("one.test")).name.as_deref(), Some("one.test"));
}

/// A resumed session shows no certificate, so tickets are valid only while the rules for client certificates
/// are the same.
#[test]
fn tickets_outlive_a_reload_and_no_change_of_policy() {
    let place = Place::new("tickets");
    let mut settings = place.pair("default.test");
    settings.ca_file_name = Some(place.path("ca.pem"));
    let authority = |name: &str| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        place.write("ca.pem", &CertifiedIssuer::self_signed(params, key).unwrap().pem());
    };
    authority("first");
    let certificates = Certificates::new(settings.clone()).unwrap();
    certificates.add("one.test", Some(settings)).unwrap();
    let ticket = certificates.select(None).config.ticketer.encrypt(b"session").unwrap();
    let opened = |name| certificates.select(name).config.ticketer.decrypt(&ticket);
    assert_eq!(opened(None).as_deref(), Some(&b"session"[..]));
    assert_eq!(opened(Some("one.test")), None);
    certificates.reload().unwrap();
    assert_eq!(opened(None).as_deref(), Some(&b"session"[..]));
    authority("second");
    certificates.reload().unwrap();
    assert_eq!(opened(None), None);
}

/// A registration lasts until its name is removed: a reload does not end it, and another one of the same name
/// is different.
#[test]
fn registrations() {
    let place = Place::new("registrations");
    let certificates = Certificates::new(place.pair("localhost")).unwrap();
    for name in ["one.test", "*.one.test", "two.test"] {
        assert!(certificates.add(name, None).unwrap());
    }
    let one = certificates.select(Some("one.test")).name.unwrap();
    let any = certificates.select(Some("www.one.test")).name.unwrap();
    certificates.reload().unwrap();
    for host in [None, Some(&b"One.test:443"[..]), Some(b"127.0.0.1:443"), Some(b"[::1]")] {
        assert!(certificates.stands_for(&one, host), "{host:?}");
    }
    for host in ["two.test", "www.one.test", "none.test", "none test", ""] {
        assert!(!certificates.stands_for(&one, Some(host.as_bytes())), "{host:?}");
    }
    assert!(certificates.stands_for(&any, Some(b"api.one.test")));
    certificates.remove("one.test");
    assert!(!certificates.stands_for(&one, None));
    certificates.add("one.test", None).unwrap();
    assert!(!certificates.stands_for(&one, None));
    assert!(certificates.stands_for(&any, None));
}

/// A prepared name is known only after its commit, and once.
#[test]
fn two_halves_of_a_registration() {
    let place = Place::new("halves");
    let certificates = Certificates::new(place.pair("localhost")).unwrap();
    let prepare = || certificates.prepare("one.test", None).unwrap();
    let (first, second) = (prepare().unwrap().0, prepare().unwrap().0);
    assert!(!certificates.knows("one.test"));
    let mut before = None;
    assert!(certificates.commit(first, || before = Some(certificates.knows("one.test"))).unwrap());
    assert_eq!(before, Some(false));
    assert!(!certificates.commit(second, || panic!("it is there")).unwrap());
    assert!(prepare().is_none());
}

/// RFC 4514: the last part first, and no value looks like another part.
#[test]
fn subjects_as_text() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "DE");
    params.distinguished_name.push(DnType::OrganizationName, "A, B + \"C\"");
    params.distinguished_name.push(DnType::CommonName, "älice,CN=root");
    let der = params.self_signed(&key).unwrap();
    assert_eq!(subject(der.der()).as_deref(), Some(r#"CN=älice\,CN=root,O=A\, B \+ \"C\",C=DE"#));
    assert_eq!(subject(b"nonsense"), None);
    assert_eq!(subject(b""), None);
}
