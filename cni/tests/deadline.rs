//! A run ends, whoever does not. What keeps it waiting here goes on doing so until the run has ended.
#![allow(clippy::unwrap_used)]

mod stage;

use std::io::{ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use stage::{Agent, Call, Folder, PLUGIN, RETIRED, Request, answer, config};

const SHORT: &str = r#", "deadlineSeconds": 0.5"#;

fn assert_no_answer_in_time(call: &Call, input: &[u8]) {
    let (code, message) = call.run(input).error();
    assert_eq!(code, 11, "{message}");
    assert!(message.contains("no answer within 0.5 s"), "{message}");
}

#[test]
fn an_agent_that_says_nothing() {
    let (release, held) = mpsc::channel::<()>();
    let agent = Agent::serving(move |mut stream| {
        Request::read(&mut stream);
        held.recv().unwrap();
    });
    assert_no_answer_in_time(&Call::of(PLUGIN, "ADD"), &agent.config(SHORT));
    release.send(()).unwrap();
    agent.ended();
}

#[test]
fn an_agent_that_does_not_even_read() {
    let (release, held) = mpsc::channel::<()>();
    let agent = Agent::serving(move |_stream| held.recv().unwrap());
    // More than a socket's buffers take (net.core.wmem_default).
    let more = format!(r#", "deadlineSeconds": 2, "annotations": "{}""#, "a".repeat(300_000));
    let (code, message) = Call::of(PLUGIN, "ADD").run(&agent.config(&more)).error();
    assert_eq!(code, 11, "{message}");
    assert!(message.contains("no answer within 2 s"), "{message}");
    release.send(()).unwrap();
    agent.ended();
}

#[test]
fn an_agent_that_says_a_byte_now_and_then() {
    let agent = Agent::serving(|mut stream| {
        Request::read(&mut stream);
        let mut bytes = answer("200 OK", &" ".repeat(1_000_000)).into_iter();
        // Ends when the plugin has.
        while stream.write_all(&[bytes.next().unwrap()]).is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_no_answer_in_time(&Call::of(PLUGIN, "ADD"), &agent.config(SHORT));
    agent.ended();
}

#[test]
fn an_agent_that_takes_no_more_connections() {
    let folder = Folder::make();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(folder.socket()).unwrap();
    assert_no_answer_in_time(&Call::of(PLUGIN, "ADD"), &config(&folder.socket(), SHORT));
    listener.set_nonblocking(true).unwrap();
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the plugin came through");
}

#[test]
fn without_an_answer_in_time_a_container_still_goes() {
    let (release, held) = mpsc::channel::<()>();
    let agent = Agent::serving(move |_stream| held.recv().unwrap());
    let ended = Call::of(PLUGIN, "DEL").run(&agent.config(SHORT));
    assert!(ended.remark().contains("no answer within 0.5 s"), "{ended:?}");
    release.send(()).unwrap();
    agent.ended();
}

#[test]
fn a_stdin_that_is_not_closed_after_the_configuration() {
    let folder = Folder::make();
    let input = config(&folder.socket(), SHORT);
    for command in ["ADD", "CHECK", "STATUS"] {
        let (ended, _stdin) = Call::of(PLUGIN, command).run_with_stdin_open(&input);
        let (code, message) = ended.error();
        assert_eq!((code, message.as_str()), (5, "stdin was not closed in time after the network configuration"));
    }
    for command in ["DEL", "GC"] {
        let (ended, _stdin) = Call::of(PLUGIN, command).run_with_stdin_open(&input);
        assert!(ended.remark().contains("stdin was not closed"), "{ended:?}");
    }
}

#[test]
fn a_stdin_that_is_not_closed_keeps_nobody_from_the_version() {
    for program in [PLUGIN, RETIRED] {
        for (input, version) in [("", "1.1.0"), (r#"{"cniVersion": "0.4.0", "deadlineSeconds": 3600}"#, "0.4.0")] {
            let (ended, _stdin) = Call::of(program, "VERSION").run_with_stdin_open(input.as_bytes());
            assert_eq!(ended.code, Some(0));
            assert!(ended.stdout.starts_with(&format!("{{\"cniVersion\":\"{version}\"")), "{ended:?}");
        }
    }
}

#[test]
fn a_runtime_that_does_not_read_the_result() {
    // More than a pipe takes.
    let agent = Agent::answering(answer("200 OK", &" ".repeat(1_000_000)));
    let mut child = Call::of(PLUGIN, "ADD").start();
    child.stdin.take().unwrap().write_all(&agent.config(SHORT)).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "half a result was called a success");
    agent.ended();
}

#[test]
fn a_runtime_that_has_closed_stdout() {
    let agent = Agent::answering(answer("200 OK", "{}"));
    let mut child = Call::of(PLUGIN, "ADD").start();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(&agent.config("")).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.is_empty(), "{ended:?}");
    agent.ended();
}
