//! What the examples share: how they are stopped.

use std::io;

/// Returns on SIGTERM or SIGINT.
///
/// # Errors
/// If the system does not let the process listen for them.
pub async fn stopped() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
