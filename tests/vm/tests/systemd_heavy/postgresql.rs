//! PostgreSQL 17 from Debian under `policy-examples/postgresql.toml`, with the unit's override that is told there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use enforcer_common::verdict::Family;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only, shown};
use enforcer_vm_tests::service::{assert_no_denials, assert_refused, policy_file};
use enforcer_vm_tests::units::{self, Running, UnitFile};

const UNIT: &str = "postgresql@17-main.service";
const PROGRAMS: &str = "/usr/lib/postgresql/17/bin";
const POLICY: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/postgresql.toml"));
const CLIENTS: usize = 4;
const ROWS: usize = 500;

/// As the policy's comment tells.
const DROP_IN: &str = "\
[Service]
Type=notify
User=postgres
ExecStart=
ExecStart=/usr/lib/postgresql/17/bin/postgres -D /var/lib/postgresql/17/main -c config_file=/etc/postgresql/17/main/postgresql.conf -c jit=off
ExecStop=
ExecReload=
ExecReload=+/usr/bin/kill -HUP $MAINPID
";

/// A client command on the host, as the database's administrator, through the server's socket.
fn client(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(format!("{PROGRAMS}/{program}"));
    command.args(arguments).env("PGHOST", "/run/postgresql").current_dir("/").stdin(Stdio::null());
    command
}

fn psql(sql: &str) -> Output {
    client("psql", &["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().unwrap()
}

fn ask(sql: &str) -> String {
    let output = psql(sql);
    assert!(output.status.success(), "{sql}: {}", shown(&output));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// Fills a table, also by several clients at a time, cleans it up, and finds it again after a restart.
fn use_for_real() {
    ask("CREATE TABLE orders (id serial PRIMARY KEY, client int NOT NULL, text text)");
    ask(&format!(
        "INSERT INTO orders (client, text) SELECT -1, 'row ' || i FROM generate_series(1, {ROWS}) i"
    ));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let sql = format!(
                "INSERT INTO orders (client, text) SELECT {client}, repeat('x', 3000) FROM generate_series(1, 50); \
                 SELECT count(*) FROM orders WHERE client = {client}"
            );
            std::thread::spawn(move || ask(&sql))
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), "50");
    }
    ask("DELETE FROM orders WHERE id % 2 = 0");
    ask("VACUUM ANALYZE orders");
    // A new segment of the write-ahead log, and everything written out.
    ask("SELECT pg_switch_wal()");
    ask("CREATE INDEX ON orders (client); CHECKPOINT");
    let sum = ask("SELECT count(*), sum(id) FROM orders");
    units::tell("reload", UNIT);
    units::tell("restart", UNIT);
    assert_eq!(ask("SELECT count(*), sum(id) FROM orders"), sum);
    ask("DROP TABLE orders");
}

#[test]
fn postgresql_does_its_work_and_starts_and_reads_nothing_else() {
    let mut enforcer = Enforcer::ready();
    let _drop_in = UnitFile::drop_in(UNIT, DROP_IN);
    let secret = "/srv/secret";
    fs::write(secret, "the crown jewels\n").unwrap();
    fs::set_permissions(secret, fs::Permissions::from_mode(0o644)).unwrap();
    let steal =
        format!("CREATE TEMPORARY TABLE loot (text text); COPY loot FROM '{secret}'; SELECT * FROM loot");
    let run = "COPY (SELECT 1) TO PROGRAM 'cat > /var/lib/postgresql/17/was-here'";
    let marker = "/var/lib/postgresql/17/was-here";
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let _postgresql = Running::start(UNIT);
    assert_eq!(ask(&steal), "the crown jewels", "without a policy a superuser reads files");
    ask(run);
    fs::remove_file(marker).expect("without a policy a superuser runs programs");
    if baseline_only() {
        return;
    }
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy_file("postgresql", POLICY)]);
    units::tell("restart", UNIT);
    use_for_real();
    assert_no_denials(&mut enforcer, mark, "of PostgreSQL");

    for (sql, refusal) in [(steal.as_str(), (Family::File, secret)), (run, (Family::Exec, "/usr/bin/dash"))] {
        let mark = enforcer.mark();
        let output = psql(sql);
        assert!(!output.status.success(), "{sql}: {}", shown(&output));
        assert_refused(&mut enforcer, mark, UNIT, &[refusal]);
    }
    assert!(!fs::exists(marker).unwrap(), "a program ran");
    assert_eq!(ask("SELECT 6 * 7"), "42");
}
