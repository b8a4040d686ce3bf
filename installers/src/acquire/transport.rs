//! The one door to the network: HTTPS with limits on everything that comes from outside.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, NoProxy, Response, StatusCode, redirect};
use url::Url;

use super::Origin;
use super::address::{self, Secret};
use crate::interrupt::Interrupt;
use crate::tls::{self, Trust};

const REDIRECTS: usize = 5;
pub(crate) const CONNECT: Duration = Duration::from_secs(15);
pub(crate) const STALL: Duration = Duration::from_secs(30);
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
const BACK_OFF_LAST: Duration = Duration::from_secs(20);

/// Proxies, as the user or the environment named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// For https URLs.
    pub https: Option<String>,
    /// For http URLs.
    pub http: Option<String>,
    /// Hosts to reach directly, comma-separated.
    pub no_proxy: Option<String>,
}

/// How to reach servers.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// Trust anchors, DER.
    pub roots_der: Vec<Vec<u8>>,
    /// Proxies.
    pub proxy: ProxySettings,
    /// For everything together.
    pub timeout: Duration,
    /// Tries of one request after the first.
    pub retries: u32,
    /// Ends it early.
    pub interrupt: Interrupt,
    /// What requests to some places carry.
    pub secrets: Vec<Secret>,
}

/// What became of a request.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No such URL, or none that we fetch.
    #[error("`{0}` is no URL to download from")]
    Url(String),
    /// By a signal.
    #[error("{url}: the download was stopped")]
    Interrupted {
        /// Without user information.
        url: String,
    },
    /// 404, 403 or 410.
    #[error("{url}: not there (status {status})")]
    NotFound {
        /// Without user information.
        url: String,
        /// As the server said.
        status: u16,
    },
    /// Another status.
    #[error("{url}: the server answered with status {status}, {tries} tries")]
    Status {
        /// Without user information.
        url: String,
        /// As the server said.
        status: u16,
        /// How often.
        tries: u32,
    },
    /// More bytes than allowed.
    #[error("{url}: more than {limit} bytes")]
    TooLarge {
        /// Without user information.
        url: String,
        /// Bytes.
        limit: u64,
    },
    /// The connection failed or broke.
    #[error("{url}: {why}, {tries} tries")]
    Connection {
        /// Without user information.
        url: String,
        /// The chain of causes.
        why: String,
        /// How often.
        tries: u32,
    },
    /// The whole took too long.
    #[error("{url}: not finished after {seconds} s")]
    Timeout {
        /// Without user information.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The client could not be set up.
    #[error("the network client cannot be set up: {0}")]
    Setup(String),
    /// A bundle without it.
    #[error("the bundle has no `{0}`")]
    NotInBundle(String),
    /// The downloaded bytes could not be written.
    #[error("the download cannot be written: {0}")]
    Write(#[source] std::io::Error),
}

/// Told of a download's progress.
pub trait Progress: Sync {
    /// A download begins; its size where the server said it.
    fn started(&self, what: &str, total: Option<u64>);
    /// So many bytes in all.
    fn advanced(&self, total: u64);
    /// A try failed, another follows.
    fn retrying(&self, attempt: u32, why: &str);
    /// It is done.
    fn finished(&self);
}

/// Where downloaded bytes go.
pub trait Sink: std::io::Write {
    /// The bytes so far count no more; the file begins anew.
    fn restart(&mut self) -> std::io::Result<()>;
}

/// A client and a small runtime to drive it.
#[derive(Debug)]
pub struct Transport {
    client: Client,
    runtime: tokio::runtime::Runtime,
    timeout: Duration,
    /// When the first request began: all share the time from then on.
    began: OnceLock<Instant>,
    retries: u32,
    interrupt: Interrupt,
    secrets: Vec<Secret>,
}

enum Failure {
    Final(NetworkError),
    Again {
        why: String,
        status: Option<u16>,
        after: Option<Duration>,
    },
}

impl Transport {
    /// Sets a client up. Only the given roots are trusted, so a machine without a CA bundle works too.
    pub fn new(options: &TransportOptions) -> Result<Self, NetworkError> {
        let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
        let builder = client(options)?
            .read_timeout(STALL)
            .redirect(redirect::Policy::custom(follow));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            client: builder.build().map_err(|error| setup(&chain(&error)))?,
            runtime: runtime.map_err(|error| setup(&error))?,
            timeout: options.timeout,
            began: OnceLock::new(),
            retries: options.retries,
            interrupt: options.interrupt.clone(),
            secrets: options.secrets.clone(),
        })
    }

    /// What to ask for: the URL, and what belongs to its place.
    fn parse(&self, text: &str) -> Result<Url, NetworkError> {
        let mut url = parse(text)?;
        self.secrets.iter().for_each(|secret| secret.join(&mut url));
        Ok(url)
    }

    fn bounded<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, NetworkError>>,
    ) -> Result<T, NetworkError> {
        let began = self.began.get_or_init(Instant::now);
        let timed = async {
            let left = self.timeout.saturating_sub(began.elapsed());
            let work = std::pin::pin!(tokio::time::timeout(left, work));
            match select(work, std::pin::pin!(self.interrupt.arrived())).await {
                Either::Left((done, _)) => done.unwrap_or_else(|_| {
                    Err(NetworkError::Timeout {
                        url: shown(url),
                        seconds: self.timeout.as_secs(),
                    })
                }),
                Either::Right(_) => Err(NetworkError::Interrupted { url: shown(url) }),
            }
        };
        self.runtime.block_on(timed)
    }

    async fn retrying<T>(
        &self,
        url: &Url,
        progress: Option<&dyn Progress>,
        mut attempt: impl AsyncFnMut(u32) -> Result<T, Failure>,
    ) -> Result<T, NetworkError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (why, status, after) = match attempt(tries).await {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again { why, status, after }) => (why, status, after),
            };
            if tries > self.retries {
                let url = shown(url);
                return Err(match status {
                    Some(status) => NetworkError::Status { url, status, tries },
                    None => NetworkError::Connection { url, why, tries },
                });
            }
            if let Some(progress) = progress {
                progress.retrying(tries, &why);
            }
            tokio::time::sleep(after.unwrap_or_else(|| back_off(tries)).min(BACK_OFF_LAST)).await;
        }
    }

    async fn read_all(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Failure> {
        let response = accept(url, self.client.get(url.clone()).send().await)?;
        let mut body = response.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(again)?);
            if bytes.len() as u64 > limit {
                return Err(Failure::Final(NetworkError::TooLarge {
                    url: shown(url),
                    limit,
                }));
            }
        }
        Ok(bytes)
    }

    async fn stream(
        &self,
        url: &Url,
        sink: &mut dyn Sink,
        limit: u64,
        partial: &mut Partial,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let write = |error| Failure::Final(NetworkError::Write(error));
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let (Some(etag), true) = (&partial.etag, partial.have > 0) {
            request = request
                .header(RANGE, format!("bytes={}-", partial.have))
                .header(IF_RANGE, etag);
        }
        let response = accept(url, request.send().await)?;
        if !continues(&response, partial) {
            *partial = Partial::default();
            sink.restart().map_err(write)?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                // Another part, or a part of another file: nothing to begin with.
                return Err(Failure::Again {
                    why: "the server goes on with another part than it was asked for".to_owned(),
                    status: None,
                    after: None,
                });
            }
        }
        partial.etag = response
            .headers()
            .get(ETAG)
            .and_then(|tag| tag.to_str().ok())
            .map(str::to_owned);
        let total = response.content_length().map(|rest| partial.have + rest);
        let too_large = || {
            Failure::Final(NetworkError::TooLarge {
                url: shown(url),
                limit,
            })
        };
        if total.is_some_and(|total| total > limit) {
            return Err(too_large());
        }
        progress.started(url.path().rsplit('/').next().unwrap_or(""), total);
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(again)?;
            if partial.have + chunk.len() as u64 > limit {
                return Err(too_large());
            }
            sink.write_all(&chunk).map_err(write)?;
            partial.have += chunk.len() as u64;
            progress.advanced(partial.have);
        }
        match total {
            Some(total) if total != partial.have => Err(Failure::Again {
                why: "the download is cut short".to_owned(),
                status: None,
                after: None,
            }),
            _ => Ok(()),
        }
    }
}

impl Origin for Transport {
    fn get_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, NetworkError> {
        let url = self.parse(url)?;
        self.bounded(
            &url,
            self.retrying(&url, None, async |_| self.read_all(&url, limit).await),
        )
    }

    /// A broken connection goes on where it stopped.
    fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        limit: u64,
        progress: &dyn Progress,
    ) -> Result<(), NetworkError> {
        let url = self.parse(url)?;
        let mut partial = Partial::default();
        let attempt = async |_| self.stream(&url, sink, limit, &mut partial, progress).await;
        self.bounded(&url, self.retrying(&url, Some(progress), attempt))?;
        progress.finished();
        Ok(())
    }
}

/// What reqwest makes of other words is no proxy at all.
const PROXIES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// The URL of a proxy, as it is used; a host alone speaks http.
pub fn proxy_url(text: &str) -> Option<String> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let url = Url::parse(&whole).ok()?;
    let is_one = PROXIES.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty());
    is_one.then_some(whole)
}

/// A client with the user's trust and proxies, for servers of every kind.
pub(crate) fn client(options: &TransportOptions) -> Result<ClientBuilder, NetworkError> {
    let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
    let tls = tls::config(&Trust::Only(options.roots_der.clone())).map_err(|error| setup(&error))?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .connect_timeout(CONNECT)
        .user_agent(concat!("ssmbake/", env!("CARGO_PKG_VERSION")));
    let no_proxy = options.proxy.no_proxy.as_deref().and_then(NoProxy::from_string);
    if let Some(url) = &options.proxy.https {
        builder = builder.proxy(
            reqwest::Proxy::https(url)
                .map_err(|e| setup(&e))?
                .no_proxy(no_proxy.clone()),
        );
    }
    if let Some(url) = &options.proxy.http {
        builder = builder.proxy(
            reqwest::Proxy::http(url)
                .map_err(|e| setup(&e))?
                .no_proxy(no_proxy),
        );
    }
    Ok(builder)
}

/// What is there of a download.
#[derive(Default)]
struct Partial {
    etag: Option<String>,
    have: u64,
}

/// Whether the answer begins where the last one stopped, in the same file; a server may always send the whole instead.
fn continues(response: &Response, partial: &Partial) -> bool {
    if partial.have == 0 {
        return response.status() != StatusCode::PARTIAL_CONTENT;
    }
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    let is_same = tag.is_none() || tag == partial.etag.as_deref();
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && is_same
        && range.is_some_and(|range| range.starts_with(&format!("bytes {}-", partial.have)))
}

fn accept(url: &Url, sent: Result<Response, reqwest::Error>) -> Result<Response, Failure> {
    let response = sent.map_err(again)?;
    let status = response.status();
    match status.as_u16() {
        200 | 206 => Ok(response),
        403 | 404 | 410 => Err(Failure::Final(NetworkError::NotFound {
            url: shown(url),
            status: status.as_u16(),
        })),
        408 | 429 | 500..=599 => {
            let header = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let why = format!("status {status}");
            Err(Failure::Again {
                why,
                status: Some(status.as_u16()),
                after: header.map(Duration::from_secs),
            })
        }
        other => Err(Failure::Final(NetworkError::Status {
            url: shown(url),
            status: other,
            tries: 1,
        })),
    }
}

fn again(error: reqwest::Error) -> Failure {
    Failure::Again {
        why: chain(&error.without_url()),
        status: None,
        after: None,
    }
}

/// Never from https to http, and not for ever.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("the server redirects from https to http");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("the server redirects too often");
    }
    attempt.follow()
}

fn parse(text: &str) -> Result<Url, NetworkError> {
    let url =
        Url::parse(text).map_err(|_| NetworkError::Url(address::shown(text).chars().take(120).collect()))?;
    match url.scheme() {
        "https" | "http" if url.host_str().is_some() => Ok(url),
        _ => Err(NetworkError::Url(shown(&url))),
    }
}

/// Without user name, password and query: those may be secrets.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{}://{}{port}{}",
        url.scheme(),
        url.host_str().unwrap_or(""),
        url.path()
    )
}

/// The innermost causes say what happened; reqwest's own words repeat the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes.dedup();
    if causes.is_empty() {
        error.to_string()
    } else {
        causes.join(": ")
    }
}

/// Exponential with full jitter, so that many builds do not come back at once.
fn back_off(tries: u32) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let ceiling = BACK_OFF_FIRST
        .saturating_mul(1 << tries.min(10))
        .min(BACK_OFF_LAST);
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let share = (random % 1000) as u32;
    ceiling * share / 1000
}
