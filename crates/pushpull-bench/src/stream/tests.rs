use std::{
    io::{BufRead as _, BufReader},
    sync::Arc,
    thread,
};

use mio::{Interest, Token};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::tls::Identity;

type Served = StreamOwned<ServerConnection, net::TcpStream>;

fn config(identity: &Identity) -> Arc<ServerConfig> {
    Arc::new(identity.server_config(&[b"h2", b"http/1.1"]))
}

/// A server of one connection, by the certificate of `shown`, which does what is to be done.
fn serve<T: Send + 'static>(
    shown: &Identity,
    serve: impl FnOnce(&mut Served) -> T + Send + 'static,
) -> (Address, thread::JoinHandle<T>) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().into();
    let session = ServerConnection::new(config(shown)).unwrap();
    let served = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        serve(&mut StreamOwned::new(session, socket))
    });
    (server, served)
}

/// Bytes of which no two parts are alike.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(u32::to_be_bytes).take(length).collect()
}

fn echo(served: &mut Served, length: usize) -> (Option<ProtocolVersion>, Option<Vec<u8>>) {
    let mut came = vec![0; length];
    served.read_exact(&mut came).unwrap();
    served.write_all(&came).unwrap();
    (served.conn.protocol_version(), served.conn.alpn_protocol().map(<[u8]>::to_vec))
}

#[test]
fn what_is_written_comes_back_as_it_was() {
    let identity = Identity::new().unwrap();
    let sent = bytes(200_000);
    for (protocol, name) in [(Protocol::Http1, &b"http/1.1"[..]), (Protocol::Http2, b"h2")] {
        let length = sent.len();
        let (server, served) = serve(identity, move |served| echo(served, length));
        let mut stream = connect(Address { tls: Some(identity), ..server }, protocol).unwrap();
        stream.write_all(&sent).unwrap();
        let mut came = vec![0; length];
        stream.read_exact(&mut came).unwrap();
        assert!(came == sent);
        assert_eq!(served.join().unwrap(), (Some(ProtocolVersion::TLSv1_3), Some(name.to_vec())));
    }
}

#[test]
fn no_other_certificate_is_trusted() {
    let [shown, trusted] = [(); 2].map(|()| Identity::new().unwrap());
    let (server, served) = serve(shown, |served| served.read(&mut [0; 1]).is_err());
    let error = connect(Address { tls: Some(trusted), ..server }, Protocol::Http1).err().unwrap();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(served.join().unwrap());
}

#[test]
fn what_was_shown_is_still_there() {
    let identity = Identity::new().unwrap();
    let (server, served) = serve(identity, |served| {
        served.write_all(b"head and ").unwrap();
        assert_eq!(served.read(&mut [0; 1]).unwrap(), 1);
        served.write_all(b"more").unwrap();
    });
    let mut stream = connect(Address { tls: Some(identity), ..server }, Protocol::Http1).unwrap();
    let mut shown = [0; 64];
    let mut peek = |stream: &mut Stream<net::TcpStream>, wanted: &[u8]| {
        assert_eq!(stream.peek(&mut shown).unwrap(), wanted.len());
        assert!(shown.starts_with(wanted));
    };
    peek(&mut stream, b"head and ");
    assert!(stream.keeps_some());
    stream.write_all(b"!").unwrap();
    peek(&mut stream, b"head and more");
    let mut came = [0; 13];
    stream.read_exact(&mut came).unwrap();
    assert_eq!((&came, stream.keeps_some()), (b"head and more", false));
    served.join().unwrap();
}

/// Waits for what `is_so` of the one source of `poll`.
fn wait_for(poll: &mut Poll, is_so: impl Fn(&mio::event::Event) -> bool) {
    let mut events = Events::with_capacity(8);
    while !events.iter().any(&is_so) {
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(!events.is_empty());
    }
}

#[test]
fn who_does_not_block_shakes_hands_meanwhile() {
    let identity = Identity::new().unwrap();
    let (server, served) = serve(identity, |served| echo(served, 5));
    let mut poll = Poll::new().unwrap();
    let mut stream = Stream::begin(Address { tls: Some(identity), ..server }, Protocol::Http1).unwrap();
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(stream.socket(), Token(0), both).unwrap();
    wait_for(&mut poll, mio::event::Event::is_writable);
    stream.write_all(b"hello").unwrap();
    let mut came = Vec::new();
    while came.len() < 5 {
        wait_for(&mut poll, mio::event::Event::is_readable);
        let mut chunk = [0; 2];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => came.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(came, b"hello");
    served.join().unwrap();
}

#[test]
fn a_stream_is_drained_when_all_of_the_socket_was_taken() {
    let identity = Identity::new().unwrap();
    let (server, served) = serve(identity, |served| served.write_all(b"some").unwrap());
    let mut stream = connect(Address { tls: Some(identity), ..server }, Protocol::Http1).unwrap();
    let mut came = [0; 3];
    assert_eq!(stream.read(&mut came).unwrap(), 3);
    assert!(!stream.is_drained(3, 3) && stream.keeps_some());
    assert_eq!(stream.read(&mut came).unwrap(), 1);
    assert!(!stream.is_drained(1, 3), "nobody has asked the socket");
    served.join().unwrap();
    assert_eq!(stream.read(&mut came).unwrap(), 0);
}

#[test]
fn without_tls_it_is_its_socket() {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = connect(listener.local_addr().unwrap().into(), Protocol::Http1).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    stream.write_all(b"ask\n").unwrap();
    let asked = BufReader::new(served.try_clone().unwrap()).lines().next().unwrap().unwrap();
    served.write_all(b"yes").unwrap();
    let mut came = [0; 8];
    while stream.peek(&mut came).unwrap() < 3 {}
    assert_eq!((asked.as_str(), stream.read(&mut came).unwrap(), &came[..3]), ("ask", 3, &b"yes"[..]));
    assert!(stream.is_drained(3, 8) && !stream.is_drained(8, 8) && !stream.keeps_some());
}

/// A socket whose every other read is interrupted.
struct Stopped(bool);

impl Read for Stopped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0 = !self.0;
        if self.0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(into.len()) }
    }
}

impl Write for Stopped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_was_stopped_reads_on() {
    let server = ([127, 0, 0, 1], 80).into();
    let mut stream = Stream::over(Stopped(false), server, Protocol::Http1).unwrap();
    assert_eq!([3, 5].map(|length| stream.read(&mut vec![0; length]).unwrap()), [3, 5]);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let socket = net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = connect(socket.into(), Protocol::Http1).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().starts_with(&format!("{socket}: Connection refused")), "{error}");
}

#[test]
fn a_server_without_tls_is_told_from_one_that_fails() {
    let identity = Identity::new().unwrap();
    let answered = |answer: &'static [u8]| {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Address { tls: Some(identity), ..listener.local_addr().unwrap().into() };
        let served = thread::spawn(move || listener.accept().unwrap().0.write_all(answer));
        let error = connect(server, Protocol::Http1).err().unwrap().to_string();
        served.join().unwrap().unwrap();
        error
    };
    assert_eq!(answered(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "the server speaks no TLS");
    let alert = answered(b"\x15\x03\x03\x00\x02\x02\x28");
    assert!(alert.contains("alert"), "{alert}");
}
