//! Subscribers that lose their connections and come back.

use std::io;

use mio::Token;

use super::{State, Subscribers};

impl Subscribers {
    /// Cuts every connection.
    pub(crate) fn cut_all(&mut self) -> io::Result<()> {
        self.connections.iter_mut().try_for_each(|connection| connection.cut(self.poll.registry()))
    }

    /// Begins a new connection for the subscriber of this number, which goes on from its place.
    pub(crate) fn reopen(&mut self, number: usize) -> io::Result<()> {
        self.connections[number].reopen(&self.target, self.poll.registry(), Token(number))
    }

    /// How far the subscriber of this number has come, and the number of the message it waits for.
    pub(crate) fn progress(&self, number: usize) -> (State, u64) {
        let connection = &self.connections[number];
        (connection.state(), connection.next())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        sync::Arc,
        thread,
        time::{Duration, Instant},
    };

    use super::{
        super::{Received, Target},
        *,
    };
    use crate::{
        shape::{Content, Shape},
        stamp::Stamp,
        stream::PATIENCE,
        wire::{From, Transport},
    };

    /// Request lines and the connections they came by, which are open as long as this is kept.
    type Asked = Vec<(String, TcpStream)>;

    /// A server that answers the one request of each connection by `answers` in turn.
    fn script(answers: Vec<String>) -> (SocketAddr, thread::JoinHandle<Asked>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let told = thread::spawn(move || {
            let answer = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
                let line = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().remove(0);
                stream.write_all(answer.as_bytes()).unwrap();
                (line, stream)
            };
            answers.into_iter().map(answer).collect()
        });
        (server, told)
    }

    fn block(number: u64) -> String {
        format!("id: a-{}\ndata: {}\n\n", number + 1, Stamp { number, sent: 5 }.payload(64))
    }

    fn read_to(subscribers: &mut Subscribers, received: &mut Received, is_so: impl Fn(State, u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (state, next) = subscribers.progress(0);
            if is_so(state, next) {
                return;
            }
            assert!(Instant::now() < deadline, "{state:?}, {next}, {received:?}");
            subscribers.read(Duration::from_millis(20), received, &mut |_, _| {}).unwrap();
        }
    }

    #[test]
    fn who_was_cut_goes_on_from_the_last_whole_event() {
        const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
        let first = format!("{OK}id: a-0\n\n{}{}id: a-9\ndata: cut", block(0), block(1));
        let full = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n".to_owned();
        let last = format!("{OK}id: a-2\n\n{}", block(2));
        let (server, asked) = script(vec![first, full, last]);
        let mut target = Target::new(Transport::Sse, server.into(), Arc::new(Shape::new(Content::Text, 64)));
        target.keeps_places = true;
        let mut subscribers = Subscribers::open(target, 1, 1, From::Now).unwrap();
        let mut received = Received::default();
        read_to(&mut subscribers, &mut received, |_, next| next == 2);
        subscribers.cut_all().unwrap();
        subscribers.reopen(0).unwrap();
        assert_eq!(subscribers.progress(0), (State::Connecting, 2));
        let pause = State::Refused(Duration::from_secs(7));
        read_to(&mut subscribers, &mut received, |state, _| state == pause);
        subscribers.reopen(0).unwrap();
        read_to(&mut subscribers, &mut received, |state, next| (state, next) == (State::Stands, 3));
        let wanted =
            Received { events: 3, reads: received.reads, bytes: received.bytes, ..Received::default() };
        assert_eq!(received, wanted);
        for (line, _) in &asked.join().unwrap()[1..] {
            assert!(line.contains("&after=a-2 "), "{line}");
        }
    }
}
