//! What the examples share: how they are stopped.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Listens for SIGTERM and SIGINT from now on; what it returns is done at the first. To be called before the program
/// says that it is ready, since until then either signal ends it at once.
///
/// # Errors
/// If the system does not let the process listen for them.
pub fn stopped() -> io::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
