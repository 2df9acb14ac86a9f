//! Trusted peers: proxies, by their networks.
//!
//! One list for all claims of a proxy: the PROXY preface, `Forwarded` and `X-Forwarded-For`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A name that is neither a network nor one of the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{entry:?} is no network: expected one such as 10.0.0.0/8 or fd00::/8, an address, \"unix\" or \"*\""
)]
pub struct TrustError {
    /// The refused entry.
    pub entry: Box<str>,
}

/// The trusted peers. `Default` is loopback and Unix sockets: peers on this machine.
///
/// Private networks are not among them. In a container every client may seem to come from one, through the
/// gateway's address translation, and the server would believe all its claims.
///
/// ```
/// use socketify::http::trust::Trust;
///
/// let trust = Trust::parse(["10.0.0.0/8", "unix"])?;
/// assert!(trust.includes(Some("10.1.2.3".parse().unwrap())));
/// assert!(trust.includes(Some("::ffff:10.1.2.3".parse().unwrap())));
/// assert!(trust.includes(None));
/// assert!(!trust.includes(Some("192.0.2.1".parse().unwrap())));
/// # Ok::<(), socketify::http::trust::TrustError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    networks: Vec<IpNet>,
    unix: bool,
}

impl Default for Trust {
    fn default() -> Self {
        // Neither prefix is too long, so no default gets lost.
        let loopback = [
            Ipv4Net::new(Ipv4Addr::LOCALHOST, 8).map(IpNet::from),
            Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).map(IpNet::from),
        ];
        Self { networks: loopback.into_iter().flatten().collect(), unix: true }
    }
}

impl Trust {
    /// The peers in a list: networks, addresses, `unix` for peers on a Unix socket, `*` for everybody.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, TrustError> {
        let mut trust = Self { networks: Vec::new(), unix: false };
        for entry in entries {
            let entry = entry.as_ref().trim();
            match entry {
                "unix" => trust.unix = true,
                "*" => {
                    trust.unix = true;
                    trust.networks.extend([IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()]);
                }
                _ => trust.networks.push(network(entry).ok_or_else(|| TrustError { entry: entry.into() })?),
            }
        }
        Ok(trust)
    }

    /// Whether a peer is trusted; `None` is a peer on a Unix socket. An IPv4 address also counts in its IPv6
    /// form, which listeners of both families report.
    pub fn includes(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer else { return self.unix };
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }
}

fn network(entry: &str) -> Option<IpNet> {
    let network = match entry.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => entry.parse::<IpNet>().ok()?,
    };
    // Peers are compared in canonical form, so networks need it too.
    match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
            Some(address) => Ipv4Net::new(address, mapped.prefix_len() - 96).map(IpNet::from).ok(),
            None => Some(network),
        },
        _ => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(entries: &[&str], peer: &str) -> bool {
        Trust::parse(entries).unwrap().includes(Some(peer.parse().unwrap()))
    }

    #[test]
    fn networks_hold_their_addresses_in_both_forms() {
        for (entry, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.1"),
        ] {
            assert!(includes(&[entry], inside), "{inside} in {entry}");
            assert!(!includes(&[entry], outside), "{outside} in {entry}");
        }
    }

    #[test]
    fn words() {
        assert!(includes(&["*"], "203.0.113.1") && includes(&["*"], "2001:db8::1"));
        for (entries, unix) in [(&["*"][..], true), (&["unix"], true), (&["0.0.0.0/0"], false), (&[], false)]
        {
            assert_eq!(Trust::parse(entries).unwrap().includes(None), unix, "{entries:?}");
        }
    }

    #[test]
    fn the_default_is_this_machine() {
        let trust = Trust::default();
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(trust.includes(Some(peer.parse().unwrap())), "{peer}");
        }
        for peer in ["10.0.0.1", "192.168.1.1", "172.17.0.1", "203.0.113.1", "::2", "::ffff:10.0.0.1"] {
            assert!(!trust.includes(Some(peer.parse().unwrap())), "{peer}");
        }
        assert!(trust.includes(None));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for entry in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "10.0.0.0/-1",
            "::/129",
            "localhost",
            "Unix",
            "10.0.0.1:80",
            "[::1]",
        ] {
            let error = Trust::parse(["::1", entry]).unwrap_err();
            assert_eq!(&*error.entry, entry);
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }
}
