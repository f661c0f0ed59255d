//! What runs inside the machine of `make test-vm`: `watch FILE` and `replay LOG IMAGE MARK COMMAND…`.
#![allow(clippy::print_stdout, reason = "what it says is read by the machine's other side")]

mod log_writes;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use log_writes::{Entry, Log};

const NGINX: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 80));
const HEALTH: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["watch", file] => watch(file),
        ["replay", log, image, mark, ref command @ ..] => replay(log, image, mark, command),
        _ => Err(anyhow::anyhow!("guest watch FILE | guest replay LOG IMAGE MARK COMMAND…")),
    };
    match done {
        Ok(code) => code,
        Err(e) => {
            println!("{e:#}");
            ExitCode::from(2)
        }
    }
}

/// The status of an answer: 0 where nobody takes the connection, 1 where nothing that is HTTP comes.
fn ask(addr: SocketAddr, path: &str) -> u16 {
    let limit = Duration::from_secs(4);
    let Ok(mut stream) = TcpStream::connect_timeout(&addr, limit) else { return 0 };
    let mut answer = [0; 12];
    let asked = stream.set_read_timeout(Some(limit)).and_then(|()| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        stream.read_exact(&mut answer)
    });
    let status = || std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok();
    asked.ok().and_then(|()| status()).unwrap_or(1)
}

/// Asks nginx, `/health` and nginx again, for ever; a line `MS NGINX HEALTH NGINX` where that is not as before.
fn watch(file: &str) -> anyhow::Result<ExitCode> {
    let mut out = OpenOptions::new().create(true).append(true).open(file)?;
    let mut before = [0; 3];
    loop {
        let now = [ask(NGINX, "/"), ask(HEALTH, "/health"), ask(NGINX, "/")];
        if now != before {
            let uptime = std::fs::read_to_string("/proc/uptime")?;
            let secs: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
            writeln!(out, "{:.0} {} {} {}", secs * 1000.0, now[0], now[1], now[2])?;
            before = now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Applies the log to an image and, from the mark on, has the command look at a copy of it at every flush: as it was
/// with all that was written before, and once it was done. Says what it says.
fn replay(log: &str, image: &str, mark: &str, command: &[&str]) -> anyhow::Result<ExitCode> {
    let mut log = Log::open(io::BufReader::new(File::open(log).with_context(|| log.to_owned())?))?;
    let mut device =
        OpenOptions::new().read(true).write(true).open(image).with_context(|| image.to_owned())?;
    let copy = format!("{image}.look");
    let (mut begun, mut changed, mut wrong, mut images) = (false, false, 0, 0);
    let mut look = |changed: &mut bool, number: u32| -> anyhow::Result<()> {
        if std::mem::take(changed) {
            std::fs::copy(image, &copy)?;
            let [program, args @ ..] = command else { bail!("no command") };
            let output = Command::new(program).args(args).arg(&copy).output().context("look")?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
            images += 1;
            wrong += u32::from(!output.status.success());
            println!("{} entry {number}: {said}", if output.status.success() { "ok   " } else { "WRONG" });
        }
        Ok(())
    };
    for number in 0.. {
        let Some(entry) = log.next()? else { break };
        let boundary = begun && entry.is_boundary();
        if boundary {
            look(&mut changed, number)?;
        }
        entry.apply(&mut device)?;
        changed |= begun && entry.changes();
        if boundary {
            look(&mut changed, number + 1)?;
        }
        begun |= entry == Entry::Mark(mark.to_owned());
    }
    println!("{images} images, {wrong} wrong");
    Ok(ExitCode::from(u8::from(wrong > 0 || images == 0)))
}
