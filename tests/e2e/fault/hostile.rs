//! Files and folders that are not what they should be end a fault before anything is touched.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use super::{World, finish};

#[test]
fn hostile_folders_and_files_end_it_before_anything_is_touched() {
    type Plant = fn(&World);
    let plant: [(&str, Plant); 7] = [
        ("a state folder that is a link", |w| {
            std::fs::create_dir(w.place.join("elsewhere")).unwrap();
            symlink(w.place.join("elsewhere"), w.place.join("state")).unwrap();
        }),
        ("a state folder that anybody can write", |w| {
            std::fs::create_dir(w.place.join("state")).unwrap();
            let mode = PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(w.place.join("state"), mode).unwrap();
        }),
        ("a run folder of somebody else's", |w| {
            std::fs::create_dir(w.place.join("run")).unwrap();
            chown(w.place.join("run"), Some(65534), Some(65534)).unwrap();
        }),
        ("a lock that is a link", |w| {
            std::fs::create_dir(w.place.join("run")).unwrap();
            symlink("/etc/passwd", w.place.join("run/fault.lock")).unwrap();
        }),
        ("a history that is a link", |w| {
            std::fs::create_dir(w.place.join("log")).unwrap();
            std::fs::write(w.place.join("innocent"), "").unwrap();
            symlink(w.place.join("innocent"), w.place.join("log/faults.jsonl")).unwrap();
        }),
        ("a record that is a link", |w| {
            std::fs::create_dir(w.place.join("state")).unwrap();
            symlink("/etc/passwd", w.record()).unwrap();
        }),
        ("a record that is no record", |w| {
            std::fs::create_dir(w.place.join("state")).unwrap();
            std::fs::write(w.record(), "{\"mode\":\"stop\"").unwrap();
        }),
    ];
    for (what, plant) in plant {
        let world = World::new();
        let master = world.nginx.master().unwrap();
        plant(&world);
        let (code, _, stderr) = finish(world.fail("--mode stop --secs 2"));
        assert_eq!(code, 3, "{what}: {stderr}");
        world.is_untouched(master);
        assert_eq!(std::fs::read_to_string(world.place.join("innocent")).unwrap_or_default(), "");
    }
}

#[test]
fn a_record_that_can_not_be_read_is_never_nothing_to_do() {
    let world = World::new();
    std::fs::create_dir(world.place.join("state")).unwrap();
    std::fs::write(world.record(), "{").unwrap();
    let (code, _, stderr) = world.run(&["recover"]);
    assert!(code == 3 && stderr.contains("cannot be understood"), "{code} {stderr}");
    assert!(world.record().exists());
}

/// Runs `agent fail` in a mount namespace of its own, after `mounts` changed what it sees.
fn fail_behind(world: &World, mounts: &str) -> (i32, String) {
    for folder in ["state", "run", "log"] {
        std::fs::create_dir(world.place.join(folder)).unwrap();
    }
    let fail = world.fail("--mode stop --secs 2");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{mounts}; exec \"$@\"")]).arg("sh");
    command.arg(fail.get_program()).args(fail.get_args()).current_dir(world.place.path());
    command.env_clear().envs(fail.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, _, stderr) = finish(command);
    (code, stderr)
}

#[test]
fn a_folder_on_a_read_only_file_system_ends_it() {
    for folder in ["state", "run", "log"] {
        let world = World::new();
        let master = world.nginx.master().unwrap();
        let (code, stderr) = fail_behind(&world, &format!("mount -t tmpfs -o ro,mode=755 none {folder}"));
        assert!(code == 3 && stderr.contains("Read-only file system"), "{folder}: {code} {stderr}");
        world.is_untouched(master);
    }
}

#[test]
fn a_full_disk_ends_it() {
    for folder in ["state", "log"] {
        let world = World::new();
        let master = world.nginx.master().unwrap();
        let full = format!(
            "mount -t tmpfs -o size=4k,mode=755 none {folder}; \
             dd if=/dev/zero of={folder}/filler bs=4k count=1 2>/dev/null; : > {folder}/faults.jsonl"
        );
        let (code, stderr) = fail_behind(&world, &full);
        assert!(code == 3 && stderr.contains("No space left"), "{folder}: {code} {stderr}");
        world.is_untouched(master);
    }
}
