//! The instance's id as the hardware tells it: on Nitro instances the board's asset tag in the SMBIOS tables is the id
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html>, read 2026-11-27). It is there
//! where the metadata service is switched off.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The id in `file`; `None` where there is no such file, or no id in it.
pub(super) fn instance_id(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file).and_then(|file| file.take(64).read_to_string(&mut text)).ok()?;
    let id = text.trim();
    let digits = id.strip_prefix("i-")?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (matches!(digits.len(), 8 | 17) && is_hex).then(|| id.to_owned())
}

/// Whether this is an EC2 instance, Nitro or Xen, as far as the kernel shows it to everybody.
pub(super) fn is_amazon() -> bool {
    let begins = |file: &str, with: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.to_ascii_lowercase().starts_with(with))
    };
    begins("/sys/devices/virtual/dmi/id/sys_vendor", "amazon ec2") || begins("/sys/hypervisor/uuid", "ec2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_instance_id_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tag");
        assert_eq!(instance_id(&file), None);
        for (text, id) in [
            ("i-0a5cade0000000001\n", Some("i-0a5cade0000000001")),
            ("i-0a5cade0\n", Some("i-0a5cade0")),
            ("Not Specified\n", None),
            ("i-\n", None),
            ("i-0A5CADE0000000001", None),
            ("", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(instance_id(&file).as_deref(), id, "{text}");
        }
    }
}
