//! A session of TLS over bytes; knows no socket.

use std::{io, mem};

use rustls::{
    InvalidMessage,
    client::UnbufferedClientConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
    },
};

/// Most bytes that a record holds, and what it has at most besides (RFC 8446, 5.2).
const RECORD: usize = 16 << 10;
const OVERHEAD: usize = 256 + 5;

/// A client's session: deciphers where records lie, so that a load generator has as little to do as can be.
pub(super) struct Session {
    tls: UnbufferedClientConnection,
    stage: Stage,
    /// The beginning of a record whose end has not come.
    part: Vec<u8>,
    /// What may not be sent before the handshake is done.
    queued: Vec<u8>,
    /// Records that are to be written.
    out: Vec<u8>,
    /// What was deciphered and not taken.
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Stands,
    /// The server has ended it.
    Over,
}

/// Where what was deciphered goes: as far as there is room, and what is behind that is kept.
struct Taker<'a> {
    into: &'a mut [u8],
    filled: usize,
    kept: &'a mut Vec<u8>,
}

impl Session {
    pub(super) fn new(tls: UnbufferedClientConnection) -> Self {
        let (part, queued, out, kept) = Default::default();
        Self { tls, stage: Stage::Handshake, part, queued, out, kept }
    }

    /// Whether the handshake is done, and nothing over.
    pub(super) fn stands(&self) -> bool {
        self.stage == Stage::Stands
    }

    /// Whether the server has said that nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Seals `bytes` into records that are to be written, as soon as the handshake lets it.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.queued.extend_from_slice(bytes);
        let mut part = mem::take(&mut self.part);
        let (_, done) = self.advance(&mut part, &mut [])?;
        part.drain(..done);
        self.part = part;
        Ok(())
    }

    /// Where in `scratch` records are to be read to.
    pub(super) fn room<'a>(&self, scratch: &'a mut [u8]) -> &'a mut [u8] {
        let (part, free) = scratch.split_at_mut(self.part.len());
        part.copy_from_slice(&self.part);
        free
    }

    /// Opens the records that were read to the [`room`](Self::room) in `scratch`, and returns how many bytes of what
    /// they hold came `into`.
    pub(super) fn take(&mut self, scratch: &mut [u8], read: usize, into: &mut [u8]) -> io::Result<usize> {
        let records = &mut scratch[..self.part.len() + read];
        let (taken, done) = self.advance(records, into)?;
        self.part.clear();
        self.part.extend_from_slice(&records[done..]);
        Ok(taken)
    }

    /// What is to be written.
    pub(super) fn out(&self) -> &[u8] {
        &self.out
    }

    /// So much of it was.
    pub(super) fn written(&mut self, bytes: usize) {
        self.out.drain(..bytes);
    }

    /// How many bytes were kept for want of room.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Takes of what was kept.
    pub(super) fn take_kept(&mut self, into: &mut [u8]) -> usize {
        let taken = self.show(into);
        self.kept.drain(..taken);
        taken
    }

    /// Shows what was kept, and keeps it.
    pub(super) fn show(&self, into: &mut [u8]) -> usize {
        let shown = self.kept.len().min(into.len());
        into[..shown].copy_from_slice(&self.kept[..shown]);
        shown
    }

    /// Goes on as far as `records` lead. Returns how many bytes of what they hold came `into`, and how many of
    /// theirs are done with.
    fn advance(&mut self, records: &mut [u8], into: &mut [u8]) -> io::Result<(usize, usize)> {
        let Self { tls, stage, queued, out, kept, .. } = self;
        let mut taker = Taker { into, filled: 0, kept };
        let mut done = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } = tls.process_tls_records(&mut records[done..]);
            let mut is_all = false;
            match state.map_err(failed)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        taker.take(record.payload);
                        done += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(data) => put_handshake(out, data)?,
                // What is out is written before anything else.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(traffic) => {
                    if *stage == Stage::Handshake {
                        *stage = Stage::Stands;
                    }
                    put_sealed(out, queued, traffic)?;
                    is_all = true;
                }
                ConnectionState::PeerClosed => *stage = Stage::Over,
                ConnectionState::BlockedHandshake | ConnectionState::Closed => is_all = true,
                state => return Err(io::Error::other(format!("no state of a client: {state:?}"))),
            }
            done += discard;
            if is_all {
                return Ok((taker.filled, done));
            }
        }
    }
}

impl Taker<'_> {
    fn take(&mut self, bytes: &[u8]) {
        let free = &mut self.into[self.filled..];
        let (taken, rest) = bytes.split_at(bytes.len().min(free.len()));
        free[..taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        self.kept.extend_from_slice(rest);
    }
}

/// An error that says so where what came is no TLS at all.
fn failed(error: rustls::Error) -> io::Error {
    match error {
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => io::Error::other("the server speaks no TLS"),
        error => io::Error::other(error),
    }
}

fn put_handshake<T>(out: &mut Vec<u8>, mut data: EncodeTlsData<'_, T>) -> io::Result<()> {
    let from = out.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut [])
    else {
        return Ok(());
    };
    out.resize(from + required_size, 0);
    data.encode(&mut out[from..]).map_err(io::Error::other)?;
    Ok(())
}

/// Seals what is queued, all of it.
fn put_sealed<T>(
    out: &mut Vec<u8>,
    queued: &mut Vec<u8>,
    mut traffic: WriteTraffic<'_, T>,
) -> io::Result<()> {
    if queued.is_empty() {
        return Ok(());
    }
    let from = out.len();
    out.resize(from + queued.len() + (queued.len() / RECORD + 1) * OVERHEAD, 0);
    let sealed = traffic.encrypt(queued, &mut out[from..]).map_err(io::Error::other)?;
    out.truncate(from + sealed);
    queued.clear();
    Ok(())
}

#[cfg(test)]
mod tests;
