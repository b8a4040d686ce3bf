//! A loopback proxy that wants a password.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A running proxy; its thread ends with the test.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    served: Arc<AtomicUsize>,
}

impl Proxy {
    /// Lets those through who send `authorization`, as in `Basic …`.
    pub fn wanting(authorization: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("address").port();
        let served = Arc::new(AtomicUsize::new(0));
        let (wanted, count) = (
            format!("proxy-authorization: {authorization}"),
            Arc::clone(&served),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (wanted, count) = (wanted.clone(), Arc::clone(&count));
                std::thread::spawn(move || drop(serve(stream, &wanted, &count)));
            }
        });
        Self { port, served }
    }

    /// Its URL with a user name and a password.
    pub fn url(&self, user: &str) -> String {
        format!("http://{user}@127.0.0.1:{}", self.port)
    }

    /// Requests that were let through.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, wanted: &str, count: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut head, mut is_let_in) = (String::new(), false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap_or((line.trim(), ""));
        let is_ours = name.eq_ignore_ascii_case("proxy-authorization");
        is_let_in |= is_ours && format!("{}: {value}", name.to_ascii_lowercase()) == wanted;
        if !is_ours {
            head.push_str(&line);
        }
    }
    if !is_let_in {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";
        return out.write_all(answer.as_bytes());
    }
    count.fetch_add(1, Ordering::SeqCst);
    let mut words = request.split(' ');
    let (verb, place) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let rest = place.trim_start_matches("http://");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut server = TcpStream::connect(host)?;
    match verb {
        "CONNECT" => out.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?,
        _ => server.write_all(format!("{verb} /{path} HTTP/1.1\r\n{head}\r\n").as_bytes())?,
    }
    let (mut from, mut to) = (server.try_clone()?, out.try_clone()?);
    let back = std::thread::spawn(move || copy(&mut from, &mut to));
    let forth = copy(&mut reader, &mut server);
    drop(server.shutdown(std::net::Shutdown::Write));
    back.join().expect("copy")?;
    forth
}

fn copy(from: &mut impl Read, to: &mut TcpStream) -> std::io::Result<()> {
    std::io::copy(from, to)?;
    to.shutdown(std::net::Shutdown::Write)
}
