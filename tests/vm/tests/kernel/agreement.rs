//! The kernel and `enforcer explain` say the same about thousands of random requests.

use std::fs;

use enforcer::bundle::verify::{Candidate, PolicySource};
use enforcer_vm_tests::actor::{self, Op, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, asked, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::random::Random;
use enforcer_vm_tests::report::Report;

/// Rounds on 6.12, and elsewhere; `ENFORCER_VM_ROUNDS` says otherwise. Each takes an emulated processor half a minute.
const ROUNDS: [usize; 2] = [3, 1];
const REQUESTS: usize = 750;

/// Names that are easily taken for each other.
const NAMES: &[&str] = &[
    "a",
    "b",
    "ab",
    "abc",
    "aa",
    "A",
    "a b",
    " a",
    "a ",
    "é",
    "e\u{301}",
    "日本",
    "x.conf",
    "x.log",
    ".x",
    "..x",
    "x..",
    "-",
    "lib.so",
    "lib.so.1",
    "a\tb",
    "a'b",
    "a\"b",
    "ünïcödé",
    "~",
    "#a",
    "a=b",
    "a,b",
];

/// A random path in the tree, mostly short, sometimes as long as one can be.
fn path(random: &mut Random, root: &str) -> String {
    let mut path = root.to_owned();
    let long = random.chance(3);
    let depth = if long { usize::MAX } else { 1 + random.below(6) };
    for _ in 0..depth {
        let name = if long || random.chance(2) {
            "n".repeat(1 + random.below(255))
        } else {
            (*random.pick(NAMES)).to_owned()
        };
        // What a system call takes is 4095 bytes and a NUL.
        if path.len() + 1 + name.len() > 4095 {
            break;
        }
        path.push('/');
        path.push_str(&name);
    }
    path
}

/// A pattern made from a path that is there, so that matches and near misses are common.
fn pattern(random: &mut Random, root: &str, paths: &[String]) -> String {
    let path = random.pick(paths).strip_prefix(root).expect("all paths lie in the tree");
    let mut pattern = root.to_owned();
    let components: Vec<&str> = path.split('/').skip(1).collect();
    for (index, name) in components.iter().enumerate() {
        let last = index + 1 == components.len();
        let first = name.chars().next().unwrap_or('x');
        // The first component as it is: a pattern over the whole tree would leave little to be refused.
        let piece = match if index == 0 { usize::MAX } else { random.below(9) } {
            0 => "*".to_owned(),
            1 => "**".to_owned(),
            2 => format!("{first}*"),
            3 if name.len() < 16 => "?".repeat(name.len()),
            4 if name.is_ascii() && !name.contains(',') && name.len() < 16 => format!("{{{name},ab,b*}}"),
            5 if first.is_ascii_alphabetic() => format!("[{first}-{first}b]*"),
            _ => (*name).to_owned(),
        };
        pattern.push('/');
        pattern.push_str(&piece);
        if piece == "**" && (last || random.chance(50)) {
            break;
        }
    }
    pattern
}

/// What is asked of the kernel, and of `explain`.
#[derive(Clone, Copy)]
enum Right {
    Read,
    Write,
    Create,
    Exec,
    Library,
}

impl Right {
    const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Create, Self::Exec, Self::Library];

    const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Exec => "exec",
            Self::Library => "library",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Read => "file.read",
            Self::Write => "file.write",
            Self::Create => "file.create",
            Self::Exec => "exec.allow",
            Self::Library => "memory.libraries",
        }
    }

    fn op(self, path: &str) -> Op {
        let name = match self {
            Self::Read => "open-read",
            Self::Write => "open-write",
            Self::Create => "open-create",
            Self::Exec => "exec",
            Self::Library => "mmap-exec",
        };
        op(&[name, path])
    }

    /// What the kernel said. The file is no program, so starting it comes to nothing after it was allowed.
    fn verdict(self, report: &Report) -> Option<bool> {
        match self {
            Self::Exec if report.errno == libc::ENOEXEC => Some(true),
            _ if report.ok => Some(true),
            _ if report.errno == libc::EPERM => Some(false),
            _ => None,
        }
    }
}

#[test]
fn the_kernel_decides_like_explain() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("agreement");
    let root = format!("{SCRATCH}/agreement");
    let mut random = Random::seeded();
    let (mut allowed, mut denied) = (0, 0);
    for round in 0..asked("ENFORCER_VM_ROUNDS", ROUNDS[0], ROUNDS[1]) {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let (paths, requests) = requests(&mut random, &root);
        if baseline_only() {
            let ops: Vec<Op> = requests.iter().map(|(right, path)| right.op(path)).collect();
            for (report, (right, _)) in
                actor::run(Place::Joining(&cgroup), &ops).unwrap().iter().zip(&requests)
            {
                assert_eq!(right.verdict(report), Some(true), "without a policy: {report:?}");
            }
            continue;
        }
        let policy = policy(&mut random, &cgroup, &root, &paths);
        enforcer.apply(&[&policy]);
        let ops: Vec<Op> = requests.iter().map(|(right, path)| right.op(path)).collect();
        let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
        let questions: Vec<String> =
            requests.iter().map(|(right, path)| format!("{} {path}", right.name())).collect();
        let answers = enforcer.explain(&policy, &questions);
        let mut different = Vec::new();
        for (((right, _), report), (answer, line)) in requests.iter().zip(&reports).zip(&answers) {
            let verdict = right.verdict(report);
            if verdict != Some(*answer) {
                different
                    .push(format!("{:?}: kernel {verdict:?} ({report:?}), explain {line:?}", right.op("")));
            }
            if *answer { allowed += 1 } else { denied += 1 }
        }
        assert!(
            different.is_empty(),
            "round {round}: {} differ, of {}\n{}\n{}",
            different.len(),
            requests.len(),
            different.iter().take(20).cloned().collect::<Vec<_>>().join("\n"),
            policy.to_toml()
        );
    }
    let _ = fs::remove_dir_all(&root);
    if !baseline_only() {
        enforcer.barrier();
        println!("{allowed} allowed, {denied} denied, all as explained");
        assert!(allowed > REQUESTS / 40 && denied > REQUESTS / 40, "the requests were too much alike");
    }
}

/// Random files, and requests for them. Files that shall be created are left out on disk.
fn requests(random: &mut Random, root: &str) -> (Vec<String>, Vec<(Right, String)>) {
    let mut paths = Vec::new();
    let mut requests = Vec::new();
    while requests.len() < REQUESTS {
        let path = path(random, root);
        let right = *random.pick(&Right::ALL);
        let (parent, _) = path.rsplit_once('/').expect("paths are absolute");
        // A name may already be a file where this one needs a directory, or the other way round.
        let made = fs::create_dir_all(parent).is_ok()
            && match right {
                Right::Create => !fs::exists(&path).unwrap_or(true),
                _ => fs::metadata(&path)
                    .map_or_else(|_| fs::write(&path, vec![0; 64]).is_ok(), |m| m.is_file()),
            };
        if !made || requests.iter().any(|(other, known)| matches!(other, Right::Create) && *known == path) {
            continue;
        }
        if matches!(right, Right::Exec) {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        paths.push(path.clone());
        requests.push((right, path));
    }
    // A later request may have needed the name of a file that an earlier one is to create.
    requests.retain(|(right, path)| matches!(right, Right::Create) != fs::exists(path).unwrap_or(false));
    (paths, requests)
}

/// Cells of the largest automaton to try. The arena has two million, and room for two generations is needed.
const MOST_CELLS: usize = 750_000;

/// Exact rules for some of the paths, patterns for others, and a few for nothing.
fn policy(random: &mut Random, cgroup: &Cgroup, root: &str, paths: &[String]) -> Policy {
    let mut names = Policy::of("agreement", cgroup);
    for _ in 0..150 {
        names = names.allow(random.pick(&Right::ALL).key(), random.pick::<String>(paths));
    }
    for _ in 0..50 {
        names = names.allow(random.pick(&Right::ALL).key(), &path(random, root));
    }
    // A few patterns can multiply the states of all the others. A set that does not fit is not tried.
    loop {
        let mut policy = names.clone();
        for _ in 0..60 {
            policy = policy.allow(random.pick(&Right::ALL).key(), &pattern(random, root, paths));
        }
        if cells(&policy) <= MOST_CELLS {
            return policy;
        }
    }
}

/// How many cells the patterns take.
fn cells(policy: &Policy) -> usize {
    let source = PolicySource { origin: "agreement.toml".into(), bytes: policy.to_toml().into_bytes() };
    let candidate = Candidate::compile(source).unwrap();
    let automaton = candidate.compiled().image.automaton.as_ref();
    automaton.map_or(0, |automaton| automaton.transitions.len() + automaton.accepts.len())
}
