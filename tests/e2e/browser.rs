//! A real, headless Chromium, driven by the WebDriver protocol (W3C) through its own driver.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{http::Request, program::Program};

const DRIVERS: [&str; 2] = ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver"];
const BROWSERS: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a driver may find its port taken.
const TRIES: u32 = 50;

/// A browser of its own, with an empty profile; closed when dropped.
pub(crate) struct Browser {
    port: u16,
    session: String,
    // The order matters: the driver ends before its profile is removed.
    _driver: Program,
    _profile: Profile,
}

struct Profile(PathBuf);

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Browser {
    /// `None`, said loudly, where there is no Chromium, unless `PUSHPULL_REQUIRE` names it.
    pub(crate) fn start() -> Option<Self> {
        match (present(&DRIVERS), present(&BROWSERS)) {
            (Some(driver), Some(chromium)) => Some(Self::open(driver, chromium)),
            _ => {
                let required = std::env::var("PUSHPULL_REQUIRE").unwrap_or_default();
                assert!(
                    !required.split(',').any(|one| one == "chromium"),
                    "chromium or chromedriver is missing"
                );
                eprintln!("SKIPPED: chromium or chromedriver is missing (Debian: chromium, chromium-driver)");
                None
            }
        }
    }

    fn open(driver: &str, chromium: &str) -> Self {
        let (driver, port) = (0..TRIES).find_map(|_| listening(driver)).expect("a driver finds a port");
        let profile =
            Profile(std::env::temp_dir().join(format!("pushpull-e2e-{port}-{}", std::process::id())));
        std::fs::create_dir_all(&profile.0).expect("a temporary folder can be made");
        let folder = format!("--user-data-dir={}", profile.0.display());
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--force-prefers-reduced-motion",
            "--window-size=1280,800",
            &folder,
        ];
        let options = json!({"binary": chromium, "args": flags});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": PATIENCE.as_millis() as u64},
        }}});
        let answer = send(port, "POST", "/session", &wanted).unwrap_or_else(|error| panic!("{error}"));
        let session = answer["sessionId"].as_str().expect("a session has an id").to_owned();
        Self { port, session, _driver: driver, _profile: profile }
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}{command}", self.session);
        send(self.port, "POST", &path, body).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn get(&self, command: &str) -> Value {
        let path = format!("/session/{}{command}", self.session);
        send(self.port, "GET", &path, &Value::Null).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// Makes the viewport this large, as a device of that size would.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let parameters = json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", &parameters);
    }

    /// Has the page told that the user prefers `scheme`: `light` or `dark`.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    fn command(&self, name: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": name, "params": parameters}));
    }

    /// What `expression` is worth in the page.
    pub(crate) fn read(&self, expression: &str) -> Value {
        self.post("/execute/sync", &json!({"script": format!("return ({expression});"), "args": []}))
    }

    /// Waits in the page until `expression` holds; fails with what `about` is worth if it does not in time.
    pub(crate) fn until(&self, expression: &str, about: &str) {
        let script = format!(
            "const done = arguments[0], end = Date.now() + {};\
             (function look() {{\
                 if ({expression}) done(true); else if (Date.now() > end) done(false); else setTimeout(look, 25);\
             }})();",
            (PATIENCE / 2).as_millis()
        );
        if self.post("/execute/async", &json!({"script": script, "args": []})) != true {
            panic!("never so: {expression}\n{:#}\n{:#}", self.read(about), self.log());
        }
    }

    pub(crate) fn click(&self, selector: &str) {
        self.post(&format!("/element/{}/click", self.find(selector)), &json!({}));
    }

    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        self.post(&format!("/element/{}/value", self.find(selector)), &json!({"text": text}));
    }

    fn find(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|element| element.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    /// The tab that is being driven.
    pub(crate) fn tab(&self) -> Value {
        self.get("/window")
    }

    /// Opens another tab; the one that is being driven stays.
    pub(crate) fn open_tab(&self) -> Value {
        self.post("/window/new", &json!({"type": "tab"}))["handle"].clone()
    }

    pub(crate) fn drive(&self, tab: &Value) {
        self.post("/window", &json!({"handle": tab}));
    }

    /// What the page complained of on its console since the last call.
    pub(crate) fn log(&self) -> Value {
        self.post("/se/log", &json!({"type": "browser"}))
    }

    /// A picture of the viewport (PNG).
    pub(crate) fn screenshot(&self, path: &Path) {
        let answer = self.get("/screenshot");
        let picture =
            BASE64_STANDARD.decode(answer.as_str().expect("a picture is text")).expect("it is base64");
        std::fs::write(path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser's processes; the driver is ended by its own drop.
        let _ = send(self.port, "DELETE", &format!("/session/{}", self.session), &Value::Null);
    }
}

fn present<'a>(paths: &[&'a str]) -> Option<&'a str> {
    paths.iter().copied().find(|path| Path::new(path).exists())
}

/// A driver, and its port; `None` if it has ended: it is given a free port of IPv6, and gives up where that of IPv4 is
/// taken, as it may be beside tests with many connections.
fn listening(driver: &str) -> Option<(Program, u16)> {
    let driver = Program::spawn(Command::new(driver).arg("--port=0"));
    let port = std::iter::from_fn(|| driver.next_line()).find_map(|line| port(&line))?;
    Some((driver, port))
}

fn port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("started successfully on port ")?;
    rest.trim_end_matches('.').parse().ok()
}

/// One command of the protocol: the `value` of its answer.
fn send(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = Request {
        method,
        url: &format!("http://127.0.0.1:{port}{path}"),
        content_type: "application/json",
        body: &body,
    };
    let answer = answer.send().map_err(|error| error.to_string())?;
    let mut value: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(value["value"].take()),
        _ => Err(value["value"]["message"].to_string()),
    }
}
