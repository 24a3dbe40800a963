//! The requests and responses of one connection of HTTP/1.1, as bytes pass by: without I/O and clock of its own.
//!
//! What is no HTTP/1.1, or stops being it, passes as it is.

mod body;
mod head;

use std::collections::VecDeque;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::{
    body::Body,
    head::{Head, Incoming, Told, may_be_request, may_be_response},
};
use super::{
    faults::{Buffering, Faults, Upgrade},
    pipe::Stage,
};

/// Most bytes of a response that are held.
const MAX_HELD: usize = 1024 * 1024;

/// Most requests of a connection that may wait for their responses; a client that asks more counts as another
/// protocol.
const MAX_WAITING: usize = 64;

/// What both directions of a connection know of each other.
#[derive(Debug, Default)]
pub(super) struct Exchange(watch::Sender<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Asked>,
    /// It was upgraded.
    is_tunnel: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    since: Instant,
    is_to_head: bool,
}

/// Where a direction stands.
#[derive(Debug)]
enum At {
    Head(Incoming),
    Body(Body),
    /// Behind all that is HTTP/1.1.
    Other,
}

/// The client's direction.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    exchange: &'a Exchange,
    at: At,
}

/// The server's direction.
#[derive(Debug)]
pub(super) struct Responses<'a> {
    exchange: &'a Exchange,
    at: At,
    held: Vec<u8>,
}

impl Exchange {
    /// Ends when a request has waited longer than the faults allow.
    pub(super) async fn lose_patience(&self, mut faults: watch::Receiver<Faults>) {
        let mut waiting = self.0.subscribe();
        loop {
            let since = waiting.borrow_and_update().requests.front().map(|asked| asked.since);
            let patience = faults.borrow_and_update().patience;
            let late = async {
                match since.zip(patience) {
                    Some((since, patience)) => sleep_until(since + patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = late => return,
                // Both senders outlive the connection.
                _ = waiting.changed() => {}
                _ = faults.changed() => {}
            }
        }
    }

    /// Whether there was room for one more.
    fn ask(&self, is_to_head: bool) -> bool {
        let mut is_new = false;
        self.0.send_if_modified(|waiting| {
            is_new = waiting.requests.len() < MAX_WAITING;
            if is_new {
                waiting.requests.push_back(Asked { since: Instant::now(), is_to_head });
            }
            is_new
        });
        is_new
    }

    fn first(&self) -> Option<Asked> {
        self.0.borrow().requests.front().copied()
    }

    fn answer(&self) {
        self.0.send_modify(|waiting| {
            waiting.requests.pop_front();
        });
    }

    fn upgrade(&self) {
        self.0.send_modify(|waiting| *waiting = Waiting { is_tunnel: true, ..Waiting::default() });
    }

    /// What is no HTTP/1.1 makes nobody impatient.
    fn give_up(&self) {
        self.upgrade();
    }

    fn is_tunnel(&self) -> bool {
        self.0.borrow().is_tunnel
    }
}

impl<'a> Requests<'a> {
    pub(super) fn new(exchange: &'a Exchange) -> Self {
        Self { exchange, at: At::Head(Incoming::default()) }
    }

    fn begin(&mut self, head: Head, faults: &Faults, out: &mut Vec<u8>) {
        let is_known = self.exchange.ask(head.is_to_head());
        let head = match faults.upgrade {
            Upgrade::Passed => head,
            Upgrade::Stripped => head.without_upgrade(),
        };
        out.extend_from_slice(head.bytes());
        self.at = if is_known { At::body(head.request_body()) } else { At::Other };
    }
}

impl<'a> Responses<'a> {
    pub(super) fn new(exchange: &'a Exchange) -> Self {
        Self { exchange, at: At::Head(Incoming::default()), held: Vec::new() }
    }

    fn begin(&mut self, head: &Head, asked: Asked, faults: &Faults, out: &mut Vec<u8>) {
        match head.status() {
            101 => {
                self.exchange.upgrade();
                out.extend_from_slice(head.bytes());
                self.at = At::Other;
            }
            100..200 => out.extend_from_slice(head.bytes()),
            _ => {
                let body = head.response_body(asked.is_to_head);
                self.exchange.answer();
                self.emit(head.bytes(), faults.buffering == Buffering::Whole && !body.is_over(), out);
                self.at = At::body(body);
            }
        }
    }

    fn emit(&mut self, bytes: &[u8], is_held: bool, out: &mut Vec<u8>) {
        if !is_held || self.held.len() + bytes.len() > MAX_HELD {
            out.append(&mut self.held);
            out.extend_from_slice(bytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }
}

impl At {
    fn body(body: Body) -> Self {
        if body.is_over() { Self::Head(Incoming::default()) } else { Self::Body(body) }
    }
}

impl Stage for Requests<'_> {
    fn pass(&mut self, mut came: &[u8], faults: &Faults, out: &mut Vec<u8>) {
        while !came.is_empty() {
            if self.exchange.is_tunnel() {
                self.end(out);
                self.at = At::Other;
            }
            match &mut self.at {
                At::Head(incoming) => match incoming.take(&mut came, may_be_request) {
                    Told::More => {}
                    Told::Head(head) => self.begin(head, faults, out),
                    Told::Other(all) => {
                        self.exchange.give_up();
                        out.extend(all);
                    }
                },
                At::Body(body) => match body.take(came) {
                    Ok(taken) => {
                        out.extend_from_slice(&came[..taken]);
                        came = &came[taken..];
                        if body.is_over() {
                            self.at = At::Head(Incoming::default());
                        }
                    }
                    Err(_) => self.exchange.give_up(),
                },
                At::Other => out.extend_from_slice(std::mem::take(&mut came)),
            }
        }
    }

    fn change(&mut self, _: &Faults, _: &mut Vec<u8>) {}

    fn end(&mut self, out: &mut Vec<u8>) {
        if let At::Head(incoming) = &mut self.at {
            out.append(&mut incoming.rest());
        }
    }
}

impl Stage for Responses<'_> {
    fn pass(&mut self, mut came: &[u8], faults: &Faults, out: &mut Vec<u8>) {
        let is_held = faults.buffering != Buffering::Off;
        while !came.is_empty() {
            match &mut self.at {
                At::Head(incoming) => {
                    match (self.exchange.first(), incoming.take(&mut came, may_be_response)) {
                        (_, Told::More) => {}
                        (Some(asked), Told::Head(head)) => self.begin(&head, asked, faults, out),
                        // A response that nobody asked for.
                        (None, Told::Head(head)) => {
                            out.extend_from_slice(head.bytes());
                            self.at = At::Other;
                        }
                        (_, Told::Other(all)) => {
                            self.exchange.give_up();
                            out.extend(all);
                            self.at = At::Other;
                        }
                    }
                }
                At::Body(body) => match body.take(came) {
                    Ok(taken) => {
                        let is_over = body.is_over();
                        self.emit(&came[..taken], is_held && !is_over, out);
                        came = &came[taken..];
                        if is_over {
                            self.at = At::Head(Incoming::default());
                        }
                    }
                    Err(_) => {
                        out.append(&mut self.held);
                        self.at = At::Other;
                    }
                },
                At::Other => out.extend_from_slice(std::mem::take(&mut came)),
            }
        }
    }

    fn change(&mut self, faults: &Faults, out: &mut Vec<u8>) {
        if faults.buffering == Buffering::Off {
            out.append(&mut self.held);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        if let At::Head(incoming) = &mut self.at {
            out.append(&mut incoming.rest());
        }
    }
}

#[cfg(test)]
mod tests;
