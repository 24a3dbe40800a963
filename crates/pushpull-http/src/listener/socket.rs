//! Socket options.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::ListenerConfig;

/// Unsent bytes the kernel takes before a socket counts as not writable: a stalled reader pins 164 KiB instead
/// of 4 MiB.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 16 * 1024;

/// Tunes an accepted socket. What the system refuses is left as it is: it works, only slower.
pub(super) fn tune(stream: &TcpStream, config: &ListenerConfig) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT);
        let _ = socket.set_tcp_user_timeout(Some(config.user_timeout));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = config;
}
