//! A command line of `aws`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Answer;

/// `aws SERVICE NAME [ARGUMENT] --flag values…`
#[derive(Debug, Default)]
pub struct Call {
    /// As `ec2`.
    pub service: String,
    /// As `run-instances`.
    pub name: String,
    flags: BTreeMap<String, Vec<String>>,
}

impl Call {
    /// Reads a command line without its program.
    pub fn parse(args: &[String]) -> Self {
        let mut call = Self::default();
        let mut flag = None;
        for (at, arg) in args.iter().enumerate() {
            match (at, arg.strip_prefix("--")) {
                (0, _) => call.service.clone_from(arg),
                (1, _) => call.name.clone_from(arg),
                (_, Some(name)) => {
                    call.flags.entry(name.to_owned()).or_default();
                    flag = Some(name.to_owned());
                }
                _ => call.flags.entry(flag.clone().unwrap_or_default()).or_default().push(arg.clone()),
            }
        }
        call
    }

    /// The values of a flag.
    pub fn values(&self, flag: &str) -> &[String] {
        self.flags.get(flag).map_or(&[], Vec::as_slice)
    }

    /// The first value of a flag, or nothing.
    pub fn value(&self, flag: &str) -> String {
        self.values(flag).first().cloned().unwrap_or_default()
    }

    /// # Errors
    /// When it has a flag that isn't one of these.
    pub fn knows(&self, flags: &[&str]) -> Result<(), (&'static str, String)> {
        let strange = self.flags.keys().find(|flag| *flag != "output" && !flags.contains(&flag.as_str()));
        strange.map_or(Ok(()), |flag| Err(("Unknown", format!("Unknown options: --{flag}"))))
    }

    /// The answer to a call that isn't known.
    ///
    /// # Errors
    /// Always.
    pub fn unknown(&self) -> Answer {
        Err(("Unknown", format!("Invalid choice: {} {}", self.service, self.name)))
    }

    /// What `--tag-specifications` says for a type of resource.
    pub fn tags(&self, resource: &str) -> Value {
        let mut tags = Map::new();
        let prefix = format!("ResourceType={resource},Tags=[");
        for all in self.values("tag-specifications").iter().filter_map(|spec| spec.strip_prefix(&prefix)) {
            for tag in all.split("},") {
                let pair = tag.trim_matches(['{', '}', ']']).strip_prefix("Key=");
                if let Some((key, value)) = pair.and_then(|pair| pair.split_once(",Value=")) {
                    tags.insert(key.to_owned(), value.into());
                }
            }
        }
        tags.into()
    }

    /// Whether a resource has the tag that `--filters Name=tag:…,Values=…` asks for; other filters ask nothing of it.
    pub fn tag_matches(&self, tags: &Value) -> bool {
        self.values("filters").iter().all(|filter| {
            let Some((name, value)) = filter.strip_prefix("Name=").and_then(|f| f.split_once(",Values="))
            else {
                return false;
            };
            match (name.strip_prefix("tag:"), name) {
                (Some(key), _) => tags[key] == value,
                (None, "tag-key") => !tags[value].is_null(),
                _ => true,
            }
        })
    }
}
