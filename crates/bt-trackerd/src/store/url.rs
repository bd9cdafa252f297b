//! Where the common store is.

use core::fmt;
use core::str::FromStr;
use redis::IntoConnectionInfo as _;
use serde::Deserialize;

/// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `unix:///PATH`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreUrl(String);

/// Text that is no such address. It is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseStoreUrlError {
    /// Encryption is not built in.
    #[error("rediss:// is not served: use redis:// over a network of your own, or a tunnel")]
    Tls,
    /// Anything else.
    #[error("no address of a store: write redis://HOST:PORT/DATABASE or unix:///PATH")]
    Address,
}

impl StoreUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoreUrl {
    type Err = ParseStoreUrlError;

    fn from_str(text: &str) -> Result<Self, ParseStoreUrlError> {
        let known = ["redis://", "valkey://", "unix://", "redis+unix://"];
        if text.starts_with("rediss://") || text.starts_with("valkeys://") {
            return Err(ParseStoreUrlError::Tls);
        }
        let fits = known.iter().any(|scheme| text.starts_with(scheme));
        let read = text.into_connection_info();
        match read {
            Ok(_) if fits => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(ParseStoreUrlError::Address),
        }
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
