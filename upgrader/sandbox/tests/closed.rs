//! A child process closes its sandbox, then tries one deed. Run as root, like the upgrader.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::io::{Read, Write, stdin};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg, sockopt};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};
use rustix::rand::{GetRandomFlags, getrandom};

/// A sentence's first half, and what is tried.
type Deed = (&'static str, fn());

/// What a closed worker may not do: each kills it.
const KILLED: [Deed; 19] = [
    ("opening_a_file", || ignore(std::fs::File::open("/etc/passwd"))),
    ("making_a_file", || ignore(std::fs::File::create("/x"))),
    ("listing_a_directory", || ignore(std::fs::read_dir("/"))),
    ("a_tcp_socket", || ignore(TcpStream::connect((Ipv4Addr::LOCALHOST, 1)))),
    ("a_udp_socket", || ignore(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))),
    ("a_unix_socket_pair", || ignore(UnixStream::pair())),
    ("a_program", || ignore(Command::new("/bin/true").status())),
    ("a_thread", || ignore(std::thread::Builder::new().spawn(|| ()))),
    ("killing_its_parent", || ignore(kill_process(getppid().unwrap_or(Pid::INIT), Signal::KILL))),
    ("a_signal_to_itself", || ignore(kill_process(*PID.get().unwrap(), Signal::USR1))),
    ("memory_to_execute", map_executable),
    ("a_socket_option_of_another_kind", || ignore(sockopt::socket_type(stdin()))),
    ("setting_a_socket_option", || ignore(sockopt::set_socket_keepalive(stdin(), true))),
    ("a_namespace", || ignore(rustix::thread::move_into_link_name_space(stdin().as_fd(), None))),
    ("writing_to_stderr", || ignore(std::io::stderr().write(b"x"))),
    ("a_panic", || panic!("told before the end")),
    ("ending", || std::process::exit(0)),
    ("sleeping", || std::thread::sleep(Duration::from_millis(1))),
    ("duplicating_a_descriptor", || ignore(stdin().as_fd().try_clone_to_owned())),
];

/// What a worker does all day.
const ALLOWED: [Deed; 6] = [
    ("memory_is_taken_and_given_back", take_memory),
    ("the_time_is_read", || assert!(Instant::now() >= *START.get().unwrap() && SystemTime::now() > UNIX_EPOCH)),
    ("random_bytes_are_drawn", || ignore(getrandom(&mut [0_u8; 32], GetRandomFlags::empty()).unwrap())),
    ("how_a_connect_ended_is_asked", || assert_eq!(sockopt::socket_error(stdin()).unwrap(), Ok(()))),
    ("what_a_connection_has_carried_is_asked", ask_for_segments),
    ("a_connection_is_accepted_and_served", serve),
];

static PID: OnceLock<Pid> = OnceLock::new();
static START: OnceLock<Instant> = OnceLock::new();
static SERVED: OnceLock<(TcpListener, TcpStream)> = OnceLock::new();

/// Whether it worked does not matter: the next line of the child tells that it is still there.
fn ignore<T>(_: T) {}

fn take_memory() {
    for _ in 0..3 {
        let mut blocks: Vec<Vec<u8>> = (0..100).map(|size| vec![1; 1_000_000 + size]).collect();
        for block in &mut blocks {
            block.resize(1_500_000, 2);
        }
        assert_eq!(blocks.iter().map(Vec::len).sum::<usize>(), 150_000_000);
    }
    drop(vec![0_u8; 100_000_000]);
}

fn ask_for_segments() {
    let (_, client) = SERVED.get().unwrap();
    let mut information = [0_u8; 208];
    let mut length = 208;
    // SAFETY: both outlive the call, and the kernel writes no more than `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            client.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_INFO,
            information.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0);
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("closed-child") {
        return child(&arguments.next().unwrap());
    }
    let mut failed = Vec::new();
    let mut check = |name: &str, passed: bool| {
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name.to_string());
        }
    };
    for (name, _) in KILLED {
        check(&format!("{name}_kills_a_closed_worker"), survived(name) == Err(libc::SIGSYS));
    }
    for (name, _) in ALLOWED {
        check(&format!("in_a_closed_worker_{name}"), survived(name) == Ok(()));
    }
    check("a_closed_worker_has_no_privilege_left", has_no_privilege());
    check("a_closed_worker_has_an_empty_root", has_empty_root());
    check("a_closed_worker_dies_with_its_parent", dies_with_parent());
    check("a_panic_is_told_on_a_socket", last_words().contains("told before the end"));
    check(
        "an_open_descriptor_is_named_instead_of_closing",
        refused_with("descriptor").contains("are open; close them"),
    );
    check("a_second_thread_is_named_instead_of_closing", refused_with("thread").contains("2 threads run"));
    println!("\ntest result: {}. {} failed", if failed.is_empty() { "ok" } else { "FAILED" }, failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn child(deed: &str) -> ExitCode {
    let opened = jfe_sandbox::open().unwrap();
    PID.set(getpid()).unwrap();
    START.set(Instant::now()).unwrap();
    let thread = (deed == "thread").then(|| std::thread::spawn(std::thread::park));
    let descriptor = (deed == "descriptor").then(|| std::fs::File::open("/dev/null").unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    SERVED.set((listener, client)).unwrap();
    let (listener, client) = SERVED.get().unwrap();
    if let Err(error) = jfe_sandbox::close(&opened, &[listener.as_raw_fd(), client.as_raw_fd()]) {
        say(&error.to_string());
        return ExitCode::FAILURE;
    }
    drop((thread, descriptor));
    if deed == "wait" {
        say("waiting");
        hear();
    }
    let deeds = KILLED.iter().chain(&ALLOWED);
    deeds.filter(|(name, _)| *name == deed).for_each(|(_, deed)| deed());
    say("survived");
    hear();
    ExitCode::SUCCESS
}

fn serve() {
    let (listener, client) = SERVED.get().unwrap();
    let (served, _) = listener.accept().unwrap();
    send(client.as_fd(), b"hello");
    let mut bytes = [0; 5];
    let none = &mut RecvAncillaryBuffer::default();
    recvmsg(&served, &mut [std::io::IoSliceMut::new(&mut bytes)], none, RecvFlags::empty()).unwrap();
    assert_eq!(&bytes, b"hello");
    served.local_addr().unwrap();
    served.shutdown(std::net::Shutdown::Write).unwrap();
}

fn map_executable() {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    // SAFETY: a fresh anonymous mapping that nothing else refers to.
    ignore(unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::all(), MapFlags::PRIVATE) });
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) {
    let slices = [std::io::IoSlice::new(bytes)];
    sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::empty()).unwrap();
}

fn say(text: &str) {
    send(stdin().as_fd(), text.as_bytes());
}

fn hear() {
    let none = &mut RecvAncillaryBuffer::default();
    let mut bytes = [0; 1];
    recvmsg(stdin(), &mut [std::io::IoSliceMut::new(&mut bytes)], none, RecvFlags::empty()).unwrap();
}

struct Child {
    process: std::process::Child,
    link: UnixStream,
}

impl Child {
    fn new(deed: &str, stderr: Stdio) -> Self {
        let (link, other) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["closed-child", deed]).stdin(OwnedFd::from(other)).stdout(Stdio::null()).stderr(stderr);
        Self { process: command.spawn().unwrap(), link }
    }

    /// What it says next; empty when it has ended.
    fn heard(&mut self) -> String {
        let mut bytes = [0; 1000];
        let read = self.link.read(&mut bytes).unwrap_or(0);
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Else the signal that ended it.
fn survived(deed: &str) -> Result<(), i32> {
    let mut child = Child::new(deed, Stdio::null());
    if child.heard() == "survived" { Ok(()) } else { Err(child.process.wait().unwrap().signal().unwrap_or(0)) }
}

fn refused_with(deed: &str) -> String {
    Child::new(deed, Stdio::null()).heard()
}

fn has_no_privilege() -> bool {
    let mut child = Child::new("wait", Stdio::inherit());
    assert_eq!(child.heard(), "waiting");
    let status = child.proc("status");
    let limits = child.proc("limits");
    let expected = [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "Groups:\t ",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !status.lines().any(|found| found == **line)).collect();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).all(|value| value == "0")
    };
    missing.is_empty() && limit("Max processes") && limit("Max file size") && limit("Max core file size")
}

fn has_empty_root() -> bool {
    let mut child = Child::new("wait", Stdio::inherit());
    assert_eq!(child.heard(), "waiting");
    let root = std::path::PathBuf::from(format!("/proc/{}/root", child.process.id()));
    let gone = std::fs::read_link(&root).unwrap().to_string_lossy().ends_with("(deleted)");
    gone && std::fs::read_dir(&root).unwrap().count() == 0 && std::fs::write(root.join("x"), "").is_err()
}

fn dies_with_parent() -> bool {
    let (mut link, other) = UnixStream::pair().unwrap();
    let mut shell = {
        let mut command = Command::new("/bin/sh");
        // A shell gives its background commands /dev/null as standard input, unless they say otherwise.
        command.args(["-c", r#"exec 3<&0 </dev/null; "$0" closed-child wait <&3 & exec 3<&-; wait"#]);
        command.arg(std::env::current_exe().unwrap()).stdin(OwnedFd::from(other)).spawn().unwrap()
    };
    let mut bytes = [0; 100];
    let waiting = link.read(&mut bytes).unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    // The end of the child closes the last descriptor of the other end.
    &bytes[..waiting] == b"waiting" && link.read(&mut bytes).unwrap() == 0
}

fn last_words() -> String {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let mut child = Child::new("a_panic", Stdio::from(OwnedFd::from(writer)));
    child.process.wait().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}
