//! Opening and changing files.

use enforcer_common::hook::Hook::{
    FileOpen, FileReceive, InodeRemovexattr, InodeSetxattr, PathChmod, PathChown, PathLink, PathMkdir,
    PathMknod, PathRename, PathRmdir, PathSymlink, PathTruncate, PathUnlink,
};
use enforcer_common::verdict::Family::{File, Privilege};
use enforcer_common::verdict::Reason::{self, NoRule};
use enforcer_vm_tests::scenario::{Case, Table, case};

/// An open of an existing file: refused by `file_open`.
fn open(attack: &'static str, operation: &str, key: &'static str, right: &'static str) -> Case {
    case(attack, &[operation, "{dir}/secret"])
        .file("{dir}/secret")
        .allowed_by(key, "{dir}/secret")
        .refused(FileOpen, File, NoRule)
        .needing(right)
        .about("{dir}/secret")
}

#[test]
fn opening_an_unlisted_file() {
    Table::new(
        "opens",
        vec![
            open("read a secret", "open-read", "file.read", "read"),
            open("read a secret with openat2", "openat2", "file.read", "read"),
            case("read a secret by file handle", &["open-by-handle", "{dir}", "{dir}/secret"])
                .file("{dir}/secret")
                .given("file.read", "{dir}")
                .allowed_by("file.read", "{dir}/secret")
                .refused(FileOpen, File, NoRule)
                .needing("read")
                .about("{dir}/secret"),
            open("overwrite a file", "open-write", "file.write", "write"),
            open("append to a file", "open-append", "file.write", "write"),
            open("empty a file by open", "open-truncate", "file.write", "write"),
            open("empty a file by a read-only open", "open-read-truncate", "file.write", "write")
                .given("file.read", "{dir}/secret"),
            open("update a file", "open-rdwr", "file.write", "write").given("file.read", "{dir}/secret"),
            open("write what may only be read", "open-write", "file.write", "write")
                .given("file.read", "{dir}/secret"),
            open("read what may only be written", "open-read", "file.read", "read")
                .given("file.write", "{dir}/secret"),
            open("O_CREAT on a file that is there", "open-create-any", "file.write", "write"),
            case("list a directory", &["open-directory", "{dir}/private"])
                .directory("{dir}/private")
                .allowed_by("file.read", "{dir}/private")
                .refused(FileOpen, File, NoRule)
                .needing("read")
                .about("{dir}/private"),
            case("drop a file", &["open-create", "{dir}/dropped"])
                .allowed_by("file.create", "{dir}/dropped")
                .refused(PathMknod, File, NoRule)
                .needing("create")
                .about("{dir}/dropped"),
            case("drop a file where writing is allowed", &["open-create", "{dir}/log"])
                .given("file.write", "{dir}/log")
                .allowed_by("file.create", "{dir}/log")
                .refused(PathMknod, File, NoRule)
                .needing("create")
                .about("{dir}/log"),
            case("a file without a name (O_TMPFILE)", &["open-tmpfile", "{dir}/spool"])
                .directory("{dir}/spool")
                .given("file.read", "{dir}/spool/*")
                .allowed_by("file.create", "{dir}/spool/*")
                .refused(FileOpen, File, NoRule)
                .needing("create")
                .about("{dir}/spool/"),
            case("a neighbour whose name begins alike", &["open-read", "{dir}/public-evil"])
                .file("{dir}/public-evil")
                .given("file.read", "{dir}/public")
                .given("file.read", "{dir}/public/**")
                .allowed_by("file.read", "{dir}/public-evil")
                .refused(FileOpen, File, NoRule)
                .needing("read")
                .about("{dir}/public-evil"),
        ],
    )
    .check();
}

#[test]
fn changing_an_unlisted_object() {
    let readable = |attack, operation: &'static str| {
        case(attack, &[operation, "{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .needing("write")
            .about("{dir}/victim")
    };
    Table::new(
        "changes",
        vec![
            readable("truncate a readable file", "truncate").refused(PathTruncate, File, NoRule),
            readable("delete a readable file", "unlink").refused(PathUnlink, File, NoRule),
            readable("make it executable", "chmod").refused(PathChmod, File, NoRule),
            readable("give it away", "chown").refused(PathChown, File, NoRule),
            case("remove a directory", &["rmdir", "{dir}/victim"])
                .directory("{dir}/victim")
                .allowed_by("file.write", "{dir}/victim")
                .refused(PathRmdir, File, NoRule)
                .needing("write")
                .about("{dir}/victim"),
            case("move a file away", &["rename", "{dir}/victim", "{dir}/mine"])
                .file("{dir}/victim")
                .given("file.read", "{dir}/victim")
                .given("file.create", "{dir}/mine")
                .allowed_by("file.write", "{dir}/victim")
                .refused(PathRename, File, NoRule)
                .needing("write")
                .about("{dir}/victim"),
            case("rename over a listed program", &["rename", "{dir}/evil", "{dir}/app"])
                .program("{dir}/evil")
                .program("{dir}/app")
                .given("exec.allow", "{dir}/app")
                .given("file.read", "{dir}/evil")
                .given("file.create", "{dir}/evil")
                .allowed_by("file.create", "{dir}/app")
                .refused(PathRename, File, NoRule)
                .needing("create")
                .about("{dir}/app"),
            case("exchange with a listed program", &["exchange", "{dir}/evil", "{dir}/app"])
                .program("{dir}/evil")
                .program("{dir}/app")
                .given("exec.allow", "{dir}/app")
                .given("file.read", "{dir}/evil")
                .given("file.create", "{dir}/evil")
                .allowed_by("file.create", "{dir}/app")
                .refused(PathRename, File, NoRule)
                .about("{dir}/app"),
            case("rename a secret to a readable name", &["rename", "{dir}/secret", "{dir}/readable"])
                .file("{dir}/secret")
                .given("file.write", "{dir}/secret")
                .given("file.read", "{dir}/readable")
                .given("file.create", "{dir}/readable")
                .allowed_by("file.read", "{dir}/secret")
                .refused(PathRename, File, NoRule)
                .needing("read")
                .about("{dir}/secret"),
            case("rename a directory, and all below it", &["rename", "{dir}/private", "{dir}/public"])
                .directory("{dir}/private")
                .given("file.read", "{dir}/private")
                .given("file.create", "{dir}/private")
                .given("file.create", "{dir}/public")
                .allowed_by("privileges.allow", "rename-directory")
                .refused(PathRename, Privilege, Reason::Privilege)
                .about("rename-directory"),
            case("hard link to a secret under a readable name", &["link", "{dir}/secret", "{dir}/readable"])
                .file("{dir}/secret")
                .given("file.read", "{dir}/readable")
                .given("file.create", "{dir}/readable")
                .allowed_by("file.read", "{dir}/secret")
                .allowed_by("file.write", "{dir}/secret")
                .refused(PathLink, File, NoRule)
                .about("{dir}/secret"),
            case("hard link under a listed program's name", &["link", "{dir}/evil", "{dir}/app"])
                .program("{dir}/evil")
                .given("exec.allow", "{dir}/app")
                .given("file.read", "{dir}/evil")
                .given("file.write", "{dir}/evil")
                .allowed_by("file.create", "{dir}/app")
                .refused(PathLink, File, NoRule)
                .needing("create")
                .about("{dir}/app"),
            case("plant a symbolic link", &["symlink", "/etc/shadow", "{dir}/link"])
                .allowed_by("file.create", "{dir}/link")
                .refused(PathSymlink, File, NoRule)
                .needing("create")
                .about("{dir}/link"),
            case("plant a fifo", &["mkfifo", "{dir}/fifo"])
                .allowed_by("file.create", "{dir}/fifo")
                .refused(PathMknod, File, NoRule)
                .needing("create")
                .about("{dir}/fifo"),
            case("make a directory", &["mkdir", "{dir}/new"])
                .allowed_by("file.create", "{dir}/new")
                .refused(PathMkdir, File, NoRule)
                .needing("create")
                .about("{dir}/new"),
            case("make a device node", &["mknod-device", "{dir}/null"])
                .given("file.create", "{dir}/null")
                .allowed_by("privileges.allow", "make-device")
                .refused(PathMknod, Privilege, Reason::Privilege)
                .about("make-device"),
            case("label a file", &["setxattr", "{dir}/victim"])
                .file("{dir}/victim")
                .allowed_by("file.write", "{dir}/victim")
                .refused(InodeSetxattr, File, NoRule)
                .needing("write")
                .about("{dir}/victim")
                .optional(),
        ],
    )
    .check();
}

#[test]
fn removing_an_extended_attribute() {
    use enforcer_vm_tests::actor::{Place, op, run};
    use enforcer_vm_tests::cgroup::Cgroup;
    use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
    use enforcer_vm_tests::policy::Policy;

    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("removexattr");
    let file = format!("{SCRATCH}/removexattr");
    std::fs::write(&file, "").unwrap();
    let label = op(&["setxattr", &file]);
    let attack = op(&["removexattr", &file]);
    let bare = run(Place::Joining(&cgroup), &[label.clone(), attack.clone()]).unwrap();
    if !bare[0].ok {
        println!("skipped: no extended attributes here: {bare:?}");
        return;
    }
    assert!(bare[1].ok, "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    run(Place::Host, &[label]).unwrap();
    enforcer.apply(&[&Policy::of("removexattr", &cgroup).allow("file.read", &file)]);
    let mark = enforcer.mark();
    let reports = run(Place::Joining(&cgroup), std::slice::from_ref(&attack)).unwrap();
    let events = enforcer.events_since(mark);
    assert!(reports[0].refused(), "{reports:?}");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].text("hook"), InodeRemovexattr.name());
    enforcer.apply(&[&Policy::of("removexattr", &cgroup).allow("file.write", &file)]);
    let reports = run(Place::Joining(&cgroup), &[attack]).unwrap();
    assert!(reports[0].ok, "{reports:?}");
}

/// A helper outside opens the secret and passes the descriptor in.
#[test]
fn receiving_a_secret_over_a_unix_socket() {
    let socket = "@giver";
    let file = std::path::Path::new("/tmp/passed-secret");
    std::fs::write(file, "passed").unwrap();
    enforcer_vm_tests::servers::descriptor_giver(socket, file);
    Table::new(
        "received",
        vec![
            case("SCM_RIGHTS", &["receive-fd", socket])
                .given("network.connect", "unix @giver")
                .allowed_by("file.read", "/tmp/passed-secret")
                .refused(FileReceive, File, NoRule)
                .needing("read")
                .about("/tmp/passed-secret"),
        ],
    )
    .check();
}
