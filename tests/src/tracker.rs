//! A tracker that answers whatever a test wants, over plain sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What it does with a connection after the request was read; the first line of the request is given.
pub type Behaviour = Arc<dyn Fn(&str, &mut TcpStream) + Send + Sync>;

/// A listening tracker. It stops when dropped.
pub struct Tracker {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Tracker {
    /// Listens on a free port; each connection gets a thread.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, count, stopped) = (
            Arc::clone(&requests),
            Arc::clone(&connections),
            Arc::clone(&stop),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let (behaviour, log) = (Arc::clone(&behaviour), Arc::clone(&log));
                std::thread::spawn(move || answer(stream, &behaviour, &log));
            }
        });
        Self {
            addr,
            requests,
            connections,
            stop,
        }
    }

    /// One that sends these bytes and closes.
    pub fn that_says(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::start(Arc::new(move |_, stream| {
            // The program under test may have had enough before the end.
            let _ = stream.write_all(&reply);
        }))
    }

    /// Where it is announced to.
    pub fn announce_url(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    /// First lines of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("nobody panics with it").clone()
    }

    /// Connections so far, whether they asked something or not.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.addr);
    }
}

fn answer(mut stream: TcpStream, behaviour: &Behaviour, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && !line.trim().is_empty() {
        line.clear();
    }
    log.lock()
        .expect("nobody panics with it")
        .push(first.trim().to_owned());
    behaviour(first.trim(), &mut stream);
}

/// A reply with a length, as any HTTP server sends it.
pub fn reply(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
