//! The terminal hangs up, the session is closed.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::place::wait_until;

use super::{LONG, World};

/// `agent fail` on a terminal of its own; whoever ends `script` hangs it up.
fn on_a_terminal(world: &World, args: &str) -> std::process::Child {
    let fail = world.fail(args);
    let words = std::iter::once(fail.get_program()).chain(fail.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &format!("exec {}", line.join(" ")), "/dev/null"]).current_dir(world.place.path());
    script.env_clear().envs(fail.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_terminal_that_hangs_up_ends_the_fault() {
    for mode in ["stop", "crash", "hang"] {
        let world = World::new();
        let mut terminal = on_a_terminal(&world, &format!("--mode {mode} --secs 250"));
        let effective = || world.history().contains(r#""event":"effective""#);
        assert!(wait_until(LONG, effective), "{mode}: {}", world.history());
        assert!(!world.nginx.answers(), "{mode}");
        kill(Pid::from_raw(terminal.id().cast_signed()), Signal::SIGKILL).unwrap();
        terminal.wait().unwrap();
        world.is_well();
        assert!(world.history().contains(r#""detail":"signal""#), "{mode}: {}", world.history());
    }
}
