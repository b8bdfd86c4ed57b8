//! Where the agent answers, the plugin takes the call there and its answer back, and changes neither.
#![allow(clippy::unwrap_used)]

mod stage;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use stage::{Agent, Call, Ended, PLUGIN, Request, answer, parts};

const FORWARDED: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

#[test]
fn the_agent_gets_the_variables_of_cni_and_stdin_as_they_are_and_nothing_else() {
    let agent = Agent::answering(answer("200 OK", ""));
    let mut input = agent.config(r#", "odd" : "\u00e9", "odd":2"#);
    input.extend_from_slice(b"\r\n \n");
    let call = Call::of(PLUGIN, "ADD")
        .with("CNI_ARGS", OsStr::from_bytes(b"K8S_POD_NAME=a;X=\xff\xfe=\n"))
        .with("AWS_SECRET_ACCESS_KEY", "secret")
        .with("PATH", "/usr/bin");
    assert_eq!(call.run(&input), Ended::succeeded_with(""));

    let Request { head, body } = agent.ended();
    let length = body.len();
    assert_eq!(
        head,
        format!(
            "POST /v1/cni HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        )
    );
    let (mut variables, stdin) = parts(&body);
    variables.sort_unstable();
    assert_eq!(
        variables,
        [
            OsStr::from_bytes(b"CNI_ARGS=K8S_POD_NAME=a;X=\xff\xfe=\n"),
            OsStr::new("CNI_COMMAND=ADD"),
            OsStr::new("CNI_CONTAINERID=9f4307f96e5a"),
            OsStr::new("CNI_IFNAME=eth0"),
            OsStr::new("CNI_NETNS=/run/netns/pod-a"),
            OsStr::new("CNI_PATH=/opt/cni/bin"),
        ]
    );
    assert_eq!(stdin, input);
}

#[test]
fn each_commands_result_is_printed_unchanged() {
    for command in FORWARDED {
        for result in ["", "{\"cniVersion\": \"1.0.0\",\r\n \"ips\": []} \n"] {
            let agent = Agent::answering(answer("200 OK", result));
            assert_eq!(Call::of(PLUGIN, command).run(&agent.config("")), Ended::succeeded_with(result), "{command}");
            agent.ended();
        }
    }
}

#[test]
fn each_commands_error_is_printed_unchanged_and_fails() {
    let error = r#"{ "cniVersion": "1.0.0", "code": 101, "msg": "host unfit", "details": "" }"#;
    for command in FORWARDED {
        let agent = Agent::answering(answer("422 Unprocessable Entity", error));
        let ended = Call::of(PLUGIN, command).run(&agent.config(""));
        let expected = Ended { code: Some(1), stdout: error.to_owned(), stderr: String::new() };
        assert_eq!(ended, expected, "{command}");
        agent.ended();
    }
}

#[test]
fn a_large_configuration_and_a_large_result_pass() {
    let result = format!("\"{}\"", "r".repeat(3_000_000));
    let agent = Agent::answering(answer("200 OK", &result));
    let input = agent.config(&format!(r#", "annotations": "{}""#, "a".repeat(3_000_000)));
    assert_eq!(Call::of(PLUGIN, "ADD").run(&input), Ended::succeeded_with(&result));
    assert_eq!(parts(&agent.ended().body).1, input);
}

#[test]
fn an_answer_that_comes_before_the_request_is_read_counts() {
    let agent = Agent::serving(|mut stream| {
        stream.write_all(&answer("422 Unprocessable Entity", r#"{"code":7}"#)).unwrap();
    });
    let input = agent.config(&format!(r#", "annotations": "{}""#, "a".repeat(3_000_000)));
    let ended = Call::of(PLUGIN, "ADD").run(&input);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), r#"{"code":7}"#));
    agent.ended();
}

#[test]
fn an_answer_is_printed_when_it_is_whole_though_the_agent_does_not_hang_up() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let agent = Agent::serving(move |mut stream| {
        Request::read(&mut stream);
        stream.write_all(&answer("200 OK", "{}")).unwrap();
        held.recv().unwrap();
    });
    assert_eq!(Call::of(PLUGIN, "ADD").run(&agent.config("")), Ended::succeeded_with("{}"));
    release.send(()).unwrap();
    agent.ended();
}

#[test]
fn what_is_not_the_agents_answer_is_never_a_success_of_add() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
    for (answered, why) in [
        (answer("500 Internal Server Error", "{}"), "HTTP status 500"),
        (answer("404 Not Found", "{}"), "HTTP status 404"),
        (answer("204 No Content", ""), "HTTP status 204"),
        (answer("422 Unprocessable Entity", "no object"), "its error is no JSON object"),
        (answer("422 Unprocessable Entity", ""), "its error is no JSON object"),
        (b"".to_vec(), "ended before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}".to_vec(), "ended before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Len".to_vec(), "ended before it answered"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}".to_vec(), "it does not tell its length"),
        (b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(), "it has no status"),
        (b"{}".to_vec(), "it is not HTTP/1.1"),
        (vec![0xff; 1_000_000], "it is not HTTP/1.1"),
        (long.into_bytes(), "its head does not end"),
        (endless.into(), "it is longer than 4 MiB"),
    ] {
        let agent = Agent::answering(answered);
        let (code, message) = Call::of(PLUGIN, "ADD").run(&agent.config("")).error();
        assert_eq!(code, 11, "{message}");
        assert!(message.contains(why), "{message}");
        assert!(message.ends_with("; the pod is started when the agent is back"), "{message}");
        agent.ended();
    }
}
