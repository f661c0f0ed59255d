//! What to know before a fault, and what stops nothing.

use std::io;
use std::time::Duration;

use crate::fault::plan::preflight::Request;
use crate::fault::plan::unit;
use crate::nginx::master::Master;

/// Failed probes in a row until a target is unhealthy, as a target group has it by default (`UnhealthyThresholdCount`,
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>).
const UNHEALTHY_THRESHOLD: u32 = 2;
/// What reconciles, at boot, a fault that was in force when the machine went down.
const AT_BOOT: &str = "asg-agent-recover.service";

/// The fault lasts long enough for the load balancer to find this target unhealthy.
pub(in crate::fault) fn replaced(request: &Request) -> Option<String> {
    let cadence = request.cadence?;
    let found: Duration = UNHEALTHY_THRESHOLD * cadence;
    (request.lasts > found).then(|| {
        format!(
            "the load balancer probes every {:.1} s: by default it finds this target unhealthy within {:.1} s, and an \
             Auto Scaling group with ELB health checks then replaces this instance",
            cadence.as_secs_f64(),
            found.as_secs_f64()
        )
    })
}

/// `error` answers plain HTTP over TCP, and nothing else.
pub(super) fn not_answered(master: &Master) -> Option<String> {
    let tls = master.listens.iter().filter(|l| l.tls).map(|l| format!("{} (TLS) goes on serving", l.addr));
    let udp = master
        .listening
        .udp
        .iter()
        .map(|addr| format!("packets of HTTP/3 to {addr} are dropped, and clients go on over TCP"));
    let all: Vec<String> = tls.chain(udp).collect();
    (!all.is_empty()).then(|| format!("only plain HTTP can be answered: {}", all.join("; ")))
}

/// systemd will start it again.
pub(in crate::fault) fn undone(unit: &str, restart: &str) -> String {
    format!("{unit} has Restart={restart}: systemd undoes this crash at once, and the fault is over then")
}

/// It will not come back with the environment it had.
pub(in crate::fault) fn plain_environment(pid: i32, why: &io::Error) -> String {
    format!(
        "the environment of nginx {pid} can't be read ({why}): it will be started with nothing but a PATH"
    )
}

/// Nothing waits for the next boot.
pub(in crate::fault) fn after_a_reboot() -> Option<String> {
    (!unit::is_enabled(AT_BOOT)).then(|| {
        format!("{AT_BOOT} is not enabled: were this machine rebooted now, the next `agent` command of root's would \
                 clear up, and nothing before it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Mode;
    use crate::fault::preflight::Choose;
    use std::net::SocketAddr;

    #[test]
    fn a_fault_that_outlasts_two_probes_warns_of_the_replacement() {
        let request = |lasts, cadence: Option<u64>| Request {
            mode: Mode::Stop,
            lasts: Duration::from_secs(lasts),
            delay: None,
            status: None,
            health: SocketAddr::from(([127, 0, 0, 1], 8080)),
            choose: Choose::Only,
            cadence: cadence.map(Duration::from_secs),
            url: None,
            force: false,
            by: "ann".into(),
        };
        let text = replaced(&request(60, Some(5))).unwrap();
        assert!(text.contains("every 5.0 s") && text.contains("within 10.0 s"), "{text}");
        assert_eq!(replaced(&request(10, Some(5))), None);
        assert_eq!(replaced(&request(60, None)), None, "no probes were seen");
    }
}
