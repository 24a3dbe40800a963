//! Every other example: it starts, says what it should, and ends well.

use crate::program::Program;

#[test]
fn hub_listens_and_drains() {
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0", "--drain", "5"]);
    assert!(hub.url().starts_with("http://127.0.0.1:"));
    assert!(hub.terminate().success());
}

#[test]
fn hub_refuses_a_flag_that_it_does_not_know() {
    let mut hub = Program::start("hub", &["--no-such-flag"]);
    assert_eq!(hub.ended().code(), Some(2));
}

#[test]
fn quickstart_prints_what_was_published() {
    let mut quickstart = Program::start("quickstart", &[]);
    for price in ["189.3", "189.4", "189.1"] {
        assert_eq!(quickstart.line(), format!("quotes.AAPL b\"{price}\""));
    }
    assert!(quickstart.ended().success());
}
