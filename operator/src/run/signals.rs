//! Ctrl-C and SIGTERM: the first suspends the job, the second stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir_engine::coordinator::run::Wanted;
use weir_runtime::task;

use crate::exit::say;

/// Exit status after a signal.
const EXIT_SUSPENDED: i32 = 130;

/// Whether a signal has come since the process listens.
#[derive(Clone, Debug)]
pub(crate) struct Signals(watch::Receiver<bool>);

impl Signals {
    /// Listens from now on, until the process ends.
    pub(crate) fn listen() -> Self {
        let (come, seen) = watch::channel(false);
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            tracing::warn!("signals cannot be listened to: they end the process at once");
            return Self(seen);
        };
        task::spawn(async move {
            next(&mut interrupt, &mut terminate).await;
            // Nobody runs any more: then there is nothing to suspend.
            let _ = come.send(true);
            next(&mut interrupt, &mut terminate).await;
            say("stopped without a last checkpoint; the same command goes on from the one before");
            // Workers see the end of their standard input and exit.
            std::process::exit(EXIT_SUSPENDED);
        })
        .detach();
        Self(seen)
    }

    /// Whether one has come.
    pub(crate) fn have_come(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when one comes or has come. Cancel safe.
    pub(crate) async fn stopped(&mut self) {
        if self.0.wait_for(|come| *come).await.is_err() {
            // They cannot be listened to: they end the process.
            std::future::pending::<()>().await;
        }
    }

    /// Turns the first one into a wish.
    pub(crate) async fn suspend(mut self, wish: watch::Sender<Wanted>) {
        self.stopped().await;
        say("suspending: a last checkpoint is taken; once more stops at once");
        // Nobody runs any more: then there is nothing to suspend.
        let _ = wish.send(Wanted::Suspend);
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
