//! What systemd opens for a service: its standard streams, and its sockets.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;

use enforcer_common::hook::Hook;
use enforcer_vm_tests::actor::program;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::units::{self, Running, UnitFile};

const FILES: &str = "streams-of-files.service";
const ACTIVATED: &str = "activated.service";
const SOCKET: &str = "activated.socket";
const INPUT: &str = "/var/tmp/streams-input";
const OUTPUT: &str = "/var/log/streams-output";

fn actor_policy(name: &str, unit: &str) -> Policy {
    Policy::selecting(name, "unit", unit)
}

/// The service gets a mount namespace of its own after its files were opened.
#[test]
fn files_as_standard_streams_are_named_in_the_policy() {
    let mut enforcer = Enforcer::ready();
    fs::write(INPUT, "[\"read\", \"/dev/null\"]\n").unwrap();
    let _ = fs::remove_file(OUTPUT);
    let text = format!(
        "[Service]\nType=oneshot\nExecStart={} script\nStandardInput=file:{INPUT}\nStandardOutput=append:{OUTPUT}\n\
         PrivateTmp=yes\nProtectSystem=yes\n",
        program()
    );
    let _unit = UnitFile::unit(FILES, &text);
    let ran = || fs::read_to_string(OUTPUT).unwrap_or_default().lines().count();
    drop(Running::start(FILES));
    assert_eq!(ran(), 1, "without a policy");
    if baseline_only() {
        return;
    }
    let policy = actor_policy("streams", FILES).allow("file.read", "/dev/null");
    enforcer.apply(&[&policy]);
    for missing in [("read", INPUT), ("write", OUTPUT)] {
        let mark = enforcer.mark();
        let other = if missing.1 == INPUT { ("file.write", OUTPUT) } else { ("file.read", INPUT) };
        enforcer.apply(&[&policy.clone().allow(other.0, other.1)]);
        assert!(!units::systemctl(&["start", FILES]).status.success(), "{missing:?} is missing");
        let _ = units::systemctl(&["reset-failed", FILES]);
        let events = enforcer.events_since(mark);
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!(events[0].text("hook"), Hook::BprmCredsFromFile.name(), "{}", events[0]);
        assert_eq!((events[0].needed(), events[0].object("path")), (vec![missing.0], missing.1));
        assert_eq!(ran(), 1, "nothing ran");
    }
    enforcer.apply(&[&policy.allow("file.read", INPUT).allow("file.write", OUTPUT)]);
    let mark = enforcer.mark();
    drop(Running::start(FILES));
    assert_eq!(ran(), 2);
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "{events:#?}");
}

#[test]
fn sockets_that_systemd_opened_are_handed_over() {
    let mut enforcer = Enforcer::ready();
    fs::create_dir_all(SCRATCH).unwrap();
    let path = format!("{SCRATCH}/activated");
    // The connection is standard input and output of the service: it answers what it is asked.
    let socket = format!("[Socket]\nListenStream={path}\nAccept=yes\n");
    let service = format!("[Service]\nExecStart={} read /dev/null\nStandardInput=socket\n", program());
    let _socket = UnitFile::unit(SOCKET, &socket);
    let _service = UnitFile::unit("activated@.service", &service);
    let _running = Running::start(SOCKET);
    let answer = || {
        let mut text = String::new();
        let mut stream = UnixStream::connect(Path::new(&path)).unwrap();
        let _ = stream.read_to_string(&mut text);
        text
    };
    assert!(answer().contains("\"ok\":true"), "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&actor_policy("activated", "activated@*.service").allow("file.read", "/dev/null")]);
    let mark = enforcer.mark();
    let said = answer();
    let events = enforcer.events_since(mark);
    assert!(said.contains("\"ok\":true"), "{said}\n{}\n{events:#?}", units::state(ACTIVATED));
    assert!(events.is_empty(), "{events:#?}");
}
