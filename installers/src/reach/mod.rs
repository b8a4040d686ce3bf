//! Can this machine reach a host? Name, connection, TLS and answer, each told apart; through a proxy if the agent has one.

pub mod imds;
pub mod nearest;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use reqwest::{Client, NoProxy};
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

/// A host as endpoints are written: `host`, `host:port` or either after `https://`.
pub fn split_host(endpoint: &str) -> (&str, u16) {
    let host = endpoint
        .strip_prefix("https://")
        .unwrap_or(endpoint)
        .trim_end_matches('/');
    match host.split_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(443)),
        None => (host, 443),
    }
}

impl Reach {
    /// Asks `https://HOST/` once.
    pub async fn ask(&self, endpoint: &str) -> Outcome {
        let (host, port) = split_host(endpoint);
        if self.is_proxied(host) {
            return self.request(host, port, None).await;
        }
        let address = match self.connect(host, port).await {
            Ok(address) => address,
            Err(outcome) => return outcome,
        };
        self.request(host, port, Some(address)).await
    }

    fn is_proxied(&self, host: &str) -> bool {
        let Some((_, no_proxy)) = &self.proxy else {
            return false;
        };
        !no_proxy
            .split(',')
            .map(|one| one.trim().trim_start_matches('.'))
            .filter(|one| !one.is_empty())
            .any(|one| host == one || host.ends_with(&format!(".{one}")))
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

    async fn request(&self, host: &str, port: u16, address: Option<SocketAddr>) -> Outcome {
        let client = match self.client(host, address) {
            Ok(client) => client,
            Err(why) => return Outcome::NoAnswer(why),
        };
        let started = Instant::now();
        match client.get(format!("https://{host}:{port}/")).send().await {
            Ok(response) => {
                let date = response.headers().get("date").and_then(|date| date.to_str().ok());
                Outcome::Answered(Answer {
                    address: address.map(|address| address.ip()),
                    status: response.status().as_u16(),
                    date: date
                        .and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok())
                        .map(OffsetDateTime::unix_timestamp),
                    took: started.elapsed(),
                })
            }
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
            (None, Some((url, no_proxy))) => {
                let proxy = reqwest::Proxy::https(url).map_err(|error| error.to_string())?;
                builder.proxy(proxy.no_proxy(NoProxy::from_string(no_proxy)))
            }
            (None, None) => builder,
        };
        builder.build().map_err(|error| error.to_string())
    }

    fn blame(&self, error: &reqwest::Error, is_proxied: bool) -> Outcome {
        let why = chain(error);
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
        assert!(reach.is_proxied("ssm.eu-west-1.amazonaws.com") && reach.is_proxied("xexample.com"));
        assert!(!reach.is_proxied("a.example.com") && !reach.is_proxied("b"));
    }
}
