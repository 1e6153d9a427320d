//! Ctrl-C and SIGTERM: the first suspends the job, the second stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir_engine::coordinator::run::Wanted;
use weir_runtime::task;

use crate::exit::say;

/// Exit status after a signal.
const EXIT_SUSPENDED: i32 = 130;

/// Turns signals into wishes, until the process ends.
pub(crate) fn listen(wish: watch::Sender<Wanted>) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        tracing::warn!("signals cannot be listened to: they end the process at once");
        return;
    };
    task::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        say("suspending: a last checkpoint is taken; once more stops at once");
        // Nobody runs any more: then there is nothing to suspend.
        let _ = wish.send(Wanted::Suspend);
        next(&mut interrupt, &mut terminate).await;
        say("stopped without a last checkpoint; the same command goes on from the one before");
        // Workers see the end of their standard input and exit.
        std::process::exit(EXIT_SUSPENDED);
    })
    .detach();
}

/// Ends with the first signal. Before the job has begun there is nothing to suspend.
pub(crate) async fn stopped() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => next(&mut interrupt, &mut terminate).await,
        // As long as they cannot be listened to they end the process.
        _ => std::future::pending().await,
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
