//! What no server can beat that sends each message by itself: one thread that writes every frame to one socket after
//! another, one frame a write, and then acknowledges.
//!
//! A measure of the machine, not a server: it has one topic, asks nobody anything, never reads from a subscriber, and
//! waits for whoever does not read.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tungstenite::handshake::derive_accept_key;

/// Most bytes of a request.
const ROOM: usize = 64 * 1024;

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

#[allow(clippy::print_stdout, reason = "whoever started it reads where it listens")]
pub(crate) fn serve(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("listening on http://{}", listener.local_addr()?);
    let subscribers = Subscribers::default();
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let subscribers = subscribers.clone();
        // A thread only until it is known which of the two it is: the publisher's goes on.
        thread::spawn(move || take(stream, &subscribers));
    }
}

fn take(mut stream: TcpStream, subscribers: &Subscribers) -> io::Result<()> {
    let mut bytes = vec![0; ROOM];
    let mut filled = 0;
    loop {
        let (head, body) = loop {
            if let Some(read) = request(&bytes[..filled]) {
                break read;
            }
            match stream.read(&mut bytes[filled..])? {
                // The time of threads that have ended is not counted by who measures: this one stays.
                0 => loop {
                    thread::park();
                },
                read => filled += read,
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]);
        if let Some(key) = header(&text, "sec-websocket-key") {
            let accept = derive_accept_key(key.as_bytes());
            write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )?;
            subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            return Ok(());
        }
        publish(&bytes[head..head + body], subscribers);
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")?;
        bytes.copy_within(head + body..filled, 0);
        filled -= head + body;
    }
}

/// The lengths of a request's head and body, if all of it is there.
fn request(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]);
    let body = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    (bytes.len() >= head + body).then_some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Writes a text frame (RFC 6455, 5.2) to every subscriber; who is gone is left out from then on.
fn publish(payload: &[u8], subscribers: &Subscribers) {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => frame.extend([126, (length >> 8) as u8, length as u8]),
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
    subscribers.retain_mut(|stream| stream.write_all(&frame).is_ok());
}
