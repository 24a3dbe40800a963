//! One experiment with a harness, recorded and judged.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pushpull_core::{
    Cursor, Delivery, Event, Fetch, Gap, Link, Message, Published, Start, StartAt, Subscribe, Subscription,
    Topic, Topics,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    Failure, Harness,
    history::{History, Publish, Seen, Session, Source},
};

/// How long anything may take that is to come: 20 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// One experiment: topics of its own, and all that happens on them on record.
pub struct Trial<'a> {
    harness: &'a dyn Harness,
    space: String,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    history: History,
    published: HashMap<Topic, usize>,
    count: u64,
}

/// A consumer on record.
#[derive(Debug)]
pub struct Reader {
    subscription: Subscription,
    session: Session,
}

impl<'a> Trial<'a> {
    /// A trial of `harness`, on topics that begin with `name` and something random.
    pub fn new(harness: &'a dyn Harness, name: &str) -> Self {
        let space = format!("{name}-{:08x}", fastrand::u32(..));
        Self { harness, space, record: Mutex::default() }
    }

    /// The harness.
    pub fn harness(&self) -> &'a dyn Harness {
        self.harness
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of one of its topics, or of a pattern over them.
    pub fn named(&self, name: &str) -> String {
        format!("{}.{name}", self.space)
    }

    /// One of its topics.
    ///
    /// # Errors
    /// If `name` is none.
    pub fn topic(&self, name: &str) -> Result<Topic, Failure> {
        Topic::new(&self.named(name)).map_err(Failure::new)
    }

    /// A subscription to one of its topics or patterns.
    ///
    /// # Errors
    /// If `name` is none.
    pub fn asking(&self, name: &str) -> Result<Subscribe, Failure> {
        Subscribe::to(&self.named(name)).map_err(Failure::new)
    }

    /// A message unlike every other of this trial.
    pub fn message(&self) -> Message {
        let mut record = self.lock();
        record.count += 1;
        Message::text(format!("message {}", record.count))
    }

    /// Publishes a message unlike every other.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn publish(&self, name: &str) -> Result<Cursor, Failure> {
        Ok(self.publish_message(name, self.message()).await?.last)
    }

    /// Publishes `count` messages, one by one, to the topics of `names` in turn, and returns the last cursor.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn publish_many(&self, names: &[&str], count: usize) -> Result<Cursor, Failure> {
        let mut last = None;
        for name in names.iter().cycle().take(count) {
            last = Some(self.publish(name).await?);
            // A source in process never waits: let those run that are to race with it.
            tokio::task::yield_now().await;
        }
        last.ok_or_else(|| Failure::new("nothing was published"))
    }

    /// Publishes `message`.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn publish_message(&self, name: &str, message: Message) -> Result<Published, Failure> {
        self.publish_over(self.harness, name, &[message]).await
    }

    /// Publishes `messages` in one call, by whatever way leads to the same source.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn publish_over(
        &self,
        harness: &dyn Harness,
        name: &str,
        messages: &[Message],
    ) -> Result<Published, Failure> {
        let topic = self.topic(name)?;
        let answer = within(harness.publish(&topic, messages), "an acknowledgement").await?;
        let mut record = self.lock();
        record.history.publishes.extend(Publish::all(&topic, messages, &answer));
        *record.published.entry(topic).or_default() += messages.len();
        Ok(answer?)
    }

    /// Begins to consume.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn reader(&self, name: &str, request: Subscribe) -> Result<Reader, Failure> {
        self.reader_over(self.harness, name, request).await
    }

    /// Begins to consume by another way from the same source.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn reader_over(
        &self,
        harness: &dyn Harness,
        name: &str,
        request: Subscribe,
    ) -> Result<Reader, Failure> {
        let mut session = Session::new(name, &request);
        if request.start == StartAt::Start(Start::Earliest) {
            session.began_at = self.head().await?;
        }
        let subscription = within(harness.consume(request), "a subscription").await??;
        Ok(Reader { subscription, session })
    }

    /// Goes on, by `harness`, from where `reader` stands.
    ///
    /// # Errors
    /// If that fails, or takes too long.
    pub async fn resume(&self, reader: Reader, harness: &dyn Harness) -> Result<Reader, Failure> {
        let place = reader.place().ok_or_else(|| Failure::new("it has no place to resume from"))?;
        let mut session = reader.session;
        drop(reader.subscription);
        session.resume(place);
        let request = session.request.clone().from(place);
        let subscription = within(harness.consume(request), "a subscription").await??;
        Ok(Reader { subscription, session })
    }

    async fn head(&self) -> Result<Option<Cursor>, Failure> {
        let any = self.topic("any")?;
        Ok(self.harness.read(Fetch::new(Topics::only(&any))).await?.place)
    }

    /// Takes the session of a reader that must have been told everything.
    pub fn keep(&self, reader: Reader) {
        self.keep_session(Session { caught_up: true, ..reader.session });
    }

    /// Takes the session of a reader that may have stopped anywhere.
    pub fn keep_session(&self, session: Session) {
        self.lock().history.sessions.push(session);
    }

    /// Judges all that happened.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn judge(&self) -> Result<(), Failure> {
        let source = self.source().await?;
        let mut history = self.lock().history.clone();
        history.source = Some(source);
        Ok(history.verify()?)
    }

    async fn source(&self) -> Result<Source, Failure> {
        let evicts = self.lock().published.values().any(|count| *count > self.harness.retains());
        let topics = self.asking(">")?.topics;
        let mut fetch = Fetch::new(topics).from(Start::Earliest).with_limit(Fetch::MAX_LIMIT);
        let mut retained = Vec::new();
        loop {
            let batch = within(self.harness.read(fetch.clone()), "the source").await??;
            let events = batch.deliveries.into_iter().filter_map(Delivery::into_event);
            retained.extend(events.map(|event| Seen::from(&event)));
            let head = batch.place.ok_or_else(|| Failure::new("the source tells no place"))?;
            if !batch.more {
                return Ok(Source { head, epochs: None, retained, evicts });
            }
            fetch = fetch.from(head);
        }
    }
}

impl Reader {
    /// Where it stands.
    pub fn place(&self) -> Option<Cursor> {
        self.subscription.place()
    }

    /// What it was told so far.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What it was told.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// The subscription, past the record.
    pub fn subscription(&mut self) -> &mut Subscription {
        &mut self.subscription
    }

    /// The next delivery that is no word on the link; `None` at the end.
    ///
    /// # Errors
    /// If the consumer fails, or nothing comes for too long.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Failure> {
        loop {
            let next = within(self.subscription.next(), "a delivery").await?.transpose()?;
            if let Some(delivery) = &next {
                self.session.take(delivery);
            }
            match next {
                Some(Delivery::Link(Link::Ended { retry: None, .. })) => return Ok(None),
                Some(Delivery::Link(_)) => {}
                next => return Ok(next),
            }
        }
    }

    async fn expect(&mut self, what: &str) -> Result<Delivery, Failure> {
        self.next().await?.ok_or_else(|| Failure::new(format!("it ended before {what} came")))
    }

    /// Reads until it stands at `place` or behind it.
    ///
    /// # Errors
    /// If it does not come there in time.
    pub async fn reach(&mut self, place: Cursor) -> Result<(), Failure> {
        while !self.has_reached(place) {
            self.expect(&format!("the place {place}")).await?;
        }
        Ok(())
    }

    fn has_reached(&self, place: Cursor) -> bool {
        self.session.records.iter().rev().find_map(reached).is_some_and(|at| at >= place.seq())
    }

    /// Reads on and on, until a goal is told and reached.
    ///
    /// # Errors
    /// If nothing comes for too long before that.
    pub async fn follow(mut self, mut goal: watch::Receiver<Option<Cursor>>) -> Result<Self, Failure> {
        loop {
            let told = *goal.borrow_and_update();
            if let Some(place) = told {
                self.reach(place).await?;
                return Ok(self);
            }
            tokio::select! {
                next = self.expect("the goal") => drop(next?),
                changed = goal.changed() => changed.map_err(Failure::new)?,
            }
        }
    }

    /// Reads `count` more events.
    ///
    /// # Errors
    /// If they do not come in time.
    pub async fn take(&mut self, count: usize) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.expect("an event").await?.into_event());
        }
        Ok(events)
    }

    /// Reads the first word: a place.
    ///
    /// # Errors
    /// If something else comes.
    pub async fn first_word(&mut self) -> Result<Cursor, Failure> {
        match self.expect("the first word").await? {
            Delivery::Place(place) => Ok(place),
            other => Err(Failure::new(format!("the first word was {other:?}"))),
        }
    }

    /// Reads up to a gap.
    ///
    /// # Errors
    /// If an event comes before it, or it does not come in time.
    pub async fn gap(&mut self) -> Result<Gap, Failure> {
        loop {
            match self.expect("a gap").await? {
                Delivery::Gap(gap) => return Ok(gap),
                Delivery::Place(_) => {}
                other => return Err(Failure::new(format!("instead of a gap came {other:?}"))),
            }
        }
    }
}

fn reached(record: &crate::history::Record) -> Option<u64> {
    use crate::history::Record;
    match record {
        Record::Event(seen) if seen.view != pushpull_core::View::Snapshot => Some(seen.cursor.seq()),
        Record::Place(place) => Some(place.seq()),
        Record::Gap(gap) => Some(gap.cursor.seq()),
        _ => None,
    }
}

async fn within<T>(future: impl Future<Output = T>, what: &str) -> Result<T, Failure> {
    let late = |_| Failure::new(format!("{what} did not come within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, future).await.map_err(late)
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial")
            .field("harness", &self.harness.name())
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}
