//! The fake metadata service answers as the real one.

use std::net::SocketAddr;
use std::time::Duration;

use world::http::{Answer, exchange};
use world::imds::{Behaviour, Imds};
use world::place::{address, is_refused};

const ID: &str = "/latest/meta-data/instance-id";

fn addr(imds: &Imds) -> SocketAddr {
    imds.endpoint().strip_prefix("http://").unwrap().parse().unwrap()
}

fn ask(imds: &Imds, method: &str, path: &str, header: &str) -> std::io::Result<Answer> {
    let addr = addr(imds);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{header}\r\n");
    exchange(addr, None, request.as_bytes(), Duration::from_secs(5))
}

fn token(imds: &Imds) -> String {
    let answer =
        ask(imds, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n").unwrap();
    assert_eq!((answer.status, answer.header("x-aws-ec2-metadata-token-ttl-seconds")), (200, Some("60")));
    format!("X-aws-ec2-metadata-token: {}\r\n", answer.body)
}

#[test]
fn values_need_a_token_that_has_not_ended() {
    let imds = Imds::start(address(), "i-0a", "eu-west-1a").unwrap();
    assert_eq!(ask(&imds, "GET", ID, "").unwrap().status, 401);
    assert_eq!(ask(&imds, "PUT", "/latest/api/token", "").unwrap().status, 400);
    let mine = token(&imds);
    let answer = ask(&imds, "GET", ID, &mine).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "i-0a"));
    assert_eq!(ask(&imds, "GET", "/latest/meta-data/spot/instance-action", &mine).unwrap().status, 404);
    imds.set("spot/instance-action", Some("{}"));
    assert_eq!(ask(&imds, "GET", "/latest/meta-data/spot/instance-action", &mine).unwrap().status, 200);
    imds.expire_tokens();
    assert_eq!(ask(&imds, "GET", ID, &mine).unwrap().status, 401);
    assert_eq!(ask(&imds, "GET", ID, &token(&imds)).unwrap().status, 200);
    assert_eq!((imds.tokens_asked(), imds.answered(401)), (3, 2));
}

#[test]
fn it_can_be_absent_old_broken_and_slow() {
    let mut imds = Imds::start(address(), "i-0a", "eu-west-1a").unwrap();
    imds.behave(Behaviour::V1Only);
    assert_eq!(ask(&imds, "PUT", "/latest/api/token", "").unwrap().status, 404);
    assert_eq!(ask(&imds, "GET", ID, "").unwrap().body, "i-0a");
    imds.behave(Behaviour::Status(503));
    assert_eq!(ask(&imds, "GET", ID, "").unwrap().status, 503);
    imds.behave(Behaviour::Slow(Duration::from_millis(300)));
    assert!(ask(&imds, "GET", ID, "").unwrap().took >= Duration::from_millis(300));
    imds.vanish();
    assert!(is_refused(addr(&imds)));
    imds.appear().unwrap();
    imds.behave(Behaviour::V2);
    assert_eq!(ask(&imds, "GET", ID, &token(&imds)).unwrap().status, 200);
}
