//! Order, each once, provable; acknowledged is kept, and once.

use pushpull_core::{ErrorKind, Message, Outcome, Prev, Published, Start};

use crate::{Failure, Harness, Trial};

/// Events of several topics come in rising order, to whoever asks for topics and to whoever asks by pattern.
///
/// # Errors
/// What is wrong.
pub async fn order(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "order");
    let both = trial.asking("a")?.and(&trial.named("b")).map_err(Failure::new)?;
    let mut readers = [
        trial.reader("both", both).await?,
        trial.reader("all", trial.asking(">")?).await?,
        trial.reader("one", trial.asking("c")?).await?,
    ];
    for reader in &mut readers {
        reader.first_word().await?;
    }
    trial.publish_many(&["a", "b", "c"], 149).await?;
    let last = trial.publish("c").await?;
    for (reader, count) in readers.iter_mut().zip([100, 150, 50]) {
        reader.take(count).await?;
    }
    let [_, all, one] = &mut readers;
    all.reach(last).await?;
    one.reach(last).await?;
    for reader in readers {
        trial.keep_session(reader.into_session());
    }
    trial.judge().await
}

/// A consumer that leaves and comes back, again and again, gets every event once.
///
/// # Errors
/// What is wrong.
pub async fn each_once(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "once");
    let mut reader = trial.reader("wanderer", trial.asking(">")?).await?;
    reader.first_word().await?;
    for round in 0..8 {
        trial.publish_many(&["a", "b"], 20).await?;
        reader.take(7 + round).await?;
        reader = trial.resume(reader, harness).await?;
    }
    let last = trial.publish("a").await?;
    reader.reach(last).await?;
    trial.keep(reader);
    trial.judge().await
}

/// The same, with connections cut while events are on their way.
///
/// # Errors
/// What is wrong.
pub async fn survives_cuts(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "cuts");
    let mut reader = trial.reader("reader", trial.asking(">")?).await?;
    reader.first_word().await?;
    for _ in 0..6 {
        trial.publish_many(&["a", "b"], 20).await?;
        harness.cut().await;
        trial.publish_many(&["a", "b"], 20).await?;
        reader.take(25).await?;
    }
    let last = trial.publish("a").await?;
    reader.reach(last).await?;
    trial.keep(reader);
    trial.judge().await
}

/// Every event names the one before it on its topic.
///
/// # Errors
/// What is wrong.
pub async fn provable(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "prove");
    let mut reader = trial.reader("prover", trial.asking(">")?).await?;
    reader.first_word().await?;
    trial.publish_many(&["a", "b"], 20).await?;
    let events = reader.take(20).await?;
    if let Some(event) = events.iter().find(|event| event.prev() == Prev::Unknown) {
        return Err(Failure::new(format!("{} does not say what came before it", event.cursor())));
    }
    let firsts = events.iter().filter(|event| event.prev() == Prev::First).count();
    if firsts != 2 {
        return Err(Failure::new(format!("{firsts} events say that they are the first of two topics")));
    }
    trial.keep(reader);
    trial.judge().await
}

/// What was acknowledged is there for who comes afterwards.
///
/// # Errors
/// What is wrong.
pub async fn acknowledged_is_readable(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "ack");
    let last = trial.publish_many(&["a", "b", "c"], 60).await?;
    let mut reader = trial.reader("late", trial.asking(">")?.from(Start::Earliest)).await?;
    reader.reach(last).await?;
    if reader.session().events() != 60 {
        return Err(Failure::new(format!("{} of 60 events are there", reader.session().events())));
    }
    trial.keep(reader);
    trial.judge().await
}

/// A repeat with the same id gives the first cursor; another payload under it is refused.
///
/// # Errors
/// What is wrong.
pub async fn idempotent(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "idem");
    let message = trial.message().with_idempotency("id 1");
    let first = trial.publish_message("a", message.clone()).await?;
    trial.publish("a").await?;
    let again = trial.publish_message("a", message.clone()).await?;
    if again != first {
        return Err(Failure::new(format!("{first:?} was repeated as {again:?}")));
    }
    // The scope of an id is its topic.
    trial.publish_message("b", message).await?;
    let other = [Message::text("another payload").with_idempotency("id 1")];
    match harness.publish(&trial.topic("a")?, &other).await {
        Err(error) if error.kind() == ErrorKind::Conflict && error.outcome() == Outcome::NotApplied => {}
        other => return Err(Failure::new(format!("another payload under the same id gave {other:?}"))),
    }
    trial.judge().await
}

/// Messages published in one call come in their order with none between them, or not at all.
///
/// # Errors
/// What is wrong.
pub async fn batch_is_atomic(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "batch");
    let mut reader = trial.reader("reader", trial.asking(">")?).await?;
    reader.first_word().await?;
    let batches: Vec<Vec<Message>> = (0..4).map(|n| numbers(n * 10)).collect();
    let over = |at: usize| trial.publish_over(harness, "a", &batches[at]);
    let published = tokio::try_join!(over(0), over(1), over(2), over(3))?;
    let spans: [Published; 4] = published.into();
    if let Some(span) = spans.iter().find(|span| span.count != 3) {
        return Err(Failure::new(format!("three messages were published as {span:?}")));
    }
    let events = reader.take(12).await?;
    for three in events.chunks(3) {
        let spans_it = |span: &&Published| span.first == three[0].cursor() && span.last == three[2].cursor();
        if !spans.iter().any(|span| spans_it(&span)) {
            return Err(Failure::new(format!("a batch was torn at {}", three[0].cursor())));
        }
    }
    let mut spoilt = numbers(90);
    spoilt.push(Message::new("{no JSON").with_content_type("application/json"));
    if let Ok(published) = harness.publish(&trial.topic("a")?, &spoilt).await {
        return Err(Failure::new(format!("a batch with an invalid message was published: {published:?}")));
    }
    let last = trial.publish("a").await?;
    reader.reach(last).await?;
    trial.keep(reader);
    trial.judge().await
}

fn numbers(from: u32) -> Vec<Message> {
    let number = |n: u32| Message::new(n.to_string()).with_content_type("application/json");
    (from..from + 3).map(number).collect()
}
