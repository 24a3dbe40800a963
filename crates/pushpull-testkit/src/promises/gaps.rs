//! Loss is never hidden, and the slow do not harm the others.

use pushpull_core::{Cursor, Delivery, Epoch, Gap, GapReason, Message, Overflow, Subscribe};

use crate::{Failure, Harness, Reader, Trial};

/// A consumer that was away until retention passed its place.
async fn left_behind<'a>(
    harness: &'a dyn Harness,
    name: &str,
    overflow: Overflow,
) -> Result<(Trial<'a>, Reader, Cursor), Failure> {
    let trial = Trial::new(harness, name);
    let request: Subscribe = trial.asking("a")?.on_overflow(overflow);
    let mut reader = trial.reader("left behind", request).await?;
    reader.first_word().await?;
    trial.publish("a").await?;
    reader.take(1).await?;
    let place = reader.place();
    let last = trial.publish_many(&["a"], harness.retains() + 20).await?;
    let away = reader.into_session();
    let place = place.ok_or_else(|| Failure::new("it has no place"))?;
    let request = trial.asking("a")?.on_overflow(overflow).from(place);
    trial.keep_session(away);
    let reader = trial.reader("back", request).await?;
    Ok((trial, reader, last))
}

fn expect(gap: &Gap, reasons: &[GapReason], after: Option<Cursor>) -> Result<(), Failure> {
    match reasons.contains(&gap.reason) && after.is_none_or(|after| after == gap.after) {
        true => Ok(()),
        false => Err(Failure::new(format!("not the gap that was to be told: {gap:?}"))),
    }
}

/// Who comes back too late is told what is gone, and gets all that is left.
///
/// # Errors
/// What is wrong.
pub async fn gap_is_told(harness: &dyn Harness) -> Result<(), Failure> {
    let (trial, mut reader, last) = left_behind(harness, "gap", Overflow::Gap).await?;
    let asked = match reader.session().request.start {
        pushpull_core::StartAt::After(cursor) => Some(cursor),
        pushpull_core::StartAt::Start(_) => None,
    };
    let gap = reader.gap().await?;
    expect(&gap, &[GapReason::Evicted, GapReason::Lagged], asked)?;
    if gap.cursor != gap.after {
        return Err(Failure::new(format!("it moves the place: {gap:?}")));
    }
    reader.reach(last).await?;
    let events = reader.session().events();
    if events != harness.retains() {
        return Err(Failure::new(format!("{events} events came of {} retained", harness.retains())));
    }
    trial.keep(reader);
    trial.judge().await
}

/// With `overflow=close` the gap is the last that is told.
///
/// # Errors
/// What is wrong.
pub async fn overflow_closes(harness: &dyn Harness) -> Result<(), Failure> {
    let (trial, mut reader, _) = left_behind(harness, "close", Overflow::Close).await?;
    let gap = match reader.next().await? {
        // A server that is asked for nothing but what is gone may refuse at once.
        None => None,
        Some(Delivery::Gap(gap)) => Some(gap),
        Some(_) => Some(reader.gap().await?),
    };
    if let Some(gap) = gap {
        expect(&gap, &[GapReason::Evicted, GapReason::Lagged], None)?;
        if let Some(more) = reader.next().await? {
            return Err(Failure::new(format!("after the last word came {more:?}")));
        }
    }
    if reader.session().events() > 0 {
        return Err(Failure::new("events came, though it was to be closed"));
    }
    trial.keep_session(reader.into_session());
    trial.judge().await
}

/// With `overflow=latest` what is skipped is told, and the newest follows.
///
/// # Errors
/// What is wrong.
pub async fn overflow_skips(harness: &dyn Harness) -> Result<(), Failure> {
    let (trial, mut reader, last) = left_behind(harness, "skip", Overflow::Latest).await?;
    let gap = reader.gap().await?;
    expect(&gap, &[GapReason::Skipped], None)?;
    if gap.cursor.seq() < last.seq() {
        return Err(Failure::new(format!("it skips to {}, not to {last}", gap.cursor)));
    }
    let next = trial.publish("a").await?;
    reader.reach(next).await?;
    if reader.session().events() != 1 {
        return Err(Failure::new("what was skipped came all the same"));
    }
    trial.keep(reader);
    trial.judge().await
}

/// A cursor that nobody knows is told to be void.
///
/// # Errors
/// What is wrong.
pub async fn unknown_cursor_is_reset(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "reset");
    let last = trial.publish_many(&["a"], 5).await?;
    let strange = Cursor::new(Epoch::from_random(last.epoch().as_u64() ^ 1), 3);
    let ahead = Cursor::new(last.epoch(), last.seq() + 1_000_000);
    for (name, cursor) in [("strange", strange), ("ahead", ahead)] {
        let mut reader = trial.reader(name, trial.asking("a")?.from(cursor)).await?;
        match reader.next().await? {
            Some(Delivery::Gap(gap)) => expect(&gap, &[GapReason::Reset], Some(cursor))?,
            other => return Err(Failure::new(format!("the first word on a void cursor was {other:?}"))),
        }
        reader.reach(last).await?;
        trial.keep(reader);
    }
    trial.judge().await
}

/// A consumer that does not read takes nothing from the others, and is told what it lost.
///
/// # Errors
/// What is wrong.
pub async fn isolation(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "alone");
    let mut stalled = trial.reader("stalled", trial.asking("a")?).await?;
    stalled.first_word().await?;
    let mut fast = Vec::new();
    for n in 0..4 {
        let mut reader = trial.reader(&format!("fast {n}"), trial.asking("a")?).await?;
        reader.first_word().await?;
        fast.push(reader);
    }
    let chunk = harness.retains() / 2;
    let mut last = None;
    for round in 0..5 {
        for n in 0..chunk {
            let payload = format!("{round} {n} {}", "x".repeat(2000));
            last = Some(trial.publish_message("a", Message::text(payload)).await?.last);
        }
        for reader in &mut fast {
            reader.take(chunk).await?;
        }
    }
    for reader in fast {
        if let Some(gap) = reader.session().gaps().next() {
            return Err(Failure::new(format!("a fast reader was told: {gap}")));
        }
        trial.keep(reader);
    }
    // What the stalled one lost, if anything, the record tells.
    if let Some(last) = last {
        stalled.reach(last).await?;
    }
    trial.keep(stalled);
    trial.judge().await
}
