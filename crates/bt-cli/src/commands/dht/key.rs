//! What stands for items of the DHT on the command line: targets, public keys, and the file of a secret one.

use crate::exit::{Exit, Failure};
use crate::text::escape;
use anyhow::Context as _;
use bt_session::dht::{NodeId, SigningKey, mutable_target, random_key};
use std::io::Write as _;
use std::path::Path;

/// Forty digits are a target, sixty-four a public key.
pub(super) fn parse_target(text: &str, salt: &str) -> Result<NodeId, Failure> {
    let wrong = || {
        let message = format!("'{}' is not 40 or 64 hexadecimal digits", escape(text));
        Failure::new(Exit::Usage, message)
    };
    let bytes = unhex(text).ok_or_else(wrong)?;
    match (
        <[u8; 20]>::try_from(bytes.as_slice()),
        <[u8; 32]>::try_from(bytes.as_slice()),
    ) {
        (Ok(target), _) => Ok(NodeId(target)),
        (_, Ok(key)) => Ok(mutable_target(&key, salt.as_bytes())),
        _ => Err(wrong()),
    }
}

/// The key in a file of 64 hexadecimal digits. A new file is for its owner's eyes only.
pub(super) fn signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let seed = unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
            let wrong =
                || Failure::new(Exit::Invalid, format!("{shown}: not 64 hexadecimal digits"));
            Ok(SigningKey::new(&seed.ok_or_else(wrong)?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed = random_key();
            let mut options = std::fs::File::options();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options
                .open(path)
                .with_context(|| format!("cannot make {shown}"))?;
            let written = file.write_all(format!("{}\n", hex(&seed)).as_bytes());
            written.with_context(|| format!("cannot write {shown}"))?;
            Ok(SigningKey::new(&seed))
        }
        Err(error) => Err(anyhow::Error::new(error)
            .context(format!("cannot read {shown}"))
            .into()),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hashes_or_keys() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(parse_target(hash, "").unwrap().to_string(), hash);
        let key = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
        let of_key = |salt| parse_target(key, salt).unwrap().to_string();
        assert_eq!(of_key(""), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
        assert_eq!(of_key("foobar"), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
        for wrong in [
            "",
            "0",
            &hash[..39],
            &hash[..38],
            "g".repeat(40).as_str(),
            "é",
        ] {
            assert_eq!(
                parse_target(wrong, "").unwrap_err().exit,
                Exit::Usage,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = signing_key(&path).unwrap().public();
        assert_eq!(signing_key(&path).unwrap().public(), made);
        std::fs::write(&path, "no key").unwrap();
        assert_eq!(signing_key(&path).unwrap_err().exit, Exit::Invalid);
    }
}
