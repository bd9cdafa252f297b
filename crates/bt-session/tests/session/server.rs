//! An HTTP server of a few lines that answers whatever a test wants, however wrong. The unit tests of `http` use it too.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What it sends back to one request.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    /// This at first.
    pub(crate) bytes: Vec<u8>,
    /// Then it closes; or sends this for ever, which may be nothing.
    pub(crate) then: Option<Vec<u8>>,
}

/// A listening server, until it is dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    _serving: JoinSet<()>,
}

/// Serves one connection after the other, with one request each, whose head `answer` is given.
pub(crate) async fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let Answer { bytes, then } = answer(&String::from_utf8(request).unwrap());
            // The client may have had enough and closed: that is what is tested.
            let _ = stream.write_all(&bytes).await;
            match then {
                Some(nothing) if nothing.is_empty() => core::future::pending().await,
                Some(bytes) => while stream.write_all(&bytes).await.is_ok() {},
                None => {}
            }
        }
    });
    Server {
        addr,
        _serving: serving,
    }
}
