//! The output on a disk whose power fails, at each step and in each way.

mod model;

use super::*;
use model::{Lost, Model};

const PATH: &str = "folder/out";
const LINES: [&str; 4] = ["one\n", "", "two\n", "three\n"];
const NAMES: [Lost; 2] = [Lost::Nothing, Lost::Unsynced];
const BYTES: [Lost; 3] = [Lost::Nothing, Lost::Zeroed, Lost::Unsynced];

fn topics(patterns: &[&str]) -> Topics {
    Topics::new(patterns.iter().map(|pattern| pattern.parse().unwrap())).unwrap()
}

fn open(disk: &Model) -> Result<Output<Model>, String> {
    Output::open(disk.clone(), Path::new(PATH), &topics(&["a", "b.>"]))
}

/// Commits all lines from where the output stands, counting those that are acknowledged.
fn write(output: &mut Output<Model>, acknowledged: &mut u64) -> Result<(), String> {
    for number in output.committed.records..LINES.len() as u64 {
        let cursor = Some(format!("k1-{number}").parse().unwrap());
        let next = Checkpoint { cursor, records: number + 1, ..output.committed.clone() };
        output.commit(LINES[number as usize].as_bytes(), next)?;
        *acknowledged = number + 1;
    }
    Ok(())
}

/// The output is what its checkpoint says: all that was acknowledged, and nothing in part.
fn holds(disk: &Model, output: &Output<Model>) -> u64 {
    let records = output.committed.records;
    let text = disk.read(Path::new(PATH)).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), LINES[..records as usize].concat());
    let cursor = records.checked_sub(1).map(|last| format!("k1-{last}").parse().unwrap());
    assert_eq!(output.committed.cursor, cursor);
    records
}

#[test]
fn the_output_is_right_wherever_the_power_fails_and_whatever_that_loses() {
    let mut steps = 0;
    loop {
        let (disk, mut acknowledged) = (Model::failing_at(steps), 0);
        let ended = open(&disk).and_then(|mut output| write(&mut output, &mut acknowledged));
        for (names, bytes) in NAMES.into_iter().flat_map(|names| BYTES.map(|bytes| (names, bytes))) {
            let disk = disk.after(names, bytes);
            let when = format!("after step {steps}, names: {names:?}, bytes: {bytes:?}");
            let mut output = open(&disk).unwrap_or_else(|error| panic!("no output {when}: {error}"));
            let records = holds(&disk, &output);
            assert!(
                records == acknowledged || records == acknowledged + 1,
                "{records} records of {acknowledged} {when}"
            );
            write(&mut output, &mut acknowledged.clone()).unwrap();
            assert_eq!(holds(&disk, &output), LINES.len() as u64);
        }
        if ended.is_ok() {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 7 + 3 * 7 + 5, "opening, three lines, an answer without any");
}

#[test]
fn what_a_checkpoint_vouches_for_is_on_the_disk_before() {
    let disk = Model::default();
    let mut output = open(&disk).unwrap();
    let opened = disk.steps().len();
    let next = output.committed().clone();
    output.commit(b"one\n", next).unwrap();
    assert_eq!(
        disk.steps()[opened..],
        [
            "append to 0",
            "sync 0",
            "create folder/out.checkpoint.new",
            "append to 2",
            "sync 2",
            "rename folder/out.checkpoint.new to folder/out.checkpoint",
            "sync the names in folder",
        ]
    );
}

#[test]
fn an_output_is_of_the_topics_that_it_began_with() {
    let disk = Model::default();
    write(&mut open(&disk).unwrap(), &mut 0).unwrap();
    let open = |patterns| Output::open(disk.clone(), Path::new(PATH), &topics(patterns));
    for (other, listed) in [(&["a"][..], "a"), (&["a", "b.>", "c"], "a, b.>, c"), (&["b.>", "c"], "b.>, c")] {
        let refused = format!("{PATH} is of a, b.>, not of {listed}: name another --output");
        assert_eq!(open(other).err(), Some(refused));
    }
    assert_eq!(open(&["b.>", "a"]).unwrap().committed().records, LINES.len() as u64);
}
