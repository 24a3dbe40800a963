//! Subscribers that allocate nothing once they are connected.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(crate) const TOPIC: &str = "counted";
/// Room for what a subscriber gets in one round.
const ROOM: usize = 32 * 1024;
/// A server that sends nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(30);

/// What the subscribers speak.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Raw,
    Json,
    Proto,
    Sse,
}

impl Wire {
    fn request(self) -> String {
        let subprotocol = match self {
            Self::Sse => return format!("GET /sse?topic={TOPIC} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            Self::Raw => "",
            Self::Json => "Sec-WebSocket-Protocol: pushpull.v1.json\r\n",
            Self::Proto => "Sec-WebSocket-Protocol: pushpull.v1.proto\r\n",
        };
        format!(
            "GET /ws?topic={TOPIC} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
        )
    }

    /// What an answer begins with that lets it subscribe.
    fn status(self) -> &'static [u8] {
        match self {
            Self::Sse => b"HTTP/1.1 200 ",
            Self::Raw | Self::Json | Self::Proto => b"HTTP/1.1 101 ",
        }
    }
}

/// Sockets, each subscribed to [`TOPIC`], and a buffer for each in turn.
pub(crate) struct Subscribers {
    sockets: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl Subscribers {
    pub(crate) fn connect(address: SocketAddr, wire: Wire, count: usize) -> Self {
        let mut connected = Self { sockets: Vec::with_capacity(count), buffer: vec![0; ROOM] };
        let request = wire.request();
        for _ in 0..count {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            let head = read_until(&mut socket, &mut connected.buffer, b"\r\n\r\n");
            assert!(head.starts_with(wire.status()), "{}", String::from_utf8_lossy(head));
            connected.sockets.push(socket);
        }
        connected
    }

    /// Reads all of them up to the message that holds `mark`.
    pub(crate) fn wait_for(&mut self, mark: &str) {
        for socket in &mut self.sockets {
            read_until(socket, &mut self.buffer, mark.as_bytes());
        }
    }
}

/// Reads until `mark` has come.
fn read_until<'b>(socket: &mut TcpStream, buffer: &'b mut [u8], mark: &[u8]) -> &'b [u8] {
    let mut filled = 0;
    while !buffer[..filled].windows(mark.len()).any(|window| window == mark) {
        let read = socket.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "closed after {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
    }
    &buffer[..filled]
}
