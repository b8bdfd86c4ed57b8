//! What an uninstall leaves in the plugin's place.
#![allow(clippy::unwrap_used)]

mod stage;

use stage::{Call, Ended, RETIRED};

const INPUTS: [&[u8]; 4] = [br#"{"cniVersion": "0.4.0", "type": "jfe", "agentSocket": 7}"#, b"", b"{", b"\xff"];

#[test]
fn what_jfe_covered_can_go_and_is_no_longer_promised_anything() {
    for input in INPUTS {
        for command in ["DEL", "CHECK", "GC"] {
            assert_eq!(Call::of(RETIRED, command).run(input), Ended::succeeded_with(""), "{command}");
        }
    }
}

#[test]
fn nothing_is_added_and_the_reason_is_told() {
    for input in INPUTS {
        for (command, expected) in [("ADD", 11), ("STATUS", 50)] {
            let ended = Call::of(RETIRED, command).run(input);
            let (code, message) = ended.error();
            assert_eq!(code, expected);
            assert!(message.starts_with("jfe has been uninstalled, and the chain"), "{message}");
            assert!(ended.stdout.contains("have the runtime load it anew"), "{ended:?}");
        }
    }
    assert!(Call::of(RETIRED, "ADD").run(INPUTS[0]).stdout.starts_with(r#"{"cniVersion":"0.4.0","#));
}

#[test]
fn version_is_answered_as_ever() {
    let expected = r#"{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}"#;
    let ended = Call::of(RETIRED, "VERSION").run(INPUTS[0]);
    assert_eq!(ended, Ended::succeeded_with(&format!("{expected}\n")));
}

#[test]
fn a_call_without_a_command_is_an_error_of_the_environment() {
    assert_eq!(Call::of(RETIRED, "UPDATE").run(b"").error().0, 4);
    assert!(Call::bare(RETIRED).run(b"").stdout.contains(r#""code":4,"#));
}
