//! The jobs: three servers under the policies of `policy-examples/`, and two jobs of many small programs and files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use enforcer_vm_tests::actor::{Place, command};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{SCRATCH, shown};
use enforcer_vm_tests::http;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::service::policy_file;
use enforcer_vm_tests::units::{self, Running, UnitFile};

const REQUESTS: usize = 2_000;
const FILES: usize = 50_000;
const TREE: &str = "/tmp/tree";
const BUILD: &str = "/tmp/build";

/// A job.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) work: &'static str,
    run: fn(&Job),
    whose: Whose,
}

/// What works, under which policy.
enum Whose {
    /// A unit of Debian's, under an example.
    Unit { unit: &'static str, example: &'static str, _settings: Option<UnitFile> },
    /// A program that we start in a cgroup.
    Own { cgroup: Cgroup, policy: Policy },
}

impl Job {
    /// The file with its policy.
    pub(crate) fn policy(&self, mode: &str) -> PathBuf {
        let text = match &self.whose {
            Whose::Unit { example, .. } => format!("{example}\n[mode]\ndefault = \"{mode}\"\n"),
            Whose::Own { policy, .. } if mode == "audit" => policy.clone().audit().to_toml(),
            Whose::Own { policy, .. } => policy.to_toml(),
        };
        policy_file(self.name, &text)
    }

    /// Starts what has to run for it.
    pub(crate) fn start(&self) -> Option<Running> {
        match self.whose {
            Whose::Unit { unit, .. } => Some(Running::start(unit)),
            Whose::Own { .. } => None,
        }
    }

    /// Does it once.
    pub(crate) fn run(&self) {
        (self.run)(self);
    }

    /// The directory of its cgroup.
    pub(crate) fn cgroup(&self) -> PathBuf {
        match &self.whose {
            Whose::Unit { unit, .. } => Path::new("/sys/fs/cgroup")
                .join(units::property(unit, "ControlGroup").trim_start_matches('/')),
            Whose::Own { cgroup, .. } => cgroup.directory(),
        }
    }

    /// A program of a job of our own.
    fn command(&self, program: &str) -> Command {
        match &self.whose {
            Whose::Unit { .. } => Command::new(program),
            Whose::Own { cgroup, .. } => command(Place::Joining(cgroup), program),
        }
    }
}

/// Lays out what they need.
pub(crate) fn prepare() -> Vec<Job> {
    fs::create_dir_all(SCRATCH).expect("a directory");
    let jobs = vec![nginx(), redis(), postgresql(), build(), files()];
    let postgresql = Running::start(POSTGRESQL);
    succeed(database("pgbench").args(["--initialize", "--quiet", "--scale=1"]));
    drop(postgresql);
    jobs
}

fn nginx() -> Job {
    let whose = Whose::Unit {
        unit: "nginx.service",
        example: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/nginx.toml")),
        _settings: None,
    };
    let run = |_: &Job| {
        for request in 0..REQUESTS {
            let answer = http::get("127.0.0.1:80", "/").unwrap_or_else(|error| panic!("{request}: {error}"));
            assert_eq!(answer.status, 200, "request {request}");
        }
    };
    Job { name: "nginx", work: "2,000 requests, a connection each", run, whose }
}

fn redis() -> Job {
    // Snapshots come by the clock, which runs at another speed here.
    let settings = "[Service]\nExecStart=\nExecStart=/usr/bin/redis-server /etc/redis/redis.conf \
                    --supervised systemd --daemonize no --save ''\n";
    let whose = Whose::Unit {
        unit: "redis-server.service",
        example: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/redis.toml")),
        _settings: Some(UnitFile::drop_in("redis-server.service", settings)),
    };
    let run = |_: &Job| {
        succeed(Command::new("redis-benchmark").args([
            "-q",
            "-n",
            "5000",
            "-c",
            "10",
            "-t",
            "set,get,lpush",
        ]));
    };
    Job { name: "redis", work: "redis-benchmark: 15,000 commands over 10 connections", run, whose }
}

const POSTGRESQL: &str = "postgresql@17-main.service";

fn postgresql() -> Job {
    // As the example's comment tells; what comes by the clock is left out, and so is waiting for an emulated disk.
    let settings = "[Service]\nType=notify\nUser=postgres\nExecStart=\n\
        ExecStart=/usr/lib/postgresql/17/bin/postgres -D /var/lib/postgresql/17/main \
        -c config_file=/etc/postgresql/17/main/postgresql.conf -c jit=off -c autovacuum=off -c fsync=off\n\
        ExecStop=\nExecReload=\n";
    let whose = Whose::Unit {
        unit: POSTGRESQL,
        example: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/postgresql.toml")),
        _settings: Some(UnitFile::drop_in(POSTGRESQL, settings)),
    };
    let run =
        |_: &Job| succeed(database("pgbench").args(["--no-vacuum", "--client=4", "--transactions=100"]));
    Job { name: "postgresql", work: "pgbench: 400 transactions of 4 clients", run, whose }
}

/// A client of the database, on the host, as its administrator.
fn database(program: &str) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(format!("/usr/lib/postgresql/17/bin/{program}"));
    command.env("PGHOST", "/run/postgresql").current_dir("/");
    command
}

/// A shell starts small programs by the hundred, each of which reads files and writes one, as builds do.
fn build() -> Job {
    let script = format!(
        "cd {BUILD}\n\
         for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6 7 8 9 10; do\n\
         sed -e s/NAME/$i$j/ template > $i.$j.c\n\
         grep -q $i$j $i.$j.c\n\
         sort $i.$j.c > $i.$j.s\n\
         cat $i.$j.s >> all\n\
         done; done\n\
         rm -f *.c *.s all\n"
    );
    fs::create_dir_all(BUILD).expect("a directory");
    fs::write(format!("{BUILD}/template"), "int NAME(void) { return 0; }\n".repeat(40)).expect("a template");
    fs::write(format!("{BUILD}/build.sh"), script).expect("a script");
    let cgroup = Cgroup::create("build");
    let policy = ["dash", "sed", "grep", "sort", "cat", "rm"]
        .iter()
        .fold(programs("build", &cgroup), |policy, program| {
            policy.allow("exec.allow", &format!("/usr/bin/{program}"))
        })
        .allow("file.read", &format!("{BUILD}{{,/**}}"))
        .allow("file.create", &format!("{BUILD}/**"));
    let run = |job: &Job| succeed(job.command("/usr/bin/dash").arg(format!("{BUILD}/build.sh")));
    let whose = Whose::Own { cgroup, policy };
    Job { name: "build", work: "a shell script: 401 programs, 800 files", run, whose }
}

fn files() -> Job {
    const EACH: usize = 200;
    for directory in 0..FILES / EACH {
        let directory = format!("{TREE}/{directory:03}");
        fs::create_dir_all(&directory).expect("a directory");
        for file in 0..EACH {
            fs::write(format!("{directory}/{file:03}.txt"), [b'x'; 512]).expect("a file");
        }
    }
    let cgroup = Cgroup::create("files");
    let policy = ["find", "cat"]
        .iter()
        .fold(programs("files", &cgroup), |policy, program| {
            policy.allow("exec.allow", &format!("/usr/bin/{program}"))
        })
        .allow("file.read", &format!("{TREE}{{,/**}}"));
    let run = |job: &Job| {
        succeed(job.command("/usr/bin/find").args([TREE, "-type", "f", "-exec", "cat", "{}", "+"]));
    };
    let whose = Whose::Own { cgroup, policy };
    Job { name: "files", work: "find and cat over 50,000 files", run, whose }
}

/// What every program of Debian's reads.
fn programs(name: &str, cgroup: &Cgroup) -> Policy {
    [
        ("memory.libraries", "/usr/lib/x86_64-linux-gnu/**"),
        ("file.read", "/etc/{ld.so.cache,locale.alias,localtime}"),
        ("file.read", "/usr/lib/locale/**"),
        ("file.read", "/usr/share/locale/**"),
        ("file.read", "/usr/lib/x86_64-linux-gnu/**"),
        ("file.read", "/proc/{filesystems,meminfo}"),
        ("file.read", "/proc/self/**"),
        ("file.read", "/sys/devices/system/cpu/**"),
        ("file.write", "/dev/null"),
        ("file.read", "/dev/null"),
    ]
    .iter()
    .fold(Policy::of(name, cgroup), |policy, (key, value)| policy.allow(key, value))
}

fn succeed(command: &mut Command) {
    // Output goes nowhere: a pipe would have its reader counted.
    let output: Output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().expect("starting it");
    assert!(output.status.success(), "{command:?}: {}", shown(&output));
}
