//! Files of health-check logs, plain or gzip, alone or in a folder as S3 has them, and their lines: eight fields, or
//! JSON with the same names (CloudWatch's delivery).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Check;

/// A folder with more files, or deeper ones, is no log's.
const MOST_FILES: usize = 100_000;
const DEEPEST: usize = 16;
/// More checks than a target gets in a year.
const MOST_CHECKS: usize = 10_000_000;
/// What a file may unpack to.
const MOST_BYTES: u64 = 4 << 30;
/// A line is some hundred bytes.
const LONGEST: usize = 16 << 10;

/// Why the load balancer's log can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    /// A file or folder can't be read.
    #[error("--elb-log: cannot read {}: {why}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// There is no health check in it.
    #[error("--elb-log: no health check in {}{}; a line is like: http 2026-11-14T22:13:20.123456Z 0.002 \
        10.0.0.9:80 my-targets PASS 200 -", path.display(),
        first.as_ref().map(|line| format!(", whose first line is: {line}")).unwrap_or_default())]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// Its first line, made printable.
        first: Option<String>,
    },
}

/// All that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checks {
    /// In the order of their times.
    pub checks: Vec<Check>,
    /// How many files had some.
    pub files: usize,
    /// Lines that are no health check.
    pub unread: u64,
}

/// Reads a file, or all files of a folder.
///
/// # Errors
/// When one can't be read, or there is no health check in any.
pub fn read(path: &Path) -> Result<Checks, BalancerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |why| BalancerError::Read { path, why }
    };
    let mut files = Vec::new();
    if std::fs::metadata(path).map_err(failed(path))?.is_dir() {
        collect(path, 0, &mut files).map_err(failed(path))?;
        let of_health_checks = |file: &PathBuf| name(file).starts_with("health_check_log");
        // The bucket may have access logs too.
        if files.iter().any(of_health_checks) {
            files.retain(of_health_checks);
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut all = Checks::default();
    let mut first = None;
    for file in &files {
        let before = all.checks.len();
        lines(file, &mut |line| match parse(line, node(file)) {
            Some(check) if all.checks.len() < MOST_CHECKS => all.checks.push(check),
            _ => {
                all.unread += 1;
                first.get_or_insert_with(|| super::super::unread::printable(line, 120));
            }
        })
        .map_err(failed(file))?;
        all.files += usize::from(all.checks.len() > before);
    }
    if all.checks.is_empty() {
        return Err(BalancerError::Empty { path: path.to_owned(), first });
    }
    all.checks.sort_by_key(|check| check.sent_ms);
    Ok(all)
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The node's address in `health_check_log_…_END_ADDRESS_RANDOM.log.gz`.
fn node(file: &Path) -> Option<IpAddr> {
    let name = name(file);
    name.starts_with("health_check_log").then(|| name.rsplit('_').nth(1)?.parse().ok())?
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth > DEEPEST {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() && files.len() < MOST_FILES {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Hands on every line of a file, unpacked where it is gzip.
fn lines(path: &Path, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let file = match crate::logtail::open(path)? {
        Some(file) => file,
        None => File::open(path)?,
    };
    let mut plain = BufReader::new(file);
    let packed = plain.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let text: Box<dyn Read> =
        if packed { Box::new(flate2::bufread::MultiGzDecoder::new(plain)) } else { Box::new(plain) };
    let mut text = BufReader::new(text.take(MOST_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = text.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let line = line.trim_ascii();
        if !line.is_empty() {
            sink(line);
        }
    }
}

/// The same fields as JSON.
#[derive(Deserialize)]
struct Json {
    time: String,
    #[serde(default)]
    latency: serde_json::Value,
    target_addr: String,
    #[serde(default)]
    target_group_id: String,
    status: String,
    #[serde(default)]
    status_code: serde_json::Value,
    #[serde(default)]
    reason_code: Option<String>,
    #[serde(default)]
    ip_address: Option<IpAddr>,
}

/// `type time latency target_addr target_group_id status status_code reason_code`, and whatever is added later.
fn parse(line: &[u8], node: Option<IpAddr>) -> Option<Check> {
    let line = std::str::from_utf8(line).ok()?;
    if line.starts_with('{') {
        let json: Json = serde_json::from_str(line).ok()?;
        let plain = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let reason = json.reason_code.as_deref().unwrap_or("-");
        let (latency, code) = (plain(&json.latency), plain(&json.status_code));
        let fields = [
            &json.time,
            latency.as_str(),
            &json.target_addr,
            &json.target_group_id,
            &json.status,
            &code,
            reason,
        ];
        return check(fields, json.ip_address.or(node));
    }
    let mut fields = line.split_ascii_whitespace().map(|field| field.trim_matches('"'));
    let _kind = fields.next()?;
    let mut next = || fields.next();
    let fields = [next()?, next()?, next()?, next()?, next()?, next()?, next().unwrap_or("-")];
    check(fields, node)
}

fn check(fields: [&str; 7], balancer_node: Option<IpAddr>) -> Option<Check> {
    let [time, latency, target, target_group, status, status_code, reason_code] = fields;
    let sent_ms = time.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    let passed = match status {
        "PASS" => true,
        "FAIL" => false,
        _ => return None,
    };
    let latency_ms = latency.parse::<f64>().ok().filter(|s| (0.0..1e6).contains(s));
    Some(Check {
        balancer_node,
        sent_ms,
        latency_ms: latency_ms.map(|s| (s * 1000.0).round() as i64),
        target: target.to_owned(),
        target_group: target_group.to_owned(),
        passed,
        status_code: status_code.to_owned(),
        reason_code: reason_code.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LINES: &str = "http 2026-11-14T22:13:20.123456Z 0.002084011 10.0.0.9:80 my-targets PASS 200 -\n\
        https 2026-11-14T22:13:15Z 5.001 10.0.0.9:443 my-targets FAIL - RequestTimedOut\nnonsense\n";

    fn gzip(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn plain_and_packed_files_are_read_in_the_order_of_time() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("a.log"), dir.path().join("b.gz"));
        std::fs::write(&plain, LINES).unwrap();
        std::fs::write(&packed, gzip(LINES)).unwrap();
        let read = |path: &Path| super::read(path).unwrap();
        assert_eq!(read(&plain), read(&packed));
        let Checks { checks, unread, .. } = read(&plain);
        assert_eq!((checks.len(), unread), (2, 1));
        let timed_out = &checks[0];
        assert_eq!((timed_out.passed, timed_out.latency_ms), (false, Some(5001)));
        assert_eq!(timed_out.reason_code, "RequestTimedOut");
        assert_eq!((checks[1].sent_ms, checks[1].latency_ms), (1_794_694_400_123, Some(2)));
    }

    #[test]
    fn a_bucket_is_read_with_the_node_in_each_name_and_access_logs_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let day = dir.path().join("AWSLogs/123/elasticloadbalancing/eu-west-1/2026/11/14");
        std::fs::create_dir_all(&day).unwrap();
        let names = "_123_elasticloadbalancing_eu-west-1_app.web.0123_20261114T2215Z_10.0.1.11_2k3.log.gz";
        std::fs::write(day.join(format!("health_check_log{names}")), gzip(LINES)).unwrap();
        std::fs::write(day.join(&names[1..]), gzip("http 2026-11-14T22:13:20Z app/web 1.2.3.4:5 - 0 0 0\n"))
            .unwrap();
        let all = read(dir.path()).unwrap();
        assert_eq!((all.files, all.unread), (1, 1));
        assert_eq!(all.checks[0].balancer_node, "10.0.1.11".parse().ok());
    }

    #[test]
    fn json_has_the_same_fields() {
        let json = br#"{"type":"http","time":"2026-11-14T22:13:20.5Z","latency":0.003,"target_addr":"10.0.0.9:80","target_group_id":"t","status":"PASS","status_code":200,"reason_code":"-","ip_address":"10.0.1.11"}"#;
        let check = parse(json, None).unwrap();
        assert_eq!((check.latency_ms, check.status_code.as_str()), (Some(3), "200"));
        assert_eq!(check.balancer_node, "10.0.1.11".parse().ok());
    }

    #[test]
    fn what_has_no_health_check_is_told_with_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "10.0.0.1 - - []\n").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("10.0.0.1 - - []") && message.contains("x.log"), "{message}");
        std::fs::write(&path, &gzip(LINES)[..30]).unwrap();
        assert!(matches!(read(&path), Err(BalancerError::Read { .. })));
        assert!(read(&dir.path().join("none")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "(http|\\{\"time\":|[ -~]{0,20}|2026-11-14T22:13:20Z| PASS| 1e999){0,10}") {
            let _ = parse(line.as_bytes(), None);
        }
    }
}
