//! Broker and worker as the processes they are, with the test as their agent. Run as root.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Once};

use jfe_broker::namespace::Home;
use jfe_control::{Frame, FrameError, Link};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

static WORKER: Once = Once::new();

/// Cargo makes the binaries of the package under test alone. In a checkout of another user, where root must leave no
/// file, the worker has to be there.
fn worker_binary() -> PathBuf {
    let broker = Path::new(env!("CARGO_BIN_EXE_jfe-upgrader"));
    let owner = std::fs::metadata(broker).unwrap().uid();
    let binary = broker.with_file_name("jfe-upgrader-worker");
    if owner != rustix::process::geteuid().as_raw() {
        assert!(binary.exists(), "build the worker first: cargo build --package jfe-worker");
        return binary;
    }
    WORKER.call_once(|| {
        let release = broker.parent().unwrap().ends_with("release").then_some("--release");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "jfe-worker"]).args(release);
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    });
    binary
}

struct Upgrader {
    process: Child,
    folder: PathBuf,
}

impl Upgrader {
    fn start(name: &str, workers: u32) -> Self {
        Self::start_by(name, workers, Command::new(env!("CARGO_BIN_EXE_jfe-upgrader")))
    }

    /// `command`: the broker, or what ends up as it.
    fn start_by(name: &str, workers: u32, mut command: Command) -> Self {
        let folder = std::env::temp_dir().join(format!("jfe-broker-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        command.arg("--control").arg(folder.join("control")).arg("--worker-binary").arg(worker_binary());
        let log = File::create(folder.join("log")).unwrap();
        let process =
            command.arg("--workers").arg(workers.to_string()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
        Self { process, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    fn connect(&mut self) -> Agent {
        loop {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            match UnixStream::connect(self.folder.join("control")) {
                Ok(socket) => return Agent { link: Link::new(socket.into()), events: Vec::new(), seq: 0 },
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn workers(&self) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = std::fs::read_to_string(path).unwrap();
        children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
    }
}

impl Drop for Upgrader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

struct Agent {
    link: Link,
    events: Vec<Value>,
    seq: u64,
}

impl Agent {
    fn frame(&mut self) -> Result<Frame, FrameError> {
        loop {
            self.link.flush()?;
            if let Some(frame) = self.link.receive()? {
                return Ok(frame);
            }
            poll(&mut [PollFd::new(&self.link, PollFlags::IN)], None).unwrap();
        }
    }

    /// The answer to `word`.
    fn ask(&mut self, mut word: Value, namespace: Option<&File>) -> Value {
        self.seq += 1;
        word["seq"] = self.seq.into();
        let descriptors = namespace.map(|namespace| OwnedFd::from(namespace.try_clone().unwrap()));
        self.link.send(&word, descriptors.into_iter().map(Arc::new).collect()).unwrap();
        loop {
            let message: Value = self.frame().unwrap().parse().unwrap();
            if message["event"].is_null() {
                assert_eq!(message["seq"], self.seq);
                return message;
            }
            self.events.push(message);
        }
    }

    fn add(&mut self, id: &str, namespace: &File) -> Value {
        self.ask(
            json!({"word": "add", "object": {"workload": workload(id, &identity("spiffe://d/x"))}}),
            Some(namespace),
        )
    }

    fn event(&mut self, kind: &str) -> Value {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == kind) {
                return self.events.remove(at);
            }
            let event = self.frame().unwrap().parse().unwrap();
            self.events.push(event);
        }
    }
}

fn workload(id: &str, identity: &Value) -> Value {
    json!({"id": id, "shape": "namespace", "mode": "strict", "mark": 0x40_0000, "identity": identity, "settings": {}})
}

/// A leaf and its own root.
fn identity(id: &str) -> Value {
    let folder = std::env::temp_dir().join(format!("jfe-ca-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = "set -e
        new() { openssl ecparam -genkey -name prime256v1 | openssl pkcs8 -topk8 -nocrypt -out $1.key; }
        new root; new leaf
        openssl req -x509 -key root.key -subj /CN=root -days 1 -out root.pem
        openssl req -new -key leaf.key -subj / -out leaf.csr
        printf 'subjectAltName=URI:%s\nkeyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE' $0 > extensions
        openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -days 1 -extfile extensions -out leaf.pem";
    let output = Command::new("/bin/sh").args(["-c", script, id]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (certificates, key, trust_bundle) = (read("leaf.pem"), read("leaf.key"), read("root.pem"));
    std::fs::remove_dir_all(&folder).unwrap();
    json!({"id": id, "certificates": certificates, "key": key, "trust_bundle": trust_bundle})
}

/// A network namespace without a name; it is gone with its last descriptor.
fn namespace() -> File {
    let mut command = Command::new("unshare");
    command.args(["--net", "/bin/sh", "-c", "ip link set lo up; echo; read wait"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let namespace = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    namespace
}

fn connect(namespace: &File, port: &Value) -> std::io::Result<TcpStream> {
    let port = u16::try_from(port.as_u64().unwrap()).unwrap();
    let task = || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    Home::new().unwrap().within(namespace.as_fd(), task).unwrap()
}

/// Whether a worker accepts what comes to the port: dialled directly it is refused by a reset or an end.
fn is_served(namespace: &File, port: &Value) -> bool {
    let Ok(mut stream) = connect(namespace, port) else { return false };
    stream.read(&mut [0]).map_or(true, |read| read == 0)
}

#[test]
fn a_workload_gets_listeners_that_a_worker_serves_until_it_is_removed() {
    let mut upgrader = Upgrader::start("serve", 2);
    let mut agent = upgrader.connect();
    let namespace = namespace();
    let answer = agent.add("w1", &namespace);
    assert_eq!((&answer["answer"], &answer["ipv6"]), (&json!("listening"), &json!(true)), "{}", upgrader.log());
    assert!(is_served(&namespace, &answer["outbound"]) && is_served(&namespace, &answer["inbound"]));
    let again = agent.add("w1", &namespace);
    assert_eq!((&again["outbound"], &again["inbound"]), (&answer["outbound"], &answer["inbound"]));
    assert_eq!(agent.ask(json!({"word": "del", "name": {"workload": "w1"}}), None)["answer"], "done");
    assert_eq!(agent.ask(json!({"word": "keep", "workload": "w1"}), None)["answer"], "unknown");
    // The worker closes its copies when it reads of it.
    while connect(&namespace, &answer["outbound"]).is_ok() {}
}

#[test]
fn a_bad_identity_is_refused_and_leaves_nothing_behind() {
    let mut upgrader = Upgrader::start("identity", 1);
    let mut agent = upgrader.connect();
    let namespace = namespace();
    let mut bad = identity("spiffe://d/x");
    bad["key"] = identity("spiffe://d/x")["key"].clone();
    let word = json!({"word": "add", "object": {"workload": workload("w1", &bad)}});
    let answer = agent.ask(word.clone(), Some(&namespace));
    assert_eq!((&answer["answer"], &answer["kind"]), (&json!("failed"), &json!("bad_identity")));
    assert_eq!(agent.ask(json!({"word": "keep", "workload": "w1"}), None)["answer"], "unknown");
    let good = agent.add("w1", &namespace);
    assert_eq!(good["answer"], "listening");
    assert_eq!(agent.ask(word, Some(&namespace))["kind"], "bad_identity");
    assert_eq!(agent.ask(json!({"word": "keep", "workload": "w1"}), None)["outbound"], good["outbound"]);
    assert!(is_served(&namespace, &good["outbound"]));
}

#[test]
fn a_killed_worker_is_replaced_and_knows_its_workloads() {
    let mut upgrader = Upgrader::start("worker", 1);
    let mut agent = upgrader.connect();
    let namespace = namespace();
    let answer = agent.add("w1", &namespace);
    for _ in 0..3 {
        let before = upgrader.workers();
        kill_process(before[0], Signal::KILL).unwrap();
        assert_eq!(agent.event("worker_replaced")["worker"], 0);
        assert!(is_served(&namespace, &answer["inbound"]));
        assert_ne!(upgrader.workers(), before);
    }
}

#[test]
fn an_agent_takes_over_from_one_that_is_gone() {
    let mut upgrader = Upgrader::start("agent", 1);
    let (first, second) = (namespace(), namespace());
    let mut agent = upgrader.connect();
    let listening = agent.add("w1", &first);
    agent.add("w2", &second);
    assert_eq!(agent.ask(json!({"word": "snapshot_sent"}), None)["answer"], "done");
    drop(agent);
    let mut agent = upgrader.connect();
    let kept = agent.ask(json!({"word": "keep", "workload": "w1"}), None);
    assert_eq!((&kept["outbound"], &kept["inbound"]), (&listening["outbound"], &listening["inbound"]));
    assert_eq!(agent.ask(json!({"word": "snapshot_sent"}), None)["answer"], "done");
    assert_eq!(agent.ask(json!({"word": "keep", "workload": "w2"}), None)["answer"], "unknown");
    // A newer agent replaces an older one that is still there.
    let mut newer = upgrader.connect();
    assert_eq!(newer.ask(json!({"word": "keep", "workload": "w1"}), None)["answer"], "listening");
    assert!(matches!(agent.frame(), Err(FrameError::Closed)));
}

#[test]
fn garbage_ends_a_connection_or_a_request_and_never_the_upgrader() {
    let mut upgrader = Upgrader::start("garbage", 1);
    let namespace = namespace();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x03abc", b"\0\0\0\x10half", b"\xff\xff\xff\xff", b""] {
        let socket = {
            let agent = upgrader.connect();
            agent.link.as_fd().try_clone_to_owned().unwrap()
        };
        let mut socket = UnixStream::from(socket);
        std::io::Write::write_all(&mut socket, garbage).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        // An end, or a reset where it left something unread.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let mut agent = upgrader.connect();
    for (word, descriptor) in [
        (json!({"word": "sing"}), None),
        (json!({"word": "add", "object": {"workload": workload("../x", &json!({}))}}), Some(&namespace)),
        (json!({"word": "add", "object": {"workload": workload("../x", &identity("spiffe://d/x"))}}), Some(&namespace)),
        (json!({"word": "add", "object": {"workload": workload("w1", &identity("spiffe://d/x"))}}), None),
        (json!({"word": "snapshot_sent"}), Some(&namespace)),
        (json!({"word": "add", "object": {"directory": [{"network": "10.0.0.1/8", "cover": "covered"}]}}), None),
    ] {
        assert_eq!(agent.ask(word.clone(), descriptor)["kind"], "bad_request", "{word}");
    }
    let regular = File::open("/proc/self/exe").unwrap();
    assert_eq!(agent.add("w1", &regular)["kind"], "namespace_gone");
    assert_eq!(agent.add("w1", &namespace)["answer"], "listening");
}

#[test]
fn the_control_socket_is_its_owners_alone_and_is_not_taken_from_one_who_answers() {
    let mut upgrader = Upgrader::start("control", 1);
    let _agent = upgrader.connect();
    let control = upgrader.folder.join("control");
    assert_eq!(std::fs::metadata(&control).unwrap().permissions().mode() & 0o777, 0o600);
    let mut second = Command::new(env!("CARGO_BIN_EXE_jfe-upgrader"));
    second.arg("--control").arg(&control).arg("--worker-binary").arg(worker_binary());
    let output = second.output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("another upgrader answers"));
    // A killed one leaves its file, which the next replaces.
    upgrader.process.kill().unwrap();
    upgrader.process.wait().unwrap();
    assert!(control.exists());
    upgrader.process = second.stderr(Stdio::null()).spawn().unwrap();
    upgrader.connect();
}

#[test]
fn workers_end_with_the_broker_however_it_ends() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut upgrader = Upgrader::start(if signal == Signal::TERM { "term" } else { "kill" }, 2);
        let mut agent = upgrader.connect();
        agent.add("w1", &namespace());
        let workers = upgrader.workers();
        assert_eq!(workers.len(), 2);
        let broker = Pid::from_child(&upgrader.process);
        // SIGHUP does nothing, nor does the end of the session in which it was started.
        kill_process(broker, Signal::HUP).unwrap();
        assert_eq!(agent.ask(json!({"word": "snapshot_sent"}), None)["answer"], "done");
        let handles = workers.iter().map(|pid| rustix::process::pidfd_open(*pid, rustix::process::PidfdFlags::empty()));
        let handles: Vec<OwnedFd> = handles.map(Result::unwrap).collect();
        kill_process(broker, signal).unwrap();
        for handle in handles {
            poll(&mut [PollFd::new(&handle, PollFlags::IN)], None).unwrap();
        }
        assert_eq!(upgrader.process.wait().unwrap().success(), signal == Signal::TERM);
    }
}

#[test]
fn without_descriptors_left_a_workload_is_refused_and_the_others_stay() {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=60:60", env!("CARGO_BIN_EXE_jfe-upgrader")]);
    let mut upgrader = Upgrader::start_by("exhausted", 1, command);
    let mut agent = upgrader.connect();
    let namespace = namespace();
    let listening = agent.add("w0", &namespace);
    let mut added = 1;
    let refusal = loop {
        let answer = agent.add(&format!("w{added}"), &namespace);
        if answer["answer"] != "listening" {
            break answer;
        }
        added += 1;
        assert!(added < 60);
    };
    assert_eq!(refusal["answer"], "failed");
    assert!(is_served(&namespace, &listening["inbound"]), "{refusal}");
    for number in 1..added {
        let answer = agent.ask(json!({"word": "del", "name": {"workload": format!("w{number}")}}), None);
        assert_eq!(answer["answer"], "done");
    }
    assert_eq!(agent.add("again", &namespace)["answer"], "listening");
}
