use std::{io::Write as _, net::Ipv4Addr, sync::Arc};

use rustls::ServerConnection;

use super::*;
use crate::tls::{Identity, Protocol};

/// A session and its server, hands shaken, of bytes that go over in parts of `part` bytes.
struct Pair {
    session: Session,
    server: ServerConnection,
    part: usize,
    came: Vec<u8>,
}

impl Pair {
    fn new(part: usize) -> Self {
        let identity = Identity::new().unwrap();
        let session = identity.session(Ipv4Addr::LOCALHOST.into(), Protocol::Http1).unwrap();
        let server = ServerConnection::new(Arc::new(identity.server_config(&[b"http/1.1"]))).unwrap();
        Self { session: Session::new(session), server, part, came: Vec::new() }
    }

    /// Carries over what either has to say, until neither has more.
    fn carry(&mut self) {
        while !self.session.out().is_empty() || self.server.wants_write() {
            let mut out = self.session.out();
            let written = self.server.read_tls(&mut out).unwrap();
            self.server.process_new_packets().unwrap();
            self.session.written(written);
            let mut records = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut records).unwrap();
            }
            records.chunks(self.part).for_each(|part| {
                let mut scratch = vec![0; 1 << 15];
                let room = self.session.room(&mut scratch);
                room[..part.len()].copy_from_slice(part);
                let mut into = [0; 1000];
                let mut taken = self.session.take(&mut scratch, part.len(), &mut into).unwrap();
                while taken > 0 {
                    self.came.extend_from_slice(&into[..taken]);
                    taken = self.session.take_kept(&mut into);
                }
            });
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn records_may_be_cut_anywhere() {
    for part in [1, 2, 5, 6, 997, 16_384] {
        let mut pair = Pair::new(part);
        pair.session.send(b"first").unwrap();
        assert!(!pair.session.stands());
        pair.carry();
        assert!(pair.session.stands());
        let sent = pattern(40_000);
        for bytes in [&sent[..3], &sent[3..700], &sent[700..]] {
            pair.server.writer().write_all(bytes).unwrap();
        }
        pair.carry();
        assert!(pair.came == sent, "parts of {part}");
        assert_eq!(pair.session.kept(), 0);
    }
}

#[test]
fn what_is_said_before_hands_are_shaken_is_sent_then() {
    let mut pair = Pair::new(4096);
    for bytes in [&b"one"[..], b"two"] {
        pair.session.send(bytes).unwrap();
    }
    pair.carry();
    let sent = pattern(40_000);
    pair.session.send(&sent).unwrap();
    let mut came = Vec::new();
    while !pair.session.out().is_empty() {
        let mut out = pair.session.out();
        let written = pair.server.read_tls(&mut out).unwrap();
        pair.session.written(written);
        pair.server.process_new_packets().unwrap();
        let mut chunk = [0; 8192];
        while let Ok(read) = io::Read::read(&mut pair.server.reader(), &mut chunk) {
            came.extend_from_slice(&chunk[..read]);
        }
    }
    assert!(came == [b"onetwo", &sent[..]].concat());
}

#[test]
fn an_end_that_is_told_comes_behind_all_else() {
    let mut pair = Pair::new(4096);
    pair.session.send(&[]).unwrap();
    pair.carry();
    pair.server.writer().write_all(b"last").unwrap();
    pair.server.send_close_notify();
    pair.carry();
    assert_eq!((pair.came.as_slice(), pair.session.is_over()), (&b"last"[..], true));
}

#[test]
fn a_record_that_was_changed_is_an_error() {
    let mut pair = Pair::new(4096);
    pair.session.send(&[]).unwrap();
    pair.carry();
    pair.server.writer().write_all(b"sealed").unwrap();
    let mut record = Vec::new();
    pair.server.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    assert!(pair.session.take(&mut record.clone(), record.len(), &mut []).is_err());
}
