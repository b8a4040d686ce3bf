//! A loopback mirror of AWS's bucket: HTTP or HTTPS, with faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong with a request for a path.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The body stops in the middle, this often.
    CutShort(usize),
    /// This status, this often.
    Status(u16, usize),
    /// A redirect.
    Redirect(String),
    /// 429 with `Retry-After: 1`, this often.
    Busy(usize),
    /// Headers and half of the body, then silence.
    Stall,
    /// A body without an announced end that never ends.
    Endless,
    /// Ranges are not honoured: always the whole.
    WholeOnly(usize),
    /// The body comes after so many milliseconds.
    Late(u64),
    /// A byte now and then, for ever.
    Trickle,
    /// The connection is reset after this many bytes of the body, this often.
    Reset(usize, usize),
    /// More bytes are announced than come, or fewer.
    Announce(usize),
    /// The first answer is cut short; the rest comes from another place than asked for, and says so or not.
    OtherRange {
        /// Whether Content-Range tells it.
        is_told: bool,
        /// Answers that are cut short before.
        left: usize,
    },
    /// The first answer is cut short; meanwhile the file has become another one.
    Changed(Vec<u8>, usize),
    /// The body as it is, said to be compressed.
    Encoded(Vec<u8>),
}

/// What an HTTPS mirror shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// A good one for `localhost`.
    Good,
    /// For another host.
    OtherName,
    /// That ended in 2020.
    Expired,
}

#[derive(Debug, Default)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<BTreeMap<String, Fault>>,
    guard: Mutex<Option<(String, String)>>,
    requests: AtomicUsize,
    ranges: AtomicUsize,
    proxied: AtomicUsize,
}

/// A running mirror; its thread ends with the test.
#[derive(Debug)]
pub struct Mirror {
    state: Arc<State>,
    /// Its base URL.
    pub url: String,
    /// The CA certificate of an HTTPS mirror, PEM.
    pub ca_pem: Option<String>,
    /// Its own certificate, signed by that CA, PEM.
    pub leaf_pem: Option<String>,
}

impl Mirror {
    /// Plain HTTP: enough wherever the signature decides.
    pub fn http() -> Self {
        Self::start(None)
    }

    /// HTTPS with a CA of its own.
    pub fn https() -> Self {
        Self::https_with(Certificate::Good)
    }

    /// A server that is none of HTTPS, where https is asked for.
    pub fn no_tls() -> Self {
        let mut mirror = Self::http();
        mirror.url = mirror.url.replace("http:", "https:");
        mirror
    }

    /// On IPv6 alone.
    pub fn ipv6() -> Self {
        Self::listen(TcpListener::bind("[::1]:0").expect("loopback"), None, "[::1]")
    }

    /// HTTPS with a CA of its own and a certificate that may be unfit.
    pub fn https_with(certificate: Certificate) -> Self {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // OpenSSL takes a leaf with its issuer's name for self-signed.
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "ssmbake test CA");
        let ca_pem = params.self_signed(&key).expect("ca").pem();
        let issuer = rcgen::Issuer::new(params, key);
        let leaf_key = rcgen::KeyPair::generate().expect("key");
        let name = match certificate {
            Certificate::OtherName => "other.example",
            Certificate::Good | Certificate::Expired => "localhost",
        };
        let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("params");
        if certificate == Certificate::Expired {
            leaf.not_before = rcgen::date_time_ymd(2019, 1, 1);
            leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let leaf = leaf.signed_by(&leaf_key, &issuer).expect("leaf");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                leaf_key.serialize_der().try_into().expect("key"),
            )
            .expect("config");
        let mut mirror = Self::start(Some(Arc::new(config)));
        mirror.ca_pem = Some(ca_pem);
        mirror.leaf_pem = Some(leaf.pem());
        mirror
    }

    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::listen(
            TcpListener::bind("127.0.0.1:0").expect("loopback"),
            tls,
            "localhost",
        )
    }

    fn listen(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, host: &str) -> Self {
        let port = listener.local_addr().expect("address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    None => drop(serve(&state, stream)),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("session");
                        drop(serve(&state, rustls::StreamOwned::new(session, stream)));
                    }
                });
            }
        });
        Self {
            state,
            url: format!("{scheme}://{host}:{port}"),
            ca_pem: None,
            leaf_pem: None,
        }
    }

    /// Offers `bytes` under `path`, without a leading slash.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.state
            .files
            .lock()
            .expect("lock")
            .insert(path.to_owned(), bytes.into());
    }

    /// Offers a package and its signature as AWS's bucket does.
    pub fn publish(&self, version: &str, folder: &str, package: &Path, signature: &[u8]) {
        let ending = package.extension().expect("ending").to_str().expect("UTF-8");
        let path = format!("{version}/{folder}/amazon-ssm-agent.{ending}");
        self.put(&path, std::fs::read(package).expect("package"));
        self.put(&format!("{path}.sig"), signature);
        self.put("latest/VERSION", format!("{version}\n"));
    }

    /// Serves only who says this in `Authorization:` and in the query.
    pub fn guard(&self, authorization: &str, query: &str) {
        let wanted = (authorization.to_owned(), query.to_owned());
        *self.state.guard.lock().expect("lock") = Some(wanted);
    }

    /// Makes requests for `path` go wrong.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.state
            .faults
            .lock()
            .expect("lock")
            .insert(path.to_owned(), fault);
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Requests so far that were meant for a proxy.
    pub fn proxied(&self) -> usize {
        self.state.proxied.load(Ordering::SeqCst)
    }

    /// Requests for the rest of a file so far.
    pub fn ranges(&self) -> usize {
        self.state.ranges.load(Ordering::SeqCst)
    }
}

trait Stream: Read + Write {
    /// The connection below.
    fn tcp(&self) -> &TcpStream;
}
impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}
impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

fn serve(state: &State, stream: impl Stream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut from, mut authorization) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = value.trim().to_owned();
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap_or(0);
            state.ranges.fetch_add(1, Ordering::SeqCst);
        }
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    let mut place = request.split(' ').nth(1).unwrap_or("/");
    if let Some(rest) = place.strip_prefix("http://") {
        state.proxied.fetch_add(1, Ordering::SeqCst);
        place = rest.split_once('/').map_or("", |(_, path)| path);
    }
    let (path, query) = place.split_once('?').unwrap_or((place, ""));
    let path = path.trim_start_matches('/').to_owned();
    let guard = state.guard.lock().expect("lock").clone();
    if guard.is_some_and(|wanted| wanted != (authorization, query.to_owned())) {
        let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return reader.get_mut().write_all(answer.as_bytes());
    }
    let file = state.files.lock().expect("lock").get(&path).cloned();
    let fault = take_fault(state, &path);
    let out = reader.get_mut();
    let head = |status: &str, extra: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"one\"\r\nConnection: close\r\n{extra}\r\n"
        )
    };
    match (file, fault) {
        (_, Some(Fault::Status(status, _))) => {
            out.write_all(head(&format!("{status} no"), "", 0).as_bytes())?
        }
        (_, Some(Fault::Busy(_))) => {
            out.write_all(head("429 Too Many Requests", "Retry-After: 1\r\n", 0).as_bytes())?
        }
        (_, Some(Fault::Endless)) => {
            out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            // Until the client has had enough.
            while out.write_all(&[b'x'; 1 << 16]).is_ok() {}
        }
        (_, Some(Fault::Redirect(to))) => {
            out.write_all(head("302 Found", &format!("Location: {to}\r\n"), 0).as_bytes())?
        }
        (_, Some(Fault::Encoded(body))) => {
            out.write_all(head("200 OK", "Content-Encoding: gzip\r\n", body.len()).as_bytes())?;
            out.write_all(&body)?;
        }
        (Some(_), Some(Fault::Trickle)) => {
            out.write_all(head("200 OK", "", 1 << 20).as_bytes())?;
            while out.write_all(b"x").and_then(|()| out.flush()).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        (Some(bytes), Some(Fault::Announce(length))) => {
            out.write_all(head("200 OK", "", length).as_bytes())?;
            out.write_all(&bytes)?;
        }
        (Some(bytes), Some(Fault::Reset(at, _))) => {
            out.write_all(head("200 OK", "", bytes.len()).as_bytes())?;
            out.write_all(&bytes[..at])?;
            out.flush()?;
            std::thread::sleep(std::time::Duration::from_millis(50));
            // What is not sent yet is thrown away, and the other side told so.
            rustix::net::sockopt::set_socket_linger(out.tcp(), Some(std::time::Duration::ZERO))?;
            return Ok(());
        }
        (Some(bytes), Some(Fault::OtherRange { is_told, .. })) if from > 0 => {
            let said = if is_told { from + 7 } else { from };
            let body = &bytes[from + 7..];
            let range = format!(
                "Content-Range: bytes {said}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            );
            out.write_all(head("206 Partial Content", &range, body.len()).as_bytes())?;
            out.write_all(body)?;
        }
        (Some(_), Some(Fault::Changed(bytes, _))) if from > 0 => {
            let body = &bytes[from.min(bytes.len())..];
            let range = format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            );
            let text = head("206 Partial Content", &range, body.len()).replace("one", "two");
            out.write_all(text.as_bytes())?;
            out.write_all(body)?;
        }
        (Some(_), Some(Fault::Changed(bytes, 0))) => {
            out.write_all(head("200 OK", "", bytes.len()).replace("one", "two").as_bytes())?;
            out.write_all(&bytes)?;
        }
        (None, _) => out.write_all(head("404 Not Found", "", 0).as_bytes())?,
        (Some(bytes), fault) => {
            if matches!(fault, Some(Fault::WholeOnly(_))) {
                from = 0;
            }
            let body = &bytes[from.min(bytes.len())..];
            let range = format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                bytes.len().saturating_sub(1),
                bytes.len()
            );
            let (status, extra) = if from > 0 {
                ("206 Partial Content", range.as_str())
            } else {
                ("200 OK", "")
            };
            out.write_all(head(status, extra, body.len()).as_bytes())?;
            let half = &body[..body.len() / 2];
            match fault {
                Some(Fault::Late(pause)) => {
                    std::thread::sleep(std::time::Duration::from_millis(pause));
                    out.write_all(body)?;
                }
                Some(Fault::CutShort(_) | Fault::OtherRange { .. } | Fault::Changed(..)) => {
                    out.write_all(half)?
                }
                Some(Fault::WholeOnly(left)) if left % 2 == 1 => out.write_all(half)?,
                Some(Fault::Stall) => {
                    out.write_all(half)?;
                    out.flush()?;
                    std::thread::sleep(std::time::Duration::from_secs(3600));
                }
                _ => out.write_all(body)?,
            }
        }
    }
    out.flush()
}

fn take_fault(state: &State, path: &str) -> Option<Fault> {
    let mut faults = state.faults.lock().expect("lock");
    let fault = faults.get_mut(path)?;
    match fault {
        Fault::CutShort(0)
        | Fault::Status(_, 0)
        | Fault::Busy(0)
        | Fault::WholeOnly(0)
        | Fault::Reset(_, 0)
        | Fault::OtherRange { left: 0, .. } => None,
        Fault::CutShort(left)
        | Fault::Status(_, left)
        | Fault::Busy(left)
        | Fault::WholeOnly(left)
        | Fault::Reset(_, left)
        | Fault::OtherRange { left, .. } => {
            *left -= 1;
            Some(fault.clone())
        }
        Fault::Changed(_, left) => {
            let now = fault_before(left);
            Some(match fault {
                Fault::Changed(bytes, _) => Fault::Changed(bytes.clone(), now),
                other => other.clone(),
            })
        }
        Fault::Redirect(_)
        | Fault::Stall
        | Fault::Endless
        | Fault::Trickle
        | Fault::Late(_)
        | Fault::Announce(_)
        | Fault::Encoded(_) => Some(fault.clone()),
    }
}

/// What is left before this request; none stays none.
fn fault_before(left: &mut usize) -> usize {
    let now = *left;
    *left = left.saturating_sub(1);
    now
}
