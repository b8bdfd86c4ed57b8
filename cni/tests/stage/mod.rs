//! A container runtime's side and an agent's side, with the built program between them.
// Each test program uses a part.
#![allow(dead_code, clippy::unwrap_used)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

pub const PLUGIN: &str = env!("CARGO_BIN_EXE_jfe");
pub const RETIRED: &str = env!("CARGO_BIN_EXE_jfe-retired");

/// A folder of this test's own, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn make() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("jfe-cni-plugin-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A network configuration that names this socket.
pub fn config(socket: &Path, more: &str) -> Vec<u8> {
    format!(r#"{{"cniVersion": "1.0.0", "name": "pods", "type": "jfe", "agentSocket": "{}"{more}}}"#, socket.display())
        .into_bytes()
}

/// An agent that takes one connection.
pub struct Agent<T> {
    folder: Folder,
    serving: JoinHandle<T>,
}

impl<T: Send + 'static> Agent<T> {
    pub fn serving(serve: impl FnOnce(UnixStream) -> T + Send + 'static) -> Self {
        let folder = Folder::make();
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let serving = thread::spawn(move || serve(listener.accept().unwrap().0));
        Self { folder, serving }
    }

    pub fn config(&self, more: &str) -> Vec<u8> {
        config(&self.folder.socket(), more)
    }

    /// What it made of the connection.
    pub fn ended(self) -> T {
        self.serving.join().unwrap()
    }
}

impl Agent<Request> {
    /// Reads a whole request and answers with these bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::serving(move |mut stream| {
            let request = Request::read(&mut stream);
            // The plugin need not wait for the end of an answer that is none.
            drop(stream.write_all(&answer));
            request
        })
    }
}

/// An answer as the agent's HTTP server writes it.
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[derive(Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn read(stream: &mut UnixStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        Self { head, body }
    }
}

/// A run of the program, as a runtime starts it.
pub struct Call {
    program: &'static str,
    variables: Vec<(OsString, OsString)>,
}

impl Call {
    pub fn of(program: &'static str, command: &str) -> Self {
        let call = Self { program, variables: Vec::new() };
        call.with("CNI_COMMAND", command)
            .with("CNI_CONTAINERID", "9f4307f96e5a")
            .with("CNI_NETNS", "/run/netns/pod-a")
            .with("CNI_IFNAME", "eth0")
            .with("CNI_PATH", "/opt/cni/bin")
    }

    /// As a person does.
    pub fn bare(program: &'static str) -> Self {
        Self { program, variables: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    pub fn start(&self) -> Child {
        let mut command = Command::new(self.program);
        command.env_clear().envs(self.variables.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn run(&self, input: &[u8]) -> Ended {
        let mut child = self.start();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that ends before it has read everything is no fault of who writes.
        let writing = thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = Ended::of(child);
        writing.join().unwrap();
        ended
    }

    /// Gives it these bytes and never closes stdin.
    pub fn run_with_stdin_open(&self, input: &[u8]) -> (Ended, ChildStdin) {
        let mut child = self.start();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).unwrap();
        (Ended::of(child), stdin)
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// None: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let ended = Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        ended
    }

    pub fn succeeded_with(stdout: &str) -> Self {
        Self { code: Some(0), stdout: stdout.to_owned(), stderr: String::new() }
    }

    /// The error object on stdout: its code and what it says. Holds the run to what goes with an error.
    pub fn error(&self) -> (u64, String) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        let object: serde_json::Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 4, "{self:?}");
        assert!(object["cniVersion"].is_string() && object["details"].is_string(), "{self:?}");
        (object["code"].as_u64().unwrap(), object["msg"].as_str().unwrap().to_owned())
    }

    /// The one line of stderr with which a command goes well that needs no agent. Holds the run to the rest.
    pub fn remark(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "{self:?}");
        line
    }
}

/// The variables and stdin that a request's body holds.
pub fn parts(body: &[u8]) -> (Vec<&OsStr>, &[u8]) {
    let end = body.windows(2).position(|window| window == b"\0\0").unwrap();
    let variables = body[..end].split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
    (variables, &body[end + 2..])
}
