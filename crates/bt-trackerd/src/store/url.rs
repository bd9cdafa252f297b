//! Where the common store is.

use core::fmt;
use core::str::FromStr;
use redis::{ConnectionAddr, IntoConnectionInfo as _};
use serde::Deserialize;

/// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, the same with `rediss` over TLS, or `unix:///PATH`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreUrl(String);

/// Text that is no such address. It is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseStoreUrlError {
    /// It asks for TLS without looking at the certificate.
    #[error(
        "rediss:// with #insecure would tell anybody everything: let the system trust the store's authority"
    )]
    Insecure,
    /// Anything else.
    #[error("no address of a store: write redis://HOST:PORT/DATABASE or unix:///PATH")]
    Address,
}

/// Schemes of what can be a store.
const KNOWN: [&str; 6] = [
    "redis://",
    "rediss://",
    "valkey://",
    "valkeys://",
    "unix://",
    "redis+unix://",
];

impl StoreUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoreUrl {
    type Err = ParseStoreUrlError;

    fn from_str(text: &str) -> Result<Self, ParseStoreUrlError> {
        let fits = KNOWN.iter().any(|scheme| text.starts_with(scheme));
        let read = text.into_connection_info().ok().filter(|_| fits);
        let info = read.ok_or(ParseStoreUrlError::Address)?;
        if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
            return Err(ParseStoreUrlError::Insecure);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = ParseStoreUrlError;

    fn try_from(text: String) -> Result<Self, ParseStoreUrlError> {
        text.parse()
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl") // and not its password
    }
}
