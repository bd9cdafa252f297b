//! The program in a process of its own, as scripts see it.
#![allow(dead_code, reason = "each file of tests uses its part")]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

/// A tracker that is killed when the test ends.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with_log(command, "info")
    }

    pub(crate) fn start_with_log(command: &mut Command, level: &str) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.env("RUST_LOG", level).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The address in a listening line in JSON.
    pub(crate) fn addr(&mut self) -> SocketAddr {
        let line: serde_json::Value = serde_json::from_str(&self.line()).unwrap();
        line["addr"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads the log until a line contains `text`.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        self.read_log_until(text);
    }

    /// The log up to and with the line that contains `text`.
    pub(crate) fn read_log_until(&mut self, text: &str) -> String {
        let mut log = String::new();
        loop {
            let begun = log.len();
            let length = self.err.read_line(&mut log).unwrap();
            assert_ne!(length, 0, "the log ended before {text:?}");
            if log[begun..].contains(text) {
                return log;
            }
        }
    }

    /// The log up to its end, which is that of the process.
    pub(crate) fn rest_of_log(&mut self) -> String {
        let mut log = String::new();
        self.err.read_to_string(&mut log).unwrap();
        log
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bt-trackerd"))
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}
