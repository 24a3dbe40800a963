//! From one transport to another: a consumer that changes, and what one publishes for all.

use pushpull_core::{Event, Message};

use crate::{
    Failure, Harness, Trial,
    history::{Record, Seen},
};

/// A consumer goes from one transport to another and back, by the cursor alone, and gets every event once.
///
/// Both must lead to the same source.
///
/// # Errors
/// What is wrong.
pub async fn hand_over(from: &dyn Harness, to: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(from, "hand");
    let mut reader = trial.reader("wanderer", trial.asking(">")?).await?;
    reader.first_word().await?;
    trial.publish_many(&["a", "b", "c"], 150).await?;
    reader.take(100).await?;
    let place = newest(&reader.session().records);
    reader = trial.resume(reader, to).await?;
    let next = reader.take(1).await?;
    if next[0].cursor().seq() <= place {
        return Err(Failure::new(format!("{} came again", next[0].cursor())));
    }
    trial.publish_many(&["a", "b", "c"], 50).await?;
    reader.take(99).await?;
    reader = trial.resume(reader, from).await?;
    let last = trial.publish_many(&["a", "b", "c"], 50).await?;
    reader.reach(last).await?;
    if reader.session().events() != 250 {
        return Err(Failure::new(format!("{} of 250 events came", reader.session().events())));
    }
    trial.keep(reader);
    trial.judge().await
}

fn newest(records: &[Record]) -> u64 {
    let seq = |record: &Record| match record {
        Record::Event(Seen { cursor, .. }) => Some(cursor.seq()),
        _ => None,
    };
    records.iter().rev().find_map(seq).unwrap_or(0)
}

/// What `from` publishes, one by one and in one call, every reader gets as it was handed in: payload, content type,
/// event name and key.
///
/// All must lead to the same source.
///
/// # Errors
/// What is wrong.
pub async fn published_for_all(from: &dyn Harness, readers: &[&dyn Harness]) -> Result<(), Failure> {
    let trial = Trial::new(from, "cross");
    let mut attached = Vec::new();
    for harness in readers {
        let mut reader = trial.reader_over(*harness, harness.name(), trial.asking(">")?).await?;
        reader.first_word().await?;
        attached.push(reader);
    }
    let messages = of_every_kind();
    for message in &messages {
        trial.publish_message("a", message.clone()).await?;
    }
    let batch = [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#].map(json);
    let last = trial.publish_over(from, "b", &batch).await?.last;
    let handed_in: Vec<_> = messages.iter().chain(&batch).map(shown).collect();
    for mut reader in attached {
        let events = reader.take(handed_in.len()).await?;
        let came: Vec<_> = events.iter().map(Event::message).map(shown).collect();
        if came != handed_in {
            let name = &reader.session().name;
            return Err(Failure::new(format!("{name} was told {came:?} of {handed_in:?}")));
        }
        reader.reach(last).await?;
        trial.keep(reader);
    }
    trial.judge().await
}

/// JSON, text and binary; with a name, with a key, with both.
fn of_every_kind() -> Vec<Message> {
    vec![
        json(r#"{"px":189.30,"s":"\u00e9 \ud83d\ude00"}"#),
        Message::text("two\nlines, and \"quotes\""),
        Message::new(vec![0, 159, 146, 150, 13, 10]).with_content_type("application/octet-stream"),
        json("1e400").with_name("trade"),
        Message::text("é").with_key("k/ é%20").with_name("näme"),
        json("[]").with_content_type("application/geo+json").with_key("k"),
    ]
}

fn json(text: &'static str) -> Message {
    Message::new(text).with_content_type("application/json")
}

/// All of a message that readers get.
fn shown(message: &Message) -> String {
    let (event, key) = (message.name().unwrap_or("-"), message.key().unwrap_or("-"));
    format!("{} {event} {key} {:?}", message.content_type(), message.payload())
}
