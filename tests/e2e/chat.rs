//! The chat: two tabs in one room.

use serde_json::{Value, json};

use crate::{browser::Browser, program::Program};

const STATE: &str = "window.pushpull.chat";
const SEEN: &str = "[...document.querySelectorAll('#messages .message')].map((row) => [row.querySelector('b').textContent, row.querySelector('span').textContent])";
const BOB: &str = "<b>Bob</b>";
const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\">";

#[test]
fn two_tabs_talk_and_one_that_was_away_catches_up() {
    let Some(browser) = Browser::start() else { return };
    let chat = Program::start("chat", &["--listen", "127.0.0.1:0"]);
    let ada = browser.tab();
    join(&browser, &chat.url(), "Ada", "e2e");
    say(&browser, "before you came");

    let url = browser.read("location.href");
    let bob = browser.open_tab();
    browser.drive(&bob);
    join(&browser, url.as_str().expect("a URL is text"), BOB, "e2e");
    sees(&browser, &[("Ada", "before you came")]);
    say(&browser, HOSTILE);

    browser.drive(&ada);
    let mut all = vec![("Ada", "before you came"), (BOB, HOSTILE)];
    sees(&browser, &all);
    assert_eq!(browser.read("document.querySelectorAll('#messages img').length"), 0, "text, never markup");
    browser.click("#cut");
    assert_eq!(browser.read(&format!("{STATE}.state")), "cut");
    say_later(&browser, "said while away");

    browser.drive(&bob);
    say(&browser, "did you see this?");
    browser.drive(&ada);
    browser.until(&format!("{STATE}.state === 'live' && {STATE}.waiting === 0"), STATE);
    all.extend([(BOB, "did you see this?"), ("Ada", "said while away")]);
    sees(&browser, &all);
    browser.drive(&bob);
    sees(&browser, &all);

    let state = browser.read(STATE);
    assert_eq!((&state["gaps"], &state["messages"]), (&Value::from(0), &Value::from(4)), "{state:#}");
    assert_eq!(browser.read("document.title"), "pushpull: chat", "no script of a message ran");
    assert_eq!(browser.log(), json!([]), "the console is clean");
    assert!(chat.terminate().success());
}

fn join(browser: &Browser, url: &str, nick: &str, room: &str) {
    browser.go(url);
    browser.read("document.getElementById('room').value = ''");
    browser.type_into("#nick", nick);
    browser.type_into("#room", room);
    browser.click("#join button");
    browser.until(&format!("{STATE}.state === 'live'"), STATE);
}

fn say_later(browser: &Browser, text: &str) {
    browser.type_into("#text", text);
    browser.click("#say button");
    assert_eq!(browser.read(&format!("{STATE}.waiting")), 1);
}

fn say(browser: &Browser, text: &str) {
    browser.type_into("#text", text);
    browser.click("#say button");
    browser.until(&format!("{STATE}.waiting === 0"), STATE);
}

/// Exactly these messages, in this order.
fn sees(browser: &Browser, messages: &[(&str, &str)]) {
    let wanted = json!(messages);
    browser.until(&format!("JSON.stringify({SEEN}) === JSON.stringify({wanted})"), SEEN);
}
