//! Exit codes: a contract with scripts.

use std::fmt;
use std::io;

/// Why the program ends without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// For a reason that is none of the others.
    Failed,
    /// The command line is wrong.
    Usage,
    /// A torrent, magnet link or other input is invalid.
    Invalid,
    /// Data does not match its hashes.
    Mismatch,
    /// Nothing could be had from trackers or peers in time.
    Network,
    /// The disk is full or read-only, permission is missing, or it does not work.
    Disk,
    /// Stopped by SIGINT before it was done.
    Interrupted,
    /// Stopped by SIGTERM before it was done.
    Terminated,
    /// Stopped by SIGHUP before it was done: the terminal has gone.
    HungUp,
}

impl Exit {
    /// The code that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Mismatch => 4,
            Self::Network => 5,
            Self::Disk => 6,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::HungUp => 129,
        }
    }

    /// The code for an error of which nothing is known but itself.
    fn of(error: &anyhow::Error) -> Self {
        let io = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<io::Error>());
        match io.map(io::Error::kind) {
            // What was named on the command line is not there, or not what it should be.
            Some(
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidData,
            ) => Self::Invalid,
            Some(_) => Self::Disk,
            None => Self::Failed,
        }
    }
}

/// An error that knows its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the shell is told.
    pub(crate) exit: Exit,
    /// What the person is told.
    pub(crate) error: anyhow::Error,
    /// Whoever reads the events was told, with an `error` event.
    pub(crate) told: bool,
}

impl Failure {
    /// A failure that begins here.
    pub(crate) fn new(
        exit: Exit,
        message: impl fmt::Display + fmt::Debug + Send + Sync + 'static,
    ) -> Self {
        Self {
            exit,
            error: anyhow::Error::msg(message),
            told: false,
        }
    }
}

/// The message and its causes on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            // Many errors tell their cause themselves.
            if !said.contains(&cause) {
                said = format!("{said}: {cause}");
            }
        }
        f.write_str(&said)
    }
}

/// An I/O error somewhere in the chain decides the code; without one it is [`Exit::Failed`].
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            exit: Exit::of(&error),
            error,
            told: false,
        }
    }
}

/// Says which exit code an error means.
pub(crate) trait OrExit<T> {
    /// The same, but an error ends the program with `exit`.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            exit,
            error: error.into(),
            told: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn codes_of_bare_errors() {
        let rows = [
            (io::ErrorKind::NotFound, Exit::Invalid),
            (io::ErrorKind::IsADirectory, Exit::Invalid),
            (io::ErrorKind::StorageFull, Exit::Disk),
            (io::ErrorKind::ReadOnlyFilesystem, Exit::Disk),
            (io::ErrorKind::PermissionDenied, Exit::Disk),
            (io::ErrorKind::Other, Exit::Disk),
        ];
        for (kind, exit) in rows {
            let error = Err::<(), _>(io::Error::from(kind)).context("reading");
            assert_eq!(Failure::from(error.unwrap_err()).exit, exit, "{kind}");
        }
        assert_eq!(Failure::from(anyhow::anyhow!("odd")).exit, Exit::Failed);
    }

    #[test]
    fn the_message_tells_all_causes() {
        let error = Err::<(), _>(anyhow::anyhow!("no digits")).context("the file x");
        let failure = error.or_exit(Exit::Invalid).unwrap_err();
        assert_eq!(failure.to_string(), "the file x: no digits");
        let error = failure
            .error
            .context("not read, since the file x: no digits");
        assert_eq!(
            Failure::from(error).to_string(),
            "not read, since the file x: no digits"
        );
    }
}
