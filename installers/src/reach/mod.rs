//! Can this machine reach a host? Name, connection, TLS and answer, each told apart; through a proxy if the agent has one.

pub mod imds;
pub mod nearest;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use reqwest::Client;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::tls::{self, Trust};

/// How hosts are reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Whom the machine trusts.
    pub trust: Trust,
    /// The agent's proxy and the hosts that it reaches without.
    pub proxy: Option<(String, String)>,
    /// For a name, a connection and an answer each.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered(Answer),
    /// Its name has no address.
    NoName(String),
    /// Nobody took the connection.
    NoConnection(String),
    /// Its certificate is not trusted here, or TLS failed otherwise.
    NoTls(String),
    /// By this machine's clock its certificate is not valid yet, or not any more.
    NotNow(String),
    /// The proxy did not let us through.
    NoProxy(String),
    /// Connected, and then silence or nonsense.
    NoAnswer(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its address; none behind a proxy.
    pub address: Option<IpAddr>,
    /// The HTTP status.
    pub status: u16,
    /// Its clock, seconds since 1970.
    pub date: Option<i64>,
    /// From the first packet to the answer, the name not counted.
    pub took: Duration,
}

impl Answer {
    /// Whether the address is of a private network: a VPC endpoint's.
    pub fn is_private(&self) -> bool {
        match self.address {
            Some(IpAddr::V4(address)) => {
                address.is_private() || address.is_loopback() || address.is_link_local()
            }
            Some(IpAddr::V6(address)) => address.is_unique_local() || address.is_loopback(),
            None => false,
        }
    }
}

/// A host as endpoints are written: `host`, `host:port` or either after `https://`; what follows is left out.
pub fn split_host(endpoint: &str) -> (&str, u16) {
    let host = endpoint.strip_prefix("https://").unwrap_or(endpoint);
    let (host, _) = host.split_once('/').unwrap_or((host, ""));
    match host.split_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(443)),
        None => (host, 443),
    }
}

impl Reach {
    /// Asks `https://HOST/`, or the path after it, once.
    pub async fn ask(&self, endpoint: &str) -> Outcome {
        let (host, port) = split_host(endpoint);
        let bare = endpoint.strip_prefix("https://").unwrap_or(endpoint);
        let path = bare.split_once('/').map_or("", |(_, path)| path);
        if self.is_proxied(host, port) {
            return self.request(host, port, path, None).await;
        }
        let address = match self.connect(host, port).await {
            Ok(address) => address,
            Err(outcome) => return outcome,
        };
        self.request(host, port, path, Some(address)).await
    }

    fn is_proxied(&self, host: &str, port: u16) -> bool {
        let Some((_, no_proxy)) = &self.proxy else {
            return false;
        };
        !no_proxy
            .split(',')
            .any(|one| is_excepted(&one.trim().to_ascii_lowercase(), host, port))
    }

    /// The first address that takes a connection.
    async fn connect(&self, host: &str, port: u16) -> Result<SocketAddr, Outcome> {
        let within = |error: &io::Error| error.to_string();
        let looked = tokio::time::timeout(self.timeout, tokio::net::lookup_host((host, port))).await;
        let addresses: Vec<SocketAddr> = match looked {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return Err(Outcome::NoName(within(&error))),
            Err(_) => return Err(Outcome::NoName("no resolver answered".to_owned())),
        };
        let mut why = "its name has no address".to_owned();
        for address in &addresses {
            match tokio::time::timeout(self.timeout, tokio::net::TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(*address),
                Ok(Err(error)) => why = format!("{}: {}", address.ip(), within(&error)),
                Err(_) => why = format!("{}: no answer", address.ip()),
            }
        }
        match addresses.is_empty() {
            true => Err(Outcome::NoName(why)),
            false => Err(Outcome::NoConnection(why)),
        }
    }

    async fn request(&self, host: &str, port: u16, path: &str, address: Option<SocketAddr>) -> Outcome {
        let client = match self.client(host, address) {
            Ok(client) => client,
            Err(why) => return Outcome::NoAnswer(why),
        };
        let started = Instant::now();
        match client.get(format!("https://{host}:{port}/{path}")).send().await {
            Ok(response) => Outcome::Answered(Answer {
                address: address.map(|address| address.ip()),
                status: response.status().as_u16(),
                date: date(&response),
                took: started.elapsed(),
            }),
            Err(error) => self.blame(&error, address.is_none()),
        }
    }

    fn client(&self, host: &str, address: Option<SocketAddr>) -> Result<Client, String> {
        let tls = tls::config(&self.trust).map_err(|error| error.to_string())?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(self.timeout)
            .user_agent(concat!("ssmbake/", env!("CARGO_PKG_VERSION")));
        builder = match (address, &self.proxy) {
            (Some(address), _) => builder.resolve(host, address),
            (None, Some((url, _))) => {
                let proxy = reqwest::Proxy::https(url).map_err(|error| error.to_string())?;
                builder.proxy(proxy)
            }
            (None, None) => builder,
        };
        builder.build().map_err(|error| error.to_string())
    }

    fn blame(&self, error: &reqwest::Error, is_proxied: bool) -> Outcome {
        let why = chain(error);
        if is_of_time(error) {
            return Outcome::NotNow(why);
        }
        let is_tls = ["certificate", "tls", "handshake", "UnknownIssuer"]
            .iter()
            .any(|word| why.contains(word));
        match (is_tls, is_proxied) {
            (true, _) => Outcome::NoTls(why),
            (false, true) => Outcome::NoProxy(why),
            (false, false) => Outcome::NoAnswer(why),
        }
    }
}

/// When a server thinks that it answered, seconds since 1970.
fn date(response: &reqwest::Response) -> Option<i64> {
    let text = response.headers().get("date")?.to_str().ok()?;
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(date.unix_timestamp())
}

/// Whether an entry of NO_PROXY, in lower case, is for this host: as Go reads it, for the agent does.
fn is_excepted(entry: &str, host: &str, port: u16) -> bool {
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, of_port)) if !name.contains(':') => (name, Some(of_port)),
        _ => (entry, None),
    };
    if of_port.is_some_and(|of_port| of_port.parse() != Ok(port)) {
        return false;
    }
    if let (Ok(address), Some((base, bits))) = (host.parse::<IpAddr>(), name.split_once('/')) {
        return base.parse().is_ok_and(|base| is_within(address, base, bits));
    }
    // `*.b` is for names below b, as `.b` is; plain `b` is for b too.
    let name = name
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(name);
    match name.strip_prefix('.') {
        _ if name == "*" => true,
        Some(_) => name.len() > 1 && host.ends_with(name),
        None => !name.is_empty() && (host == name || host.ends_with(&format!(".{name}"))),
    }
}

/// Whether `address` is in the network `base/bits`.
fn is_within(address: IpAddr, base: IpAddr, bits: &str) -> bool {
    let (a, b, size) = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    match bits.parse::<u32>() {
        Ok(0) => true,
        Ok(bits) if bits <= size => a >> (size - bits) == b >> (size - bits),
        _ => false,
    }
}

/// Whether a certificate failed for the time alone; the verifier of Windows says it in words.
fn is_of_time(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(one) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = one.downcast_ref() {
            use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
            return matches!(
                why,
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
            );
        }
        // `source` of an I/O error leaves out the error inside.
        let inside = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => one.source(),
        };
    }
    false
}

/// What the innermost error says, which is what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_the_agent_reads_them() {
        assert_eq!(split_host("a.example"), ("a.example", 443));
        assert_eq!(split_host("https://a.example:8443/"), ("a.example", 8443));
        assert_eq!(split_host("a.example/b.c"), ("a.example", 443));
    }

    #[test]
    fn proxies_have_exceptions() {
        let reach = Reach {
            trust: Trust::Only(Vec::new()),
            proxy: Some((
                "http://p:1".to_owned(),
                "169.254.169.254, .example.com,b".to_owned(),
            )),
            timeout: Duration::from_secs(1),
        };
        assert!(
            reach.is_proxied("ssm.eu-west-1.amazonaws.com", 443) && reach.is_proxied("xexample.com", 443)
        );
        assert!(!reach.is_proxied("a.example.com", 443) && !reach.is_proxied("b", 443));
        for (entry, host, port, excepted) in [
            ("*", "a.example.com", 443, true),
            ("example.com:443", "a.example.com", 443, true),
            ("example.com:8443", "a.example.com", 443, false),
            ("*.example.com", "a.example.com", 443, true),
            (".example.com", "example.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("10.0.0.0/99", "10.1.2.3", 443, false),
            ("fd00::/8", "fd12::1", 443, true),
            ("", "a.example.com", 443, false),
        ] {
            assert_eq!(is_excepted(entry, host, port), excepted, "{entry} {host}:{port}");
        }
    }
}
