//! A package can be signed, and what was changed after that is found.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{package, skipped, there};

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// A key that lasts as long as the folder.
fn throw_away_key(home: &Path) {
    std::fs::create_dir(home).unwrap();
    std::fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(home).args(["--batch", "--quiet", "--gen-key"]);
    let mut gpg = gpg.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let wish =
        "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nName-Real: throw-away\nExpire-Date: 0\n%commit\n";
    gpg.stdin.take().unwrap().write_all(wish.as_bytes()).unwrap();
    assert!(gpg.wait().unwrap().success());
}

/// A package signed with a key of the moment, in a folder of its own.
pub(crate) struct Signed {
    dir: tempfile::TempDir,
}

impl Signed {
    /// Signs a copy of `package`; `None` where the tools are missing.
    pub(crate) fn of(package: &Path) -> Option<Self> {
        if !there("gpg") || !there("rpmsign") {
            skipped("gpg or rpmsign is missing");
            return None;
        }
        let signed = Self { dir: tempfile::tempdir().unwrap() };
        throw_away_key(&signed.home());
        std::fs::copy(package, signed.rpm()).unwrap();
        let defined = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
        let mut sign = Command::new("rpmsign");
        sign.args(defined("__gpg", "/usr/bin/gpg")).args(defined("_gpg_name", "throw-away"));
        sign.args(defined("_gpg_digest_algo", "sha256")).env("GNUPGHOME", signed.home());
        done(sign.arg("--addsign").arg(signed.rpm()));
        let mut export = Command::new("gpg");
        export.arg("--homedir").arg(signed.home()).args(["--armor", "--output"]).arg(signed.key());
        done(export.args(["--export", "throw-away"]));
        Some(signed)
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("gpg")
    }

    /// The signed package.
    pub(crate) fn rpm(&self) -> PathBuf {
        self.dir.path().join("signed.rpm")
    }

    /// The public key, as text.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }
}

impl Drop for Signed {
    fn drop(&mut self) {
        // gpg starts an agent of its own for each home.
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home()).args(["--kill", "all"]).status();
    }
}

#[test]
fn a_signed_package_is_trusted_and_a_changed_one_is_not() {
    let Some(package) = package("1") else { return };
    let Some(files) = Signed::of(&package) else { return };
    let (db, signed) = (files.dir.path().join("db"), files.rpm());
    let rpm = || {
        let mut rpm = Command::new("rpm");
        rpm.args(["--define", &format!("_dbpath {}", db.display())]);
        rpm
    };
    let check = |file: &Path| rpm().arg("-Kv").arg(file).output().unwrap();
    assert!(!check(&signed).status.success(), "a key that isn't known isn't trusted");
    done(rpm().arg("--import").arg(files.key()));
    let said = done(rpm().arg("-Kv").arg(&signed));
    assert!(said.contains("Signature") && said.contains(": OK") && !said.contains("NOKEY"), "{said}");

    let mut bytes = std::fs::read(&signed).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&signed, bytes).unwrap();
    assert!(!check(&signed).status.success());
}
