//! Where no agent answers, each command says so in its own way.
#![allow(clippy::unwrap_used)]

mod stage;

use std::fs;
use std::os::unix::net::UnixListener;

use stage::{Call, Ended, Folder, PLUGIN, config};

/// Runs `check` where nothing is at the socket's path, where its agent has ended, and where a plain file lies.
fn without_agent(check: impl Fn(&[u8], &str)) {
    let folder = Folder::make();
    let socket = folder.socket();
    check(&config(&socket, ""), "the socket does not exist");
    drop(UnixListener::bind(&socket).unwrap());
    check(&config(&socket, ""), "connection refused");
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    check(&config(&socket, ""), "connection refused");
}

#[test]
fn add_names_the_socket_and_the_reason_and_says_that_the_pod_comes_later() {
    without_agent(|config, reason| {
        let (code, message) = Call::of(PLUGIN, "ADD").run(config).error();
        assert_eq!(code, 11);
        assert!(message.starts_with("jfe's agent does not answer at /"), "{message}");
        assert!(message.contains(&format!("/agent.sock: {reason}")), "{message}");
        assert!(message.ends_with("; the pod is started when the agent is back"), "{message}");
    });
}

#[test]
fn check_and_status_fail_with_their_codes() {
    without_agent(|config, reason| {
        for (command, expected) in [("CHECK", 11), ("STATUS", 50)] {
            let (code, message) = Call::of(PLUGIN, command).run(config).error();
            assert_eq!(code, expected, "{command}");
            assert!(message.contains(reason), "{message}");
        }
    });
}

#[test]
fn del_and_gc_keep_nothing_from_going_and_leave_a_line_for_the_log() {
    without_agent(|config, reason| {
        for command in ["DEL", "GC"] {
            let ended = Call::of(PLUGIN, command).run(config);
            let remark = ended.remark();
            assert!(remark.starts_with(&format!("jfe: {command}: jfe's agent does not answer at /")), "{remark}");
            assert!(remark.contains(reason), "{remark}");
        }
    });
}

#[test]
fn version_needs_neither_an_agent_nor_a_configuration() {
    for (input, version) in [
        (br#"{"cniVersion": "0.4.0"}"#.as_slice(), "0.4.0"),
        (br#"{"cniVersion": "2.0.0"}"#, "2.0.0"),
        (b"{}", "1.1.0"),
        (b"", "1.1.0"),
        (b"{\"cniVersion\": \"0.4.0\"", "1.1.0"),
        (b"\xff\0", "1.1.0"),
    ] {
        let expected = format!(
            "{{\"cniVersion\":\"{version}\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}}\n"
        );
        assert_eq!(Call::of(PLUGIN, "VERSION").run(input), Ended::succeeded_with(&expected));
        assert_eq!(Call::bare(PLUGIN).with("CNI_COMMAND", "VERSION").run(input), Ended::succeeded_with(&expected));
    }
}

#[test]
fn an_unknown_command_is_an_error_of_the_environment() {
    let ended = Call::of(PLUGIN, "ADDD").run(br#"{"cniVersion": "0.3.1"}"#);
    assert!(ended.stdout.starts_with(r#"{"cniVersion":"0.3.1","#));
    assert_eq!(ended.error(), (4, "CNI_COMMAND is \"ADDD\", which CNI 1.1.0 does not know".to_owned()));
}

#[test]
fn a_person_who_starts_it_reads_what_it_is() {
    let ended = Call::bare(PLUGIN).run(b"");
    assert_eq!(
        ended.stderr,
        format!(
            "CNI plugin jfe v{}\nCNI protocol versions supported: 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
            env!("CARGO_PKG_VERSION")
        )
    );
    let (code, message) = Ended { stderr: String::new(), ..ended }.error();
    assert_eq!((code, message.as_str()), (4, "CNI_COMMAND is not set"));
}

#[test]
fn an_error_speaks_the_configurations_version_where_that_is_supported() {
    let folder = Folder::make();
    for (asked, spoken) in [("0.3.1", "0.3.1"), ("1.1.0", "1.1.0"), ("0.2.0", "1.1.0"), ("7\\\"", "1.1.0")] {
        let input = format!(r#"{{"cniVersion": "{asked}", "agentSocket": "{}"}}"#, folder.socket().display());
        let ended = Call::of(PLUGIN, "ADD").run(input.as_bytes());
        assert!(ended.stdout.starts_with(&format!("{{\"cniVersion\":\"{spoken}\",\"code\":11,")), "{ended:?}");
    }
}
