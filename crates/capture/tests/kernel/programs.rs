//! The programs that are watched, and the server they talk to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use capture::ProcessId;

const SERVER: &str = include_str!("server.py");
const CLIENT: &str = include_str!("client.py");

/// Runs the rest of a test only where it can run, never in silence, and one at a time: the
/// tests count the links of this process.
macro_rules! need_kernel {
    () => {
        if let Some(reason) = crate::programs::why_not() {
            assert!(!crate::programs::required(), "cannot run: {reason}");
            println!("NOT RUN: {reason}");
            return;
        }
        let _alone = crate::programs::alone();
    };
}

pub(crate) use need_kernel;

/// Keeps other tests out while it lives.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has nothing to do with the next one.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The links of this process that are probes in programs, as the kernel lists them.
pub(crate) fn probe_links() -> usize {
    let entries = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let infos = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    infos
        .filter(|info| {
            let of = |kind: &str| info.contains(&format!("link_type:\t{kind}"));
            // The probe that makes others quick is in this process itself.
            let own = format!("pid:\t{}\n", std::process::id());
            (of("uprobe_multi") || of("uretprobe_multi") || of("perf")) && !info.contains(&own)
        })
        .count()
}

/// The identity of a process, read from `/proc` by other code than the one under test.
pub(crate) fn identity(pid: u32) -> ProcessId {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let start = after_name.split_whitespace().nth(19).unwrap();
    ProcessId { pid, start_time: start.parse::<u64>().unwrap() * 10_000_000 }
}

/// Whether a test that cannot run is a failure: where it is asked for, and on a machine that
/// can run them all.
pub(crate) fn required() -> bool {
    std::env::var("SONDE_REQUIRE_KERNEL").is_ok_and(|value| value == "1")
}

/// Why the kernel cannot be tested here; `None` when it can.
pub(crate) fn why_not() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON
        .get_or_init(|| {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            if !status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
                return Some("not root".to_owned());
            }
            if !Path::new("/sys/kernel/btf/vmlinux").exists() {
                return Some("this kernel has no BTF".to_owned());
            }
            None
        })
        .clone()
}

/// A directory with a certificate, gone at the end of the run.
fn certificate() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let made = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
                .args(["-nodes", "-days", "2", "-subj", "/CN=sonde.test"])
                .args(["-addext", "subjectAltName=DNS:sonde.test,DNS:api.openai.com"])
                .args(["-keyout", "key.pem", "-out", "cert.pem"])
                .current_dir(directory.path())
                .stderr(Stdio::null())
                .status()
                .expect("openssl runs");
            assert!(made.success());
            directory
        })
        .path()
}

/// The certificate that clients trust.
pub(crate) fn trusted() -> PathBuf {
    certificate().join("cert.pem")
}

/// A TLS server that sends back what it gets, on IPv4 and IPv6 loopback.
pub(crate) struct Server {
    program: Program,
    pub(crate) port: u16,
}

/// A program that a test drives by lines.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_far_away("0")
    }

    /// A server that takes this long, in seconds, to answer a hello.
    pub(crate) fn start_far_away(seconds: &str) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", SERVER, seconds]).current_dir(certificate());
        let mut program = Program::start(command);
        let port = program.hear().parse().expect("a port");
        Self { program, port }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }
}

impl Program {
    /// Starts a command whose input and output are lines.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// A Python client with `ssl` imported and one connection open.
    pub(crate) fn python(server: &Server) -> Self {
        let mut client = Self::python_without_ssl(server);
        client.tell("connect sonde.test");
        assert_eq!(client.hear(), "connected");
        client
    }

    /// A Python client that has not imported `ssl` yet.
    pub(crate) fn python_without_ssl(server: &Server) -> Self {
        Self::python_with(server, &[])
    }

    /// A Python client in an environment.
    pub(crate) fn python_with(server: &Server, variables: &[(&str, &Path)]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-c", CLIENT, &server.port.to_string()]).current_dir(certificate());
        command.envs(variables.iter().copied());
        let mut client = Self::start(command);
        assert_eq!(client.hear(), "ready");
        client
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Says the last of its input.
    pub(crate) fn tell_last(&mut self, text: &str) {
        self.tell(text);
        self.input = None;
    }

    /// Ends the program as its end of input does.
    pub(crate) fn finish(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already, or never needed again.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
