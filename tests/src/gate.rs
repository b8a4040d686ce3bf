//! A loopback relay that holds one request back, to bring two programs into an order that else happens rarely.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A running relay; its threads end with the test.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    arrived: Receiver<()>,
    open: Sender<()>,
}

/// The request that is held, once.
struct Latch {
    /// In one order, each after the other: what its head has.
    words: &'static [&'static str],
    arrived: Sender<()>,
    open: Receiver<()>,
}

impl Gate {
    /// Before `port`: the first request that has all of `words` waits until the gate is opened.
    pub fn before(port: u16, words: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let own = listener.local_addr().expect("address").port();
        let (arrived, is_held) = channel();
        let (open, is_open) = channel();
        let latch = Arc::new(Mutex::new(Some(Latch {
            words,
            arrived,
            open: is_open,
        })));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let latch = Arc::clone(&latch);
                std::thread::spawn(move || drop(relay(stream, port, &latch)));
            }
        });
        Self {
            port: own,
            arrived: is_held,
            open,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Until the request is there.
    pub fn wait(&self) {
        let arrived = self.arrived.recv_timeout(Duration::from_secs(60));
        arrived.expect("the request that is waited for");
    }

    /// Lets the request go on.
    pub fn open(&self) {
        self.open.send(()).expect("a request that is held");
    }
}

fn relay(mut client: TcpStream, port: u16, latch: &Mutex<Option<Latch>>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        to.shutdown(Shutdown::Both)
    });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match client.read(&mut buffer)? {
            0 => break,
            count => count,
        };
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let held = {
            let mut latch = latch.lock().expect("latch");
            let is_it = |latch: &mut Latch| latch.words.iter().all(|word| text.contains(word));
            latch.take_if(is_it)
        };
        if let Some(latch) = held {
            latch.arrived.send(()).expect("a test that waits");
            latch.open.recv().expect("a test that opens");
        }
        server.write_all(&buffer[..count])?;
    }
    server.shutdown(Shutdown::Write)?;
    back.join().expect("copy")
}
