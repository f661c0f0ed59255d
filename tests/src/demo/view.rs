//! `agent watch` beside the story: offered before it, and its picture after it.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use anyhow::Context;

use super::stage::{Stage, Target};
use super::story::Story;

/// The flags that show a target as clients see it through the load balancer.
fn flags(stage: &Stage, target: &Target) -> anyhow::Result<Vec<String>> {
    let addrs = stage.alb.addrs();
    let nodes: Vec<String> = addrs.iter().map(|addr| addr.ip().to_string()).collect();
    let url = format!("http://alb.demo:{}/", addrs.first().context("no node")?.port());
    let (admin, nodes) = (target.admin.to_string(), nodes.join(","));
    let all = ["watch", "--admin", &admin, "--url", &url, "--resolve", &nodes, "--healthy", "2"];
    Ok(all.map(str::to_owned).into())
}

impl Story {
    /// With `WATCH=1`: says how to open the view, and waits until the user has.
    pub(super) fn offer_view(&self, stage: &Stage) -> anyhow::Result<()> {
        if std::env::var_os("WATCH").is_none_or(|wish| wish.is_empty() || wish == "0") {
            return Ok(());
        }
        let [_, target] = &stage.targets[..] else { return Ok(()) };
        self.voice.say(&format!("The view of {}, in another terminal of this machine:", target.id));
        let agent = crate::agent::binary();
        self.voice.command(&format!("{} {}", agent.display(), flags(stage, target)?.join(" ")));
        self.voice.say(&format!("The same as a page: http://{}/", target.admin));
        if !std::io::stdin().is_terminal() {
            return Ok(());
        }
        self.voice.say("Enter begins the story.");
        let (tell, entered) = channel();
        std::thread::spawn(move || {
            let _ = tell.send(std::io::stdin().read_line(&mut String::new()));
        });
        while let Err(TryRecvError::Empty) = entered.try_recv() {
            self.interrupt.pause(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Leaves the picture of the failed target's last minutes in `folder`.
    pub(super) fn picture(&self, stage: &Stage, folder: &Path) -> anyhow::Result<()> {
        let [_, target] = &stage.targets[..] else { return Ok(()) };
        let file = std::path::absolute(folder.join("agent-watch.svg"))?.display().to_string();
        let mut all = flags(stage, target)?;
        all.extend(["--once".into(), "--svg".into(), file.clone()]);
        self.voice.chapter("5. agent watch: all of it in one picture");
        let args: Vec<&str> = all.iter().map(String::as_str).collect();
        self.run(target, &args, &[0, 1])?;
        self.voice.say(&format!("The same as a file: {file}"));
        Ok(())
    }
}
