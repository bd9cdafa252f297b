//! SIGINT and SIGTERM as a value.
//!
//! The first signal asks the program to stop cleanly; the second ends it at once.

use crate::exit::{Exit, Failure};
use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// SIGXFSZ, on Linux and macOS: a file grew beyond `ulimit -f`. It ends a program that has no handler; with one, the write
/// fails as on any other disk that takes no more.
const FILE_TOO_LARGE: i32 = 25;

/// Whether the program was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    exit: watch::Receiver<Option<Exit>>,
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Takes the signals over, for the rest of the program's life.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (sender, exit) = watch::channel(None);
        let flag = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&flag);
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot wait for signals")?;
        let signals = {
            let _inside = runtime.enter();
            signal(SignalKind::from_raw(FILE_TOO_LARGE))
                .and_then(|_handled| signal(SignalKind::interrupt()))
                .and_then(|int| Ok((int, signal(SignalKind::terminate())?)))
        };
        let (mut interrupt, mut terminate) = signals.context("cannot wait for signals")?;
        let wait = move || {
            runtime.block_on(async {
                let mut first = true;
                loop {
                    let exit = tokio::select! {
                        _ = interrupt.recv() => Exit::Interrupted,
                        _ = terminate.recv() => Exit::Terminated,
                    };
                    if !first {
                        std::process::exit(exit.code().into());
                    }
                    first = false;
                    sender.send_replace(Some(exit));
                    raised.store(true, Ordering::Relaxed);
                }
            });
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .context("cannot wait for signals")?;
        Ok(Self { exit, flag })
    }

    /// The exit code to end with, if the program was asked to stop.
    pub(crate) fn requested(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the program is asked to stop, and says with which exit code.
    pub(crate) async fn wait(&mut self) -> Exit {
        let requested = self.exit.wait_for(Option::is_some).await;
        // The thread that waits for signals lives as long as the program.
        requested
            .ok()
            .and_then(|exit| *exit)
            .unwrap_or(Exit::Failed)
    }

    /// True once the program was asked to stop: for work that runs on threads and looks up now and then.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// The failure to end with when work was given up because of [`flag`](Self::flag).
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(
            self.requested().unwrap_or(Exit::Interrupted),
            "stopped before it was done",
        )
    }
}
