//! A real browser without a window: Chromium, told over two pipes (the DevTools protocol,
//! <https://chromedevtools.github.io/devtools-protocol/>) what to open, and asked what is on the page.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::place::Place;

/// Far more than an answer takes, on a machine with much else to do too.
const PATIENCE: Duration = Duration::from_secs(90);

/// One tab. Dropped, the browser ends.
#[derive(Debug)]
pub struct Chromium {
    process: Child,
    to: RefCell<ChildStdin>,
    messages: Receiver<Value>,
    session: String,
    number: Cell<u64>,
    /// What the browser has told unasked.
    told: RefCell<Vec<Value>>,
}

impl Chromium {
    /// Starts it with an empty tab.
    ///
    /// # Errors
    /// When Chromium isn't installed or doesn't answer.
    pub fn open(place: &Place) -> anyhow::Result<Self> {
        // It reads from descriptor 3 and writes to 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"]);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--remote-debugging-pipe", "--disable-background-networking", "--disable-extensions"]);
        command.arg(format!("--user-data-dir={}", place.join("chromium").display()));
        command.env("HOME", place.path()).process_group(0);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = RefCell::new(process.stdin.take().context("no pipe")?);
        let mut from = BufReader::new(process.stdout.take().context("no pipe")?);
        let (tell, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while from.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                let json = message.strip_suffix(&[0]).unwrap_or(&message);
                if let Ok(value) = serde_json::from_slice(json)
                    && tell.send(value).is_err()
                {
                    return;
                }
                message.clear();
            }
        });
        let (number, told) = (Cell::new(0), RefCell::default());
        let mut tab = Self { process, to, messages, session: String::new(), number, told };
        let target = tab.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = tab.call("Target.attachToTarget", &attach)?;
        tab.session = attached["sessionId"].as_str().context("no session")?.to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, &json!({}))?;
        }
        Ok(tab)
    }

    /// Calls a method of the protocol.
    ///
    /// # Errors
    /// When it fails, or the browser is gone.
    pub fn call(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let number = self.number.get() + 1;
        self.number.set(number);
        let mut message = json!({"id": number, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.borrow_mut().write_all(&bytes).with_context(|| format!("{method}: the browser is gone"))?;
        loop {
            let answer =
                self.messages.recv_timeout(PATIENCE).with_context(|| format!("{method}: no answer"))?;
            if answer["id"] != number {
                self.told.borrow_mut().push(answer);
                continue;
            }
            ensure!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
            return Ok(answer["result"].clone());
        }
    }

    /// Runs `script` in every page before its own scripts.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn before_pages(&self, script: &str) -> anyhow::Result<()> {
        self.call("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script})).map(drop)
    }

    /// Opens a page, and waits until its document is there.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn go(&self, url: &str) -> anyhow::Result<()> {
        let gone = self.call("Page.navigate", &json!({"url": url}))?;
        ensure!(gone.get("errorText").is_none(), "{url}: {}", gone["errorText"]);
        self.eval("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))")
            .map(drop)
    }

    /// What an expression is, once it is there.
    ///
    /// # Errors
    /// When it throws.
    pub fn eval(&self, expression: &str) -> anyhow::Result<Value> {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until a condition is true of the page, looking at it a few times a second.
    ///
    /// # Errors
    /// When it isn't within a minute and a half; with the page's text.
    pub fn wait(&self, condition: &str) -> anyhow::Result<()> {
        let there = crate::place::wait_until(PATIENCE, || self.eval(condition).is_ok_and(|is| is == true));
        let text = || self.eval("document.body.innerText").unwrap_or_default();
        ensure!(there, "not so: {condition}; on the page is\n{}", text().as_str().unwrap_or_default());
        Ok(())
    }

    /// The window: its width, and whether the user likes it dark.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn look(&self, width: u32, dark: bool) -> anyhow::Result<()> {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.call("Emulation.setEmulatedMedia", &json!({"features": [scheme]})).map(drop)
    }

    /// What the page has written to its console as errors and warnings, and what it threw, until now.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn complaints(&self) -> anyhow::Result<Vec<String>> {
        self.eval("0")?;
        let told = self.told.borrow();
        let loud = |level: &Value| level == "error" || level == "warning";
        let complains = |one: &&Value| match one["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => loud(&one["params"]["type"]),
            Some("Log.entryAdded") => loud(&one["params"]["entry"]["level"]),
            _ => false,
        };
        Ok(told.iter().filter(complains).map(|one| one["params"].to_string()).collect())
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}
