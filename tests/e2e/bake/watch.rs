//! A refresh that is watched: a bad image costs clients a few errors and is taken back, a good one goes through.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use world::agent;
use world::haproxy::{Check, Haproxy};
use world::nginx::Nginx;
use world::place::{Place, wait_until};

use super::{Run, World};

const LONG: Duration = Duration::from_secs(60);
const GOOD: &str = "location / { add_header X-Instance-Id i-1; return 200; }";
/// Healthy to the load balancer, and broken to clients: as an image that no health check finds.
const BAD: &str = "location = /health { return 200; } location / { return 500; }";

/// Two instances behind HAProxy, each an nginx; one of them can be replaced by one of another image.
struct Fleet {
    places: Vec<Place>,
    instances: Vec<Nginx>,
    balancer: Haproxy,
}

impl Fleet {
    fn start() -> Option<Self> {
        let places = vec![Place::new().unwrap(), Place::new().unwrap()];
        let instances: Vec<_> = places.iter().map(|place| Nginx::start(place, "", GOOD).unwrap()).collect();
        let targets: Vec<SocketAddr> = instances.iter().map(|nginx| nginx.addr).collect();
        let second = Duration::from_secs(1);
        let check = Check { interval: second, timeout: second, rise: 1, fall: 2, redispatch: false };
        Some(Self { balancer: Haproxy::start(check, &targets).unwrap()?, places, instances })
    }

    /// The first instance becomes one of this image.
    fn replace(&mut self, server: &str) {
        let conf = self.instances[0].prefix().join("nginx.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        let (old, new) = if server == BAD { (GOOD, BAD) } else { (BAD, GOOD) };
        std::fs::write(&conf, text.replace(old, new)).unwrap();
        self.instances[0].nginx(&["-s", "reload"]).unwrap();
        let _ = &self.places;
    }

    /// Answers of the first instance to clients that were errors.
    fn errors(&self) -> usize {
        let log = std::fs::read_to_string(self.instances[0].access_log()).unwrap_or_default();
        log.lines().filter(|line| line.contains("\" 500 ")).count()
    }
}

/// One refresh with an image, good or bad; what the script said, and how many errors clients got.
fn refresh(fleet: &mut Fleet, pin: &str, good: bool) -> (World, Run, usize) {
    let world = World::new(pin);
    world.set(|state| state["refresh_ends"] = "hold".into());
    let before = fleet.errors();
    let url = format!("http://{}/", fleet.balancer.nodes().split(',').next().unwrap());
    let rpm = world.rpm().display().to_string();
    let mut command = world.command(&format!(
        "image --rpm {rpm} --base-ami ami-base --asg web --refresh --watch --max-error-pct 5 --url {url}"
    ));
    command
        .env("AMI_BAKE_AGENT", agent::binary())
        .env("AMI_BAKE_POLL", "0.1")
        .env("AMI_BAKE_PATIENCE", "600");
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(move || Run::of(command));
        let called = |what: &str| world.cloud.calls().iter().any(|call| call.contains(what));
        assert!(wait_until(LONG, || called("start-instance-refresh") || running.is_finished()));
        // The refresh replaces an instance; with a good image all are, and it ends.
        fleet.replace(if good { GOOD } else { BAD });
        if good {
            world.set(|state| state["refresh_ends"] = "Successful".into());
        } else {
            // EC2 Auto Scaling takes its instances back once it is told.
            assert!(wait_until(LONG, || called("rollback-instance-refresh")
                || called("cancel-instance-refresh")
                || running.is_finished()));
            fleet.replace(GOOD);
            world.set(|state| state["refresh_ends"] = "Successful".into());
        }
        running.join().unwrap()
    });
    let errors = fleet.errors() - before;
    (world, run, errors)
}

/// What a bad image may cost: the guard looks at five seconds, in which 20 requests a second to one node are asked.
const MOST_ERRORS: usize = 60;

fn goes_through(fleet: &mut Fleet, pin: &str) {
    let (world, run, errors) = refresh(fleet, pin, true);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("the instance refresh of web succeeded"), "{}", run.stderr);
    assert_eq!(errors, 0, "{}", run.stderr);
    let after = world.holdings();
    assert_eq!(after["templates"]["lt-web"]["default"], 2, "{}", run.stderr);
    assert_eq!(after["images"].as_object().unwrap().len(), 2);
}

fn is_taken_back(fleet: &mut Fleet, pin: &str) {
    let (world, run, errors) = refresh(fleet, pin, false);
    let said = format!("{}\n{}", run.stderr, world.cloud.calls().join("\n"));
    assert!(run.code == Some(1) && run.stderr.contains("clients saw too many errors"), "{said}");
    assert!(errors > 0 && errors <= MOST_ERRORS, "{errors} errors: {said}");
    let after = world.holdings();
    assert_eq!(
        (&after["templates"]["lt-web"]["default"], &after["asg"]["version"]),
        (&1.into(), &pin.into()),
        "{said}"
    );
    assert_eq!(after["images"].as_object().unwrap().len(), 1, "{said}");
    let all = after["refreshes"].as_array().unwrap();
    let last = |status: &str| all.last().is_some_and(|one: &Value| one["Status"] == status);
    if pin.starts_with('$') {
        // AWS rolls only numbers back: the template is what it was, and another refresh brings it.
        assert!(said.contains("cancel-instance-refresh") && last("Successful"), "{said}");
    } else {
        assert!(last("RollbackSuccessful"), "{said}");
    }
}

#[test]
#[allow(clippy::print_stderr)] // a test has no other voice
fn a_bad_image_is_taken_back_and_a_good_one_goes_through() {
    let Some(mut fleet) = Fleet::start() else {
        eprintln!("skipped: haproxy is not installed");
        return;
    };
    is_taken_back(&mut fleet, "1");
    goes_through(&mut fleet, "1");
    is_taken_back(&mut fleet, "$Default");
    goes_through(&mut fleet, "$Latest");
}

/// The same a hundred times each, a quarter of an hour: `cargo test --test e2e a_hundred -- --ignored`.
#[test]
#[ignore = "a quarter of an hour"]
fn a_hundred_bad_images_are_taken_back_and_a_hundred_good_ones_go_through() {
    let Some(mut fleet) = Fleet::start() else { return };
    for round in 0..100 {
        let pin = ["1", "$Default", "$Latest"][round % 3];
        is_taken_back(&mut fleet, pin);
        goes_through(&mut fleet, pin);
    }
}

#[test]
fn a_refresh_that_fails_is_undone_and_wrong_usage_is_refused() {
    for (end, pin) in [("Failed", "1"), ("Cancelled", "$Default")] {
        let world = World::new(pin);
        world.set(|state| state["refresh_ends"] = end.into());
        let run = world.image("--asg web --refresh --watch --checkpoint 50", None);
        assert!(run.code == Some(1) && run.stderr.contains(&format!("ended as {end}")), "{}", run.stderr);
        let after = world.holdings();
        assert_eq!(after["templates"]["lt-web"]["default"], 1, "{}", run.stderr);
        assert_eq!(after["images"].as_object().unwrap().len(), 1, "{}", run.stderr);
        assert!(world.cloud.calls().iter().any(|call| call.contains("\"CheckpointPercentages\":[50,100]")));
    }
    let world = World::new("1");
    for (flags, why) in [
        ("--asg web --watch", "--watch wants --refresh"),
        ("--asg web --refresh --max-error-pct 1", "wants --refresh --watch"),
        ("--asg web --refresh --watch --max-error-pct 1", "wants --url"),
        ("--asg web --refresh --watch --max-error-pct x --url u", "wants a number"),
        ("--asg web --refresh --watch --checkpoint 100", "1 to 99"),
        ("--url u", "--url wants"),
        ("--asg web --refresh --alarms errors", "--alarms wants --refresh --watch"),
        ("--asg web --refresh --watch --alarms ,", "wants up to 10"),
        ("--asg web --refresh --watch --alarms 1,2,3,4,5,6,7,8,9,10,11", "up to 10"),
    ] {
        let run = world.image(flags, None);
        assert!(run.code == Some(2) && run.stderr.contains(why), "{flags}: {:?} {}", run.code, run.stderr);
    }
}

/// A run with alarms, on a group whose image is named so, one of which rings once the refresh has begun; the run, and what
/// AWS was asked for.
fn ringing(pin: &str, image: &str) -> (World, Run, Value) {
    let world = World::new(pin);
    world.set(|state| {
        state["templates"]["lt-web"]["versions"][0]["image"] = image.into();
        state["refresh_ends"] = "hold".into();
    });
    let rpm = world.rpm().display().to_string();
    let line =
        format!("image --rpm {rpm} --base-ami ami-base --asg web --refresh --watch --alarms errors,slow");
    let mut command = world.command(&line);
    command.env("AMI_BAKE_POLL", "0.05").env("AMI_BAKE_PATIENCE", "600");
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(move || Run::of(command));
        let begun = || {
            world
                .cloud
                .calls()
                .iter()
                .any(|call| call.contains("describe-instance-refreshes") && call.contains("refresh-"))
        };
        assert!(wait_until(LONG, || begun() || running.is_finished()));
        world.set(|state| {
            state["alarms"]["errors"] = "ALARM".into();
            // The refresh that brings the instances of before is guarded by none.
            state["refresh_ends"] = "Successful".into();
        });
        running.join().unwrap()
    });
    let preferences = world.cloud.state().unwrap()["refreshes"][0]["Preferences"].clone();
    (world, run, preferences)
}

#[test]
fn an_alarm_that_rings_undoes_the_refresh_and_aws_goes_back_where_it_can() {
    for (pin, image, by_itself) in
        [("1", "ami-base", true), ("$Default", "ami-base", false), ("1", "resolve:ssm:/golden", false)]
    {
        let (world, run, preferences) = ringing(pin, image);
        let said = format!("{pin} {by_itself}: {}\n{}", run.stderr, world.cloud.calls().join("\n"));
        assert_eq!(
            preferences["AlarmSpecification"]["Alarms"],
            serde_json::json!(["errors", "slow"]),
            "{said}"
        );
        assert_eq!(
            (&preferences["AutoRollback"] == true, &preferences["BakeTime"]),
            (by_itself, &300.into()),
            "{said}"
        );
        let end = if by_itself { "ended as RollbackSuccessful" } else { "ended as Failed" };
        assert!(run.code == Some(1) && run.stderr.contains(end), "{said}");
        let after = world.holdings();
        let version = &after["asg"]["version"];
        assert_eq!((&after["templates"]["lt-web"]["default"], version), (&1.into(), &pin.into()), "{said}");
        assert_eq!(after["images"].as_object().unwrap().len(), 1, "{said}");
        // Where AWS has gone back itself nothing is replaced once more; where it hasn't, another refresh does that.
        assert_eq!(after["refreshes"].as_array().unwrap().len(), if by_itself { 1 } else { 2 }, "{said}");
    }
}

#[test]
fn alarms_that_stay_quiet_let_it_through_and_those_that_cannot_guard_are_refused_first() {
    let world = World::new("1");
    let run = world.image("--asg web --refresh --watch --alarms errors,slow", None).done();
    assert!(run.stderr.contains("Baking, 100 %") && run.stderr.contains("succeeded"), "{}", run.stderr);
    assert_eq!(world.holdings()["asg"]["version"], "2");
    for (name, why) in [("busy", "is in ALARM"), ("nobody", "there is no CloudWatch alarm nobody")] {
        let world = World::new("1");
        let before = world.holdings();
        let run = world.image(&format!("--asg web --refresh --watch --alarms errors,{name}"), None);
        assert!(run.code == Some(1) && run.stderr.contains(why), "{name}: {}", run.stderr);
        assert_eq!(world.holdings(), before, "{name}");
        assert!(!world.cloud.calls().iter().any(|call| call.contains("run-instances")), "{name}");
    }
}
