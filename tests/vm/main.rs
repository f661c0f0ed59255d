//! `make test-vm`: the package on a real machine under QEMU, which is rebooted and cut off from power in the middle of
//! faults. `vm [WORD…]` tries what has all of these words in its name; `vm --list [WORD…]` says what there is; `vm --sh LINE…`
//! runs command lines in a machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a line a trial is what it is for")]

mod confined;
mod encoding;
mod flushes;
mod image;
mod machine;
mod power;
mod services;
mod trials;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--sh") {
        return by_hand(&words[1..]);
    }
    let lists = words.first().is_some_and(|word| word == "--list");
    words.retain(|word| word != "--list");
    let mut trials = flushes::trials();
    trials.extend(confined::trials());
    trials.extend(services::trials());
    trials.extend(power::trials());
    trials.retain(|trial| trial.has(&words));
    if lists {
        trials.iter().for_each(|trial| println!("{}", trial.name()));
        return ExitCode::SUCCESS;
    }
    if trials.is_empty() {
        eprintln!("vm: no trial has {words:?} in its name; `vm --list` says what there is");
        return ExitCode::from(2);
    }
    let start = Instant::now();
    match all(trials) {
        Ok(count) => {
            println!("{} right, {} wrong, in {} s", count.right, count.wrong, start.elapsed().as_secs());
            ExitCode::from(u8::from(count.wrong > 0 || count.right == 0))
        }
        Err(e) => {
            eprintln!("vm: {e:#}");
            ExitCode::from(3)
        }
    }
}

/// Boots a machine and says what command lines say in it.
fn by_hand(lines: &[String]) -> ExitCode {
    let tried = image().and_then(|image| {
        let mut vm = machine::Vm::boot(&image, 1)?;
        lines.iter().try_for_each(|line| {
            let said = vm.sh(line)?;
            println!("$ {line}\n{}\n[{}]", said.text, said.code);
            Ok(())
        })
    });
    match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("vm: {e:#}");
            ExitCode::from(3)
        }
    }
}

fn image() -> anyhow::Result<image::Image> {
    let target =
        world::agent::binary().ancestors().nth(2).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let cache = target.join("tmp/vm");
    machine::sweep(&cache);
    image::Image::make(&cache)
}

fn all(trials: Vec<trials::Trial>) -> anyhow::Result<trials::Count> {
    let machines = std::thread::available_parallelism().map_or(1, usize::from).min(trials.len());
    Ok(trials::run(&image()?, trials, machines))
}
