//! Every policy in `policy-examples/` compiles without a warning, allows what its comment says, and little else.

use std::{collections::BTreeSet, path::Path};

use enforcer::policy::{
    compile::compile,
    diagnostics::Style,
    lookup::ImageTables,
    model::Policy,
    parse::parse,
    question::Question,
    selectors::{Claim, compile_selectors},
    source::Source,
};
use enforcer_common::{
    abi::SLOT_FIRST_POLICY,
    decide::{Bytes, granted},
    rights::Rights,
    verdict::{Family, Mode},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy-examples");

fn policy(file: &str) -> Policy {
    let path = Path::new(FOLDER).join(file);
    let source = Source::new(file, std::fs::read(&path).expect(file)).expect("text");
    let parsed = parse(&source);
    assert!(parsed.diagnostics.is_empty(), "{}", parsed.diagnostics.render(&source, Style::Plain));
    assert!(source.text().starts_with("# "), "{file} does not start with its intent");
    parsed.policy.expect("no errors")
}

fn files() -> BTreeSet<String> {
    let entries = std::fs::read_dir(FOLDER).expect("folder").map(|entry| entry.expect("entry").file_name());
    entries.map(|name| name.into_string().expect("text")).filter(|name| name.ends_with(".toml")).collect()
}

/// Requests that a policy must allow, and ones that it must refuse.
struct Case {
    file: &'static str,
    allowed: &'static [&'static str],
    refused: &'static [&'static str],
}

/// What no example but one that says so may allow.
const NEVER: &[&str] = &[
    "exec /usr/bin/bash",
    "exec /usr/bin/curl",
    "exec /tmp/x",
    "library /tmp/x.so",
    "unlinked exec",
    "unlinked library",
    "read /root/.ssh/id_ed25519",
    "write /etc/passwd",
    "write /etc/ld.so.preload",
    "create /etc/cron.d/x",
    "create /tmp/x",
    "write /usr/lib/x86_64-linux-gnu/libc.so.6",
    "connect tcp 203.0.113.7:443",
    "connect tcp 203.0.113.7:4444",
    "connect udp 203.0.113.7:53",
    "connect other 203.0.113.7:0",
    "connect unix /run/docker.sock",
    "bind tcp 0.0.0.0:4444",
    "privilege mount",
    "privilege ptrace",
    "privilege bpf",
    "privilege kernel-module",
    "privilege user-namespace",
    "privilege keyring",
    "privilege fanotify",
    "socket netlink-audit",
    "socket packet",
    "socket inet raw",
];

const CASES: &[Case] = &[
    Case {
        file: "nginx.toml",
        allowed: &[
            "exec /usr/sbin/nginx",
            "exec /usr/sbin/start-stop-daemon",
            "library /usr/lib/x86_64-linux-gnu/libc.so.6",
            "library /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "library /usr/lib/nginx/modules/ngx_http_geoip2_module.so",
            "read /etc/nginx/nginx.conf",
            "read /etc/nginx/sites-available/default",
            "read /usr/share/nginx/modules-available/mod-http-geoip2.conf",
            "read /var/www/html/index.nginx-debian.html",
            "read /proc/self/status",
            "read /proc/812/stat",
            "write+create /var/log/nginx/access.log",
            "read+write+create /run/nginx.pid",
            "write+create /var/lib/nginx/body",
            "read+write+create /var/lib/nginx/body/0000000001",
            "bind tcp 0.0.0.0:80",
            "bind tcp [::]:80",
            "connect unix /run/systemd/userdb/io.systemd.DynamicUser",
            "socket inet",
            "socket unix",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "write /etc/nginx/nginx.conf",
            "write /var/www/html/index.html",
            "write /usr/sbin/nginx",
            "read /etc/shadow",
            "bind tcp 0.0.0.0:443",
            "connect tcp 127.0.0.1:80",
            "anonymous-exec",
            "write /var/lib/nginx/x",
            "read /proc/812/mem",
            "socket netlink",
        ],
    },
    Case {
        file: "postgresql.toml",
        allowed: &[
            "exec /usr/lib/postgresql/17/bin/postgres",
            "library /usr/lib/postgresql/17/lib/plpgsql.so",
            "read+write+create /var/lib/postgresql/17/main/base/5/2619",
            "read+write+create /var/lib/postgresql/17/main/pg_wal/000000010000000000000001",
            "bind unix /run/postgresql/.s.PGSQL.5432",
            "create /run/postgresql/.s.PGSQL.5432.lock",
            "bind tcp 127.0.0.1:5432",
            "connect unix /run/systemd/notify",
            "write+create /dev/shm/PostgreSQL.123",
            "socket netlink",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "exec /usr/bin/perl",
            "bind tcp 0.0.0.0:5432",
            "write /etc/postgresql/17/main/pg_hba.conf",
            "anonymous-exec",
            "read /etc/shadow",
        ],
    },
    Case {
        file: "sshd.toml",
        allowed: &[
            "exec /usr/sbin/sshd",
            "exec /usr/lib/openssh/sshd-session",
            "read /etc/ssh/sshd_config.d/10-jump.conf",
            "read /etc/shadow",
            "read /home/ann/.ssh/authorized_keys",
            "write /proc/self/loginuid",
            "bind tcp [::]:22",
            "connect tcp 10.1.2.3:22",
            "connect unix /run/systemd/journal/dev-log",
            "privilege chroot",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "read /home/ann/.ssh/id_ed25519",
            "write /home/ann/.ssh/authorized_keys",
            "write /etc/shadow",
            "connect tcp 10.1.2.3:443",
            "anonymous-exec",
        ],
    },
    Case {
        file: "python-web.toml",
        allowed: &[
            "exec /usr/bin/python3.13",
            "library /usr/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so",
            "read /usr/lib/python3.13/http/server.py",
            "read /opt/webapp",
            "read /opt/webapp/webapp.py",
            "bind tcp 0.0.0.0:8080",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "write /opt/webapp/webapp.py",
            "create /opt/webapp/__pycache__",
            "create /opt/webapp/x.py",
            "read /etc/shadow",
            "connect tcp 127.0.0.1:8080",
            "anonymous-exec",
        ],
    },
    Case {
        file: "jvm-app.toml",
        allowed: &[
            "exec /usr/lib/jvm/java-21-openjdk-amd64/bin/java",
            "library /usr/lib/jvm/java-21-openjdk-amd64/lib/server/libjvm.so",
            "library /usr/lib/jvm/java-21-openjdk-amd64/lib/libjli.so",
            "anonymous-exec",
            "read /opt/app/lib/app.jar",
            "read+write+create /tmp/hsperfdata_app/812",
            "create /var/log/app/app.log",
            "connect tcp 10.0.20.7:5432",
            "connect tcp [::ffff:10.0.20.7]:5432",
            "connect udp 10.0.0.53:53",
            "bind tcp [::]:8080",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "exec /usr/lib/jvm/java-21-openjdk-amd64/lib/jspawnhelper",
            "connect tcp 203.0.113.7:1389",
            "connect tcp 10.0.21.7:5432",
            "create /opt/app/lib/evil.jar",
            "read /etc/shadow",
        ],
    },
    Case {
        file: "batch-job.toml",
        allowed: &[
            "exec /usr/local/sbin/backup",
            "exec /usr/bin/dash",
            "exec /usr/lib/postgresql/17/bin/pg_dump",
            "exec /usr/bin/gzip",
            "read+write+create /var/backups/db/2025-01-31.sql.gz.part",
            "write+create /var/backups/db/2025-01-31.sql.gz",
            "read /var/backups/db",
            "connect unix /run/postgresql/.s.PGSQL.5432",
        ],
        refused: &[
            "exec /usr/bin/perl",
            "connect tcp 127.0.0.1:5432",
            "socket inet",
            "create /var/backups/db/x.sh",
            "write /usr/local/sbin/backup",
            "anonymous-exec",
        ],
    },
    Case {
        file: "redis.toml",
        allowed: &[
            "exec /usr/bin/redis-server",
            "exec /usr/bin/redis-check-rdb",
            "library /usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
            "read /etc/redis/redis.conf",
            "read+write+create /var/lib/redis/dump.rdb",
            "write+create /var/lib/redis/temp-rewriteaof-340.aof",
            "write+create /var/lib/redis/appendonlydir",
            "read+write+create /var/lib/redis/appendonlydir/appendonly.aof.1.incr.aof",
            "create /run/redis/redis-server.pid",
            "bind tcp 127.0.0.1:6379",
            "connect unix /run/systemd/notify",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "library /var/lib/redis/module.so",
            "library /usr/lib/redis/modules/redisearch.so",
            "create /var/lib/redis/authorized_keys",
            "create /var/spool/cron/crontabs/root",
            "write /etc/redis/redis.conf",
            "connect tcp 127.0.0.1:6379",
            "bind tcp 0.0.0.0:6379",
            "anonymous-exec",
        ],
    },
    Case {
        file: "node-app.toml",
        allowed: &[
            "exec /usr/bin/node",
            "library /usr/lib/x86_64-linux-gnu/libnode.so.115",
            "library /opt/node-app/node_modules/sharp/build/Release/sharp.node",
            "anonymous-exec",
            "read /opt/node-app/server.js",
            "code+read /opt/node-app/node_modules/x/index.js",
            "read+write+create /var/lib/node-app/notes",
            "bind tcp 127.0.0.1:8081",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "write /opt/node-app/server.js",
            "create /opt/node-app/node_modules/x/index.js",
            "code /var/lib/node-app/notes.js",
            "library /var/lib/node-app/x.node",
            "read /home/ann/.npmrc",
            "connect tcp 127.0.0.1:8081",
            "bind tcp 0.0.0.0:8081",
        ],
    },
    Case {
        file: "python-native.toml",
        allowed: &[
            "exec /usr/bin/python3.13",
            "library /usr/lib/x86_64-linux-gnu/blas/libblas.so.3",
            "library /usr/lib/python3/dist-packages/numpy/_core/_multiarray_umath.cpython-313-x86_64-linux-gnu.so",
            "library /usr/lib/python3.13/lib-dynload/_sqlite3.cpython-313-x86_64-linux-gnu.so",
            "read+write+create /var/lib/forecast/forecast.db",
            "write+create /var/lib/forecast/forecast.db-journal",
            "read /etc/ssl/certs/ca-certificates.crt",
            "bind tcp 127.0.0.1:8082",
        ],
        refused: &[
            "exec /usr/bin/dash",
            "library /var/lib/forecast/x.so",
            "library /usr/lib/python3/dist-packages/x.py",
            "create /var/lib/forecast/x.so",
            "create /opt/forecast/x.py",
            "code /var/lib/forecast/x.py",
            "connect tcp 127.0.0.1:8082",
            "anonymous-exec",
        ],
    },
    Case {
        file: "apt-get.toml",
        allowed: &[
            "exec /usr/bin/apt-get",
            "exec /usr/bin/dpkg",
            "exec /usr/bin/dash",
            "exec /var/lib/dpkg/tmp.ci/preinst",
            "exec /var/lib/dpkg/info/report.postinst",
            "read /srv/repository/report.deb",
            "read+write+create /var/lib/dpkg/status",
            "write+create /opt/report/bin/report.dpkg-new",
            "create /usr/share/doc/report/copyright.dpkg-new",
            "privilege rename-directory",
        ],
        refused: &[
            "exec /usr/bin/busybox",
            "exec /usr/bin/python3.13",
            "exec /opt/report/bin/report",
            "create /usr/bin/implant.dpkg-new",
            "create /etc/systemd/system/implant.service.dpkg-new",
            "write /etc/apt/sources.list",
            "write /srv/repository/Packages",
            "connect unix /run/dbus/system_bus_socket",
            "socket inet",
            "read /etc/shadow",
            "anonymous-exec",
        ],
    },
];

#[test]
fn every_example_has_a_case() {
    assert_eq!(files(), CASES.iter().map(|case| case.file.to_owned()).collect());
}

#[test]
fn examples_decide_as_they_say() {
    for case in CASES {
        let tables = ImageTables::new(&compile(&policy(case.file)).expect("fits"));
        let verdict = |line: &str| {
            let question = Question::from_line(line.as_bytes()).expect(line);
            question.with_request(|request| tables.decide(request)).verdict.name()
        };
        for line in case.allowed {
            assert_eq!(verdict(line), "allow", "{}: {line}", case.file);
        }
        for line in case.refused.iter().chain(NEVER) {
            assert_eq!(verdict(line), "deny", "{}: {line}", case.file);
        }
    }
}

#[test]
fn only_the_batch_job_starts_out_in_audit() {
    for case in CASES {
        let modes = policy(case.file).modes;
        let audited: Vec<Family> =
            Family::ALL.iter().copied().filter(|family| modes.of(*family) == Mode::Audit).collect();
        let expected = if case.file == "batch-job.toml" { vec![Family::File] } else { Vec::new() };
        assert_eq!(audited, expected, "{}", case.file);
    }
}

/// All examples can be installed side by side, and each binds its own unit.
#[test]
fn examples_live_together() {
    let policies: Vec<Policy> = CASES.iter().map(|case| policy(case.file)).collect();
    let claims: Vec<Claim<'_>> = (SLOT_FIRST_POLICY..)
        .zip(&policies)
        .map(|(slot, policy)| Claim { selector: &policy.selector, slot, policy: policy.name.as_str() })
        .collect();
    let tables = ImageTables::new(&compile_selectors(&claims).expect("no ties"));
    let cgroups = [
        "/system.slice/nginx.service",
        "/system.slice/system-postgresql.slice/postgresql@17-main.service",
        "/system.slice/ssh.service",
        "/system.slice/webapp.service",
        "/system.slice/app.service",
        "/system.slice/backup.service",
        "/system.slice/redis-server.service",
        "/system.slice/node-app.service",
        "/system.slice/forecast.service",
        "/system.slice/system-install.slice/install@report.service",
    ];
    for (slot, cgroup) in (SLOT_FIRST_POLICY..).zip(cgroups) {
        let grant =
            granted(&Bytes(cgroup.as_bytes()), Rights::EXEC, tables.head(), &tables).expect("no fault");
        assert_eq!((grant.rights(), grant.rule), (Rights::EXEC, slot), "{cgroup}");
    }
}
