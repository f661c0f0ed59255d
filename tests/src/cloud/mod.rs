//! A stand-in for the `aws` command line: it knows the calls of `ami-bake.sh` and no others, keeps what they made, writes
//! every call down, and fails where it is told to. What it takes its time for in AWS takes two looks here.

mod account;
mod autoscaling;
mod call;
mod ec2;
mod images;
mod stacks;
mod templates;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub use call::Call;

/// What a call gives: its JSON, or the code and text of AWS' error.
pub type Answer = Result<Value, (&'static str, String)>;

/// A cloud whose state lies in a file of a folder.
#[derive(Debug)]
pub struct Cloud {
    folder: PathBuf,
}

impl Cloud {
    /// A new one, with a base image `ami-base`, an instance `i-mine`, a launch template `web` and a group `web`, which
    /// uses the template's version `pin`.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn create(folder: &Path, pin: &str) -> anyhow::Result<Self> {
        let state = json!({
            "next": 1,
            "instances": {"i-mine": {"state": "running", "image": "ami-base", "tags": {}, "looks": 0, "group": "",
                "token": ""}},
            "images": {"ami-base": {"name": "base", "state": "available", "arch": "x86_64", "snapshot": "snap-base",
                "tags": {}, "created": 0}},
            "snapshots": {"snap-base": {"tags": {}}},
            "groups": {},
            "objects": [],
            "commands": {},
            "templates": {"lt-web": {"name": "web", "default": 1,
                "versions": [{"n": 1, "image": "ami-base", "description": ""}]}},
            "volumes": {},
            "stacks": {},
            "asg": {"name": "web", "template": "lt-web", "version": pin},
            "more_groups": [],
            "fleets": [],
            "refreshes": [],
            "alarms": {"errors": "OK", "slow": "INSUFFICIENT_DATA", "busy": "ALARM"},
        });
        let cloud = Self { folder: folder.to_owned() };
        cloud.save(&state)?;
        Ok(cloud)
    }

    /// One that is there.
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Everything it holds.
    ///
    /// # Errors
    /// When there is none in the folder.
    pub fn state(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.folder.join("state.json"))?)?)
    }

    /// Replaces everything it holds.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(&self, state: &Value) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.join("state.json"), serde_json::to_vec(state)?)?)
    }

    /// One at a time changes what it holds: until the file is dropped.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn turn(&self) -> anyhow::Result<nix::fcntl::Flock<fs::File>> {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("turn"))?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    /// The calls so far, one a line.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What a run may leave nothing of: instances that live, images, snapshots, security groups, objects, and how the
    /// template and the group stand.
    ///
    /// # Errors
    /// When there is no state.
    pub fn holdings(&self) -> anyhow::Result<Value> {
        let mut state = self.state()?;
        if let Some(all) = state["instances"].as_object_mut() {
            all.retain(|_, instance| {
                !matches!(instance["state"].as_str(), Some("terminated" | "shutting-down"))
            });
            all.values_mut().for_each(|instance| instance["looks"] = Value::Null);
        }
        if let Some(all) = state["refreshes"].as_array_mut() {
            all.retain(|refresh| refresh["Status"] != "Cancelled");
        }
        if let Some(all) = state.as_object_mut() {
            all.remove("next");
            all.remove("commands");
        }
        Ok(state)
    }

    /// Serves one command line; its exit code. `fault` is `KIND:N`: the Nth call fails. `before`: nothing was done;
    /// `after`: it was done, and only the answer is lost; `TERM`: done, and the script gets SIGTERM; `INT`: Ctrl-C.
    /// `never:NAME`: a call of this name fails whenever it is made.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn serve(&self, args: &[String], fault: Option<&str>) -> anyhow::Result<i32> {
        let mut log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("calls"))?;
        writeln!(log, "{}", args.join(" "))?;
        let (kind, nth) = fault.and_then(|f| f.split_once(':')).unwrap_or_default();
        let strikes = !kind.is_empty() && nth.parse() == Ok(self.calls().len());
        let lost = ("InternalError", "An internal error has occurred".to_owned());
        let never = kind == "never" && args.get(1).is_some_and(|name| name == nth);
        if (strikes && kind == "before") || never {
            return Ok(refuse(args, &lost));
        }
        let turn = self.turn()?;
        let mut state = self.state()?;
        let answer = dispatch(&mut state, &Call::parse(args));
        self.save(&state)?;
        drop(turn);
        if strikes {
            match kind {
                "TERM" => kill(script()?, Signal::SIGTERM)?,
                "INT" => kill(Pid::from_raw(0), Signal::SIGINT)?,
                _ => return Ok(refuse(args, &lost)),
            }
        }
        Ok(match answer {
            Ok(Value::String(text)) => say(&text),
            Ok(value) => say(&value.to_string()),
            Err(error) => refuse(args, &error),
        })
    }
}

#[allow(clippy::print_stdout)] // it is a command line
fn say(text: &str) -> i32 {
    println!("{text}");
    0
}

#[allow(clippy::print_stderr)]
fn refuse(args: &[String], (code, text): &(&str, String)) -> i32 {
    let name = args.get(1).map_or("", String::as_str);
    eprintln!("\nAn error occurred ({code}) when calling the {name} operation: {text}");
    254
}

/// The script that called, not one of its subshells.
fn script() -> anyhow::Result<Pid> {
    let mut pid = nix::unistd::getppid();
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let parent: i32 =
            stat.rsplit(") ").next().and_then(|s| s.split(' ').nth(1)).unwrap_or("1").parse()?;
        let command = fs::read_to_string(format!("/proc/{parent}/cmdline")).unwrap_or_default();
        if !command.contains("ami-bake.sh") {
            return Ok(pid);
        }
        pid = Pid::from_raw(parent);
    }
}

fn dispatch(state: &mut Value, call: &Call) -> Answer {
    match (call.service.as_str(), call.name.as_str()) {
        ("configure", "get") => Ok(Value::String("eu-west-1".to_owned())),
        ("--version", _) => Ok(Value::String("aws-cli/2.31.0 Python/3.13 Linux exe/x86_64".to_owned())),
        ("configure", "set") => Ok(Value::String(String::new())),
        ("sts", "get-caller-identity") => {
            Ok(json!({"Account": "123456789012", "Arn": "arn:aws:sts::123456789012:assumed-role/baker/me"}))
        }
        ("s3api", "get-bucket-location") => Ok(json!({"LocationConstraint": "eu-west-1"})),
        ("s3", "presign") => {
            let url = format!("{}/bucket/asg-agent.rpm?X-Amz-Signature=1", call.value("endpoint-url"));
            Ok(Value::String(url))
        }
        ("s3api", "put-object") => {
            call.knows(&["bucket", "key", "body", "expected-bucket-owner"])?;
            list(state, "objects").push(call.value("key").into());
            Ok(json!({}))
        }
        ("s3api", "delete-object") => {
            list(state, "objects").retain(|key| key != &call.value("key"));
            Ok(Value::String(String::new()))
        }
        ("s3api" | "iam" | "kms", _) => account::dispatch(state, call),
        (
            "ec2",
            "describe-instance-types"
            | "describe-instance-type-offerings"
            | "describe-route-tables"
            | "describe-vpc-endpoints",
        ) => account::dispatch(state, call),
        ("cloudformation" | "elbv2" | "resourcegroupstaggingapi", _) => stacks::dispatch(state, call),
        ("autoscaling", _) => autoscaling::dispatch(state, call),
        ("cloudwatch", "describe-alarms") => autoscaling::alarms(state, call),
        ("ssm", _) => ec2::ssm(state, call),
        ("ec2", name) if name.contains("launch-template") => templates::dispatch(state, call),
        ("ec2", name) if name.contains("image") || name.contains("snapshot") => images::dispatch(state, call),
        ("ec2", _) => ec2::dispatch(state, call),
        _ => call.unknown(),
    }
}

/// A list of the state.
fn list<'a>(state: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    let value = &mut state[name];
    if !value.is_array() {
        *value = json!([]);
    }
    let Value::Array(all) = value else { unreachable!("it was just made one") };
    all
}

/// A table of the state, by id.
fn table<'a>(state: &'a mut Value, name: &str) -> &'a mut serde_json::Map<String, Value> {
    let value = &mut state[name];
    if !value.is_object() {
        *value = json!({});
    }
    let Value::Object(all) = value else { unreachable!("it was just made one") };
    all
}

/// A new id.
fn id(state: &mut Value, prefix: &str) -> String {
    let next = state["next"].as_u64().unwrap_or(1);
    state["next"] = (next + 1).into();
    format!("{prefix}-{next:08x}")
}

/// Tags as AWS gives them.
fn tag_list(tags: &Value) -> Vec<Value> {
    let all = tags.as_object().into_iter().flatten();
    all.map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}
