//! HTTPS: a certificate that can be exchanged while it runs, and connections over it, HTTP/1.1 or HTTP/2 as the client chooses
//! (ALPN). All requests over TLS are hyper's: what TLS costs is many times what reading a request does.

use crate::config::ConfigError;
use crate::connection::drive;
use crate::places::{IDLE_MAX, Place};
use crate::quick::HEAD_MAX_BYTES;
use crate::routes;
use crate::state::State;
use core::convert::Infallible;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// Most requests of one connection of HTTP/2 at a time. Fewer than a hundred are advised against (RFC 9113, 6.5.2): a client
/// that has not read the limit yet would have requests refused.
const STREAMS_MAX: u32 = 128;

/// What to serve with, of a certificate chain and its private key in PEM.
///
/// # Errors
/// [`ConfigError`] names the file that cannot be used.
pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, ConfigError> {
    let wrong = |path: &Path, why: &dyn core::fmt::Display| ConfigError::Tls {
        path: path.to_owned(),
        message: why.to_string(),
    };
    let chain = fs::read(certificate).map_err(|error| wrong(certificate, &error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"no certificate in it"));
    }
    let secret = fs::read(key).map_err(|error| wrong(key, &error))?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| wrong(key, &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(certificate, &error))?
        .with_no_client_auth()
        // Also refuses a key that is not that of the certificate.
        .with_single_cert(chain, secret)
        .map_err(|error| wrong(key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves one connection until it ends, stalls, or the server stops.
pub(crate) async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<State>,
    place: Place,
    mut stop: watch::Receiver<bool>,
) {
    let Some(config) = state.rules().tls.clone() else {
        return;
    };
    // As long as this takes, the place counts as silent.
    let stream = match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return debug!("{peer}: {error}"),
    };
    place.refresh();
    place.on_its_own();
    let requests = Arc::new(AtomicU64::new(0));
    let (counted, asked) = (Arc::clone(&requests), place.refresher());
    let service = service_fn(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        asked.refresh();
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(routes::answer(&state, peer, &request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_MAX_BYTES)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_MAX_BYTES).unwrap_or(u32::MAX));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drive(connection, peer, &requests, &mut stop).await;
}
