//! The networks of this instance's VPC: a load balancer's nodes live in them, whatever their addresses look like
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html>, `network/interfaces/macs/`).

use std::time::Duration;

use ipnet::IpNet;

use super::imds::{Form, Imds};
use super::{Settings, hardware};

/// As long as all questions together may take.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Asks for the VPC's IPv4 and IPv6 blocks, once; blocks for a second and a half at most. Empty off EC2, where nobody is
/// asked, and where the service doesn't say.
pub fn vpc_networks(settings: &Settings) -> Vec<IpNet> {
    let is_ec2 = hardware::instance_id(&settings.hardware).is_some()
        || hardware::is_amazon()
        || settings.endpoint != Settings::default().endpoint;
    if !is_ec2 {
        return Vec::new();
    }
    // A thread of its own: whoever asks may be in a runtime already.
    let settings = settings.clone();
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(&settings)).await.ok()? })
    });
    asked.join().ok().flatten().unwrap_or_default()
}

async fn ask(settings: &Settings) -> Option<Vec<IpNet>> {
    let mut imds = Imds::new(&settings.endpoint).ok()?;
    let mac = imds.get("mac", Form::Line).await.ok()??;
    let mut found = Vec::new();
    for family in ["vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks"] {
        // An instance without IPv6 has no such path.
        let path = format!("network/interfaces/macs/{mac}/{family}");
        let text = imds.get(&path, Form::Lines).await.ok().flatten().unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|block| block.parse::<IpNet>().ok()));
    }
    Some(found)
}
