//! Who asks: the label of a task, how it comes about and how it is passed on.
//!
//! A task has no label until it meets a hook. Then it adopts one from its cgroup: the policy of the nearest bound
//! ancestor, or `Host`. From there on the label sticks: `task_alloc` copies it to children and threads, and leaving
//! the cgroup changes nothing, because a cgroup id is escapable (`O_PATH` and `CLONE_INTO_CGROUP` leave without any
//! open).
//!
//! A launcher that the host started is known as one from its start on, and so are its children until they start something
//! else: container runtimes leave the host's mount namespace, or run a nameless copy of themselves, before they join the
//! container's cgroup. A host label is looked up again whenever a binding or an attach could have changed the answer.

use enforcer_common::{
    abi::{
        AllowedAddress, Binding, Content, Counter, Head, Label, Origin, SLOT_LAUNCHERS, Slot, State, program,
    },
    decide,
    field::Field,
    rights::Rights,
    verdict::Fault,
};

use crate::{
    cache,
    control::{About, PASS, Point, refused_blindly},
    kernel::{self, Raw, Typed},
    maps::{ATTACHES, BINDINGS, CONTROL, KEPT, LABELS},
    name::{self, Place, Pointer, Scratch},
    own,
    tables::{Maps, count},
};

/// `PF_KTHREAD`.
const PF_KTHREAD: u32 = 0x0020_0000;
/// Deepest cgroup whose ancestors are searched for a binding. Deeper ones are bound at mkdir, like all others.
const MAX_LEVELS: i32 = 24;

/// A task under a policy.
#[derive(Clone, Copy)]
pub struct Subject {
    pub maps: Maps,
    pub slot: Slot,
    pub incarnation: u32,
    pub head: &'static Head,
    pub entering: bool,
    label: *mut Label,
}

/// What an armed task is under, as far as its label says: enough to tell whether an answer holds for it that was found
/// for a whole [`Subject`].
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    pub label: &'a Label,
    pub generation: u64,
}

impl Subject {
    /// Remembers an address that was allowed.
    #[inline(always)]
    pub fn remember_address(&self, place: usize, allowed: AllowedAddress) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).allowed[place & 1] = allowed };
    }

    /// What its label says.
    #[inline(always)]
    pub fn claim(&self) -> Claim<'_> {
        // SAFETY: as in `set_arming`; read only.
        Claim { label: unsafe { &*self.label }, generation: self.maps.generation }
    }

    /// Notes that an entering task is starting the workload's own program (or, after all, another launcher).
    #[inline(always)]
    pub fn set_arming(&self, arming: bool) {
        // SAFETY: the label is the current task's entry in task storage, which lives as long as the task.
        unsafe { (*self.label).arming = u32::from(arming) };
    }

    /// Makes an entering task's policy the one that its cgroup is bound to by now. Whether there is one.
    #[inline(always)]
    pub fn settle(&mut self) -> bool {
        let _ = follow_cgroup();
        // SAFETY: as in `set_arming`.
        let (slot, incarnation) = unsafe { ((*self.label).slot, (*self.label).incarnation) };
        let Some(head) = self.maps.head(slot) else {
            return false;
        };
        (self.slot, self.incarnation, self.head) = (slot, incarnation, head);
        head.incarnation == incarnation
    }

    /// The right that the task needs on a program that it starts.
    #[inline(always)]
    pub fn needed_to_start(&self) -> Rights {
        // SAFETY: as in `set_arming`.
        if unsafe { (*self.label).probing } != 0 { Rights::PROBE } else { Rights::EXEC }
    }

    /// Notes that the task was refused to look at another process in this system call.
    #[inline(always)]
    pub fn note_look(&self, number: u32) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).looked = number.wrapping_add(1) };
    }

    /// Whether that was noted in this system call.
    #[inline(always)]
    pub fn was_refused_look(&self, number: u32) -> bool {
        // SAFETY: as in `set_arming`; read only.
        unsafe { (*self.label).looked == number.wrapping_add(1) }
    }

    /// Forgets it.
    #[inline(always)]
    pub fn forget_look(&self) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).looked = 0 };
    }

    /// Notes whether an entering task is starting a program that is listed for probes, and only for them.
    #[inline(always)]
    pub fn set_probing(&self, probing: bool) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).probing = u32::from(probing) };
    }

    /// Whether the program that the task is starting is the first under the policy, so that it inherits what somebody
    /// outside the workload opened. A launcher that starts another launcher is still outside.
    #[inline(always)]
    pub fn brings_descriptors(&self) -> bool {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).inherited != 0 && (!self.entering || (*self.label).arming != 0) }
    }

    /// Notes that what the task holds has been judged.
    #[inline(always)]
    pub fn forget_inheritance(&self) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).inherited = 0 };
    }

    /// What the task runs: [`program`] bits.
    #[inline(always)]
    pub fn program(&self) -> u32 {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).program }
    }

    /// Notes what the task runs.
    #[inline(always)]
    pub fn set_program(&self, program: u32) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).program = program };
    }

    /// The script that the task's interpreter is to open: half of the hash of its name's last component.
    #[inline(always)]
    pub fn script(&self) -> u64 {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).script }
    }

    /// Notes the script.
    #[inline(always)]
    pub fn set_script(&self, script: u64) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).script = script };
    }

    /// Keeps what the label says by now, see [`enforcer_common::maps::KEPT`].
    #[inline(always)]
    pub fn keep(&self) {
        if kernel::loses_labels()
            && let Some(kept) = KEPT.get_ptr_mut(kernel::current().raw().0)
        {
            // SAFETY: as in `set_arming` and `recall`. The label's memory is its own for as long as the program runs, even if
            // the kernel has forgotten it since.
            unsafe { *kept = *self.label };
        }
    }

    /// Notes how far the check of the program's content has come.
    #[inline(always)]
    pub fn set_content(&self, content: Content) {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).content = content.code() };
    }

    /// How far the check of the program's content has come.
    #[inline(always)]
    pub fn is_content(&self, content: Content) -> bool {
        // SAFETY: as in `set_arming`.
        unsafe { (*self.label).content == content.code() }
    }
}

/// Whether the current task is starting a program whose content is yet to be looked at.
#[inline(always)]
pub fn is_content_due() -> bool {
    kernel::task_storage(&LABELS, kernel::current(), false)
        .is_some_and(|label| label.content == Content::Due.code())
}

/// Runs `body` for a task under the policy that its label names; `gone` where there is none any more.
///
/// Takes closures for the reason that [`Asker::stand`] does.
#[inline(always)]
pub fn with_label<T>(gone: T, broken: impl FnOnce() -> T, body: impl FnOnce(&Subject) -> T) -> T {
    let Some(label) = kernel::task_storage(&LABELS, kernel::current(), false) else { return broken() };
    match labelled(Maps::in_force(), label) {
        Some(subject) => body(&subject),
        None => gone,
    }
}

/// Forgets a check that is due.
#[inline(always)]
pub fn forget_content() {
    if let Some(label) = kernel::task_storage(&LABELS, kernel::current(), false) {
        label.content = Content::Any.code();
    }
}

/// The current task, before anything but its label has been looked at.
pub struct Asker {
    task: Typed,
    label: Option<&'static mut Label>,
}

impl Asker {
    #[inline(always)]
    pub fn current() -> Self {
        let task = kernel::current();
        Self { task, label: kernel::task_storage(&LABELS, task, false) }
    }

    /// Follows its exec past the point of no return.
    #[inline(always)]
    pub fn commit(&mut self) {
        if self.label.is_none() && is_kept(self.task) && adopt(Maps::in_force().generation) == ADOPTED_POLICY
        {
            self.label = kernel::task_storage(&LABELS, self.task, false);
        }
        if let Some(label) = self.label.as_deref_mut() {
            commit(label);
        }
    }

    /// Whether it is the host's, as far as its label says.
    #[inline(always)]
    pub fn is_host(&self) -> bool {
        self.label
            .as_ref()
            .is_some_and(|label| label.state == State::Host.code() && label.bind_epoch == bind_epoch())
    }

    /// Whether its label names a policy.
    #[inline(always)]
    fn is_labelled(&self) -> bool {
        self.label.as_ref().is_some_and(|label| label.state >= State::Entering.code())
    }

    /// Whether it is armed, and `holds` of its claim.
    #[inline(always)]
    pub fn claims(&self, holds: impl FnOnce(Claim<'_>) -> bool) -> bool {
        self.label.as_ref().is_some_and(|label| {
            label.state == State::Armed.code()
                && holds(Claim { label, generation: Maps::in_force().generation })
        })
    }

    /// Runs `body` for a task under a policy: the one that its label names, or else its cgroup's. `host` for one under none,
    /// `broken` where that cannot be told: nothing says what the task may.
    ///
    /// Takes closures because the verifier refuses the shifts by which LLVM moves a value that is a [`Subject`] or
    /// something else (of a pointer!).
    #[inline(always)]
    pub fn stand<T>(
        self,
        host: impl FnOnce() -> T,
        broken: impl Fn() -> T,
        body: impl FnOnce(Subject) -> T,
    ) -> T {
        let maps = Maps::in_force();
        let label = match self.label {
            Some(label) if is_in_force(&maps, label) => Some(label),
            _ => match adopt(maps.generation) {
                ADOPTED_HOST => None,
                ADOPTED_POLICY => match kernel::task_storage(&LABELS, self.task, false) {
                    Some(label) => Some(label),
                    None => return broken(),
                },
                _ => return broken(),
            },
        };
        let Some(label) = label else { return host() };
        match labelled(maps, label) {
            Some(subject) => body(subject),
            None => broken(),
        }
    }
}

/// Whether a label stands for a policy that is there.
#[inline(always)]
fn is_in_force(maps: &Maps, label: &Label) -> bool {
    (label.state == State::Entering.code() || label.state == State::Armed.code())
        && maps.head(label.slot).is_some_and(|head| head.incarnation == label.incarnation)
}

/// The subject of a label that stands for a policy.
#[inline(always)]
fn labelled(maps: Maps, label: &mut Label) -> Option<Subject> {
    let is_entering = label.state == State::Entering.code();
    if !is_entering && label.state != State::Armed.code() {
        return None;
    }
    let entering = kernel::untold_flag(is_entering, maps.generation);
    let head = maps.head(label.slot)?;
    // Another incarnation: the operator removed the policy. The label is void, and the cgroup says what holds now.
    if head.incarnation != label.incarnation {
        return None;
    }
    Some(Subject { maps, slot: label.slot, incarnation: label.incarnation, head, entering, label })
}

#[inline(always)]
fn bind_epoch() -> u32 {
    // SAFETY: live map values. Volatile, because user space and other programs write them.
    let (ours, theirs) = unsafe {
        (ATTACHES.address().read_volatile(), (&raw const (*CONTROL.address()).bind_epoch).read_volatile())
    };
    theirs.wrapping_add(ours)
}

/// What [`adopt`] found: nothing that binds the task.
const ADOPTED_HOST: u32 = 0;
/// A policy, which the label names now.
const ADOPTED_POLICY: u32 = 1;
/// A policy, and no place for a label.
const ADOPTED_NOTHING: u32 = 2;

/// Gives the current task the label that its cgroup asks for.
///
/// A global function, see "Verifier facts" in `ARCHITECTURE.md`: it runs once in a task's life, and every program would carry
/// a copy for each of its callers' states. It returns a number because a [`Subject`] would have to be handed over through the
/// caller's stack, which is full.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn adopt(generation: u64) -> u32 {
    let maps = Maps { generation };
    let task = kernel::current();
    if is_exempt(task) {
        return ADOPTED_HOST;
    }
    if let Some(recalled) = recall(&maps, task) {
        return recalled;
    }
    let epoch = bind_epoch();
    let launcher = launcher_bits(task);
    let binding = nearest_binding(&maps);
    if binding.incarnation == 0 {
        // Without storage nothing can stick. A task outside every workload is none of our business; one inside is
        // refused by its caller.
        if let Some(label) = kernel::task_storage(&LABELS, task, true) {
            // Fresh storage is zero.
            let vouched = if label.state == State::Host.code() { label.vouched } else { 0 };
            renew(label, UNBOUND, State::Host, epoch, launcher);
            label.vouched = vouched;
        }
        return ADOPTED_HOST;
    }
    // First, because what is known by then has to be kept on a stack that is full.
    let launcher =
        if launcher == 0 && is_launcher(&maps).unwrap_or(false) { program::LAUNCHER } else { launcher };
    let entering = launcher != 0;
    let state = if entering { State::Entering } else { State::Armed };
    let Some(label) = kernel::task_storage(&LABELS, kernel::current(), true) else {
        return ADOPTED_NOTHING;
    };
    renew(label, binding, state, epoch, launcher);
    if keep(kernel::current(), label).is_err() {
        // So that the next hook tries again.
        label.state = State::Unknown.code();
        return ADOPTED_NOTHING;
    }
    if !entering {
        count(Counter::Armed);
    }
    ADOPTED_POLICY
}

/// Gives the current task the label back that the kernel forgot, if it did: [`ADOPTED_POLICY`], or [`ADOPTED_NOTHING`] where
/// there is no place for it.
#[inline(always)]
fn recall(maps: &Maps, task: Typed) -> Option<u32> {
    if !kernel::loses_labels() {
        return None;
    }
    // SAFETY: only the task itself changes its entry, which is freed when it is; and in place.
    let kept = unsafe { KEPT.get(task.raw().0) }?;
    if !is_in_force(maps, kept) {
        return None;
    }
    let Some(label) = kernel::task_storage(&LABELS, task, true) else {
        return Some(ADOPTED_NOTHING);
    };
    *label = *kept;
    label.looked = 0;
    Some(ADOPTED_POLICY)
}

/// Keeps a label that its task has from now on.
#[inline(always)]
fn keep(task: Typed, label: &Label) -> Result<(), Fault> {
    if !kernel::loses_labels() {
        return Ok(());
    }
    KEPT.insert(task.raw().0, label, 0).map_err(|_| Fault::TaskStorage)
}

/// Whether a label is kept of a task.
#[inline(always)]
fn is_kept(task: Typed) -> bool {
    kernel::loses_labels() && KEPT.get_ptr(task.raw().0).is_some()
}

/// Forgets what was kept of a task.
#[inline(always)]
pub fn forget(task: Typed) {
    if kernel::loses_labels() {
        let _ = KEPT.remove(task.raw().0);
    }
}

/// Whether a task is under no policy in whichever cgroup: the kernel's threads, and the daemon, which whoever may write
/// a workload's `cgroup.procs` could otherwise put under its policy.
///
/// Out of line for the stack's sake.
#[inline(never)]
fn is_exempt(task: Typed) -> bool {
    task.get::<u32>(Field::TaskFlags) & PF_KTHREAD != 0 || own::is_keeper(task)
}

/// Makes a label that of a task which meets its first hook. Whatever it holds it has from before.
///
/// Field by field: what is written whole is cleared by a `memset` of single bytes first.
#[inline(always)]
fn renew(label: &mut Label, binding: Binding, state: State, epoch: u32, program: u32) {
    label.slot = binding.slot;
    label.incarnation = binding.incarnation;
    label.state = state.code();
    label.bind_epoch = epoch;
    label.arming = 0;
    label.program = program;
    label.script = 0;
    label.content = Content::Any.code();
    label.inherited = 1;
    label.probing = 0;
    label.looked = 0;
    label.vouched = 0;
    let [over_tcp, over_others] = &mut label.allowed;
    over_tcp.generation = 0;
    over_others.generation = 0;
}

/// Whether a task whose label does not hold is a launcher that the host started: [`program::RUNS_LAUNCHER`] bits.
#[inline(always)]
fn launcher_bits(task: Typed) -> u32 {
    match kernel::task_storage(&LABELS, task, false) {
        Some(label) if label.state != State::Armed.code() => label.program & program::RUNS_LAUNCHER,
        _ => 0,
    }
}

/// Gives an entering task the binding that its cgroup has by now. One that has none any more keeps what it had. Global, like
/// [`adopt`]; the result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn follow_cgroup() -> u32 {
    let maps = Maps::in_force();
    let binding = nearest_binding(&maps);
    if binding.incarnation != 0
        && let Some(label) = kernel::task_storage(&LABELS, kernel::current(), false)
    {
        label.slot = binding.slot;
        label.incarnation = binding.incarnation;
        // The first program of a container is the workload itself, and one that nobody has admitted is not probed.
        let runs =
            !matches!(Origin::from_code(binding.origin), Some(Origin::Base | Origin::Container) | None);
        label.probing = u32::from(runs);
    }
    0
}

/// The binding of the task's cgroup or of its nearest bound ancestor; incarnation 0 if there is none. (Not an `Option`:
/// the verifier refuses the undefined payload of a `None` that LLVM spills in the loop.)
#[inline(always)]
fn nearest_binding(maps: &Maps) -> Binding {
    let mut nearest = live_binding(maps, kernel::cgroup_id()).unwrap_or(UNBOUND);
    if nearest.incarnation != 0 {
        return nearest;
    }
    for level in 1..MAX_LEVELS {
        let id = kernel::ancestor_cgroup_id(level);
        if id == 0 {
            break;
        }
        if let Some(binding) = live_binding(maps, id) {
            nearest = binding;
        }
    }
    nearest
}

/// No binding.
pub const UNBOUND: Binding = Binding { slot: 0, incarnation: 0, origin: Origin::Selector.code() };

/// A cgroup's binding, unless the policy it was bound to is gone.
#[inline(always)]
pub fn live_binding(maps: &Maps, cgroup: u64) -> Option<Binding> {
    let binding = Binding::unpacked(bound_to(cgroup));
    let head = maps.head(binding.slot)?;
    (head.incarnation == binding.incarnation).then_some(binding)
}

/// A cgroup's binding, [packed](Binding::packed); that of incarnation 0 if it has none. Global, like [`adopt`].
///
/// One look is not enough. When user space replaces an entry, the hash adds the new one at the head of its list and then
/// takes the old one away, so who has passed the head by then finds neither; and since 6.1 the kernel gives the memory
/// of the old one to the next entry that is made, on which the value that is read here may be another cgroup's. But user
/// space replaces an entry once in a grace period at most (`kernel/bind.rs`), so one look in a row is disturbed at most, and
/// two that agree, or else the third, tell the truth.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bound_to(cgroup: u64) -> u64 {
    let first = look_up(cgroup);
    if look_up(cgroup) == first {
        return first;
    }
    look_up(cgroup)
}

#[inline(always)]
fn look_up(cgroup: u64) -> u64 {
    // SAFETY: the memory is an entry's for as long as a program runs, if not this cgroup's: see the caller.
    unsafe { BINDINGS.get(cgroup) }.map_or(0, |binding| binding.packed())
}

/// Whether the current task runs a trusted launcher's image and sees the host's files: what a runtime does and an attacker
/// inside a workload, whose label came first, cannot.
#[inline(always)]
fn is_launcher(maps: &Maps) -> Result<bool, Fault> {
    let exe = exe_place()?;
    let scratch = name::scratch()?;
    launcher_at(maps, exe, scratch)
}

/// Notes in the label of a task that is not armed whether the program that it is starting is a launcher that the host
/// starts: the file of one, seen from the host, or a launcher's copy of itself. Returns whether it is.
///
/// Runtimes run a copy of themselves that has no name (a memfd, a detached mount), so that the container cannot reach
/// their file. Where the host's files are seen nobody but the launcher chooses what that is; a copy makes none, so what
/// runs in the container's name cannot pass for one by starting `/proc/self/exe`.
#[inline(never)]
pub fn note_launcher(file: Typed) -> bool {
    let Some(label) = kernel::task_storage(&LABELS, kernel::current(), false) else {
        return false;
    };
    let runs = label.program & program::RUNS_LAUNCHER;
    let next = match launcher_started(file) {
        Ok(Launcher::Named) => program::NEXT_LAUNCHER,
        Ok(Launcher::Nameless) if runs == program::LAUNCHER => program::NEXT_LAUNCHER | program::NEXT_COPY,
        _ => 0,
    };
    label.program = label.program & !(program::STARTS_LAUNCHER | program::NEXT_KEEPER) | next;
    next != 0
}

/// Notes that a task of the host starts the daemon's program while it is sealed in, so that nobody can interfere: untraced,
/// with a root directory of its own, no filter on system calls that could answer for the kernel, and the host's files.
/// Refuses the daemon itself another program.
///
/// Out of line, for the stack's sake.
#[inline(never)]
pub fn note_keeper(bprm: Typed, file: Typed) -> i32 {
    /// `LSM_UNSAFE_SHARE` and `LSM_UNSAFE_PTRACE`, in the kernel since 2.5.
    const UNSAFE: u32 = 1 | 2;
    let task = kernel::current();
    if own::is_keeper(task) {
        return refused_blindly();
    }
    if own::is_program(file)
        && bprm.get::<u32>(Field::BprmUnsafe) & UNSAFE == 0
        && task.get::<u32>(Field::TaskSeccompMode) == 0
        && sees_what_the_host_sees().unwrap_or(false)
        && let Some(label) = kernel::task_storage(&LABELS, task, false)
    {
        label.program |= program::NEXT_KEEPER;
    }
    PASS
}

/// Whether the current task is in the host's mount namespace, with the first process's root directory.
#[inline(always)]
fn sees_what_the_host_sees() -> Result<bool, Fault> {
    let fs = kernel::current().follow(Field::TaskFs).raw();
    let hosts = kernel::first_process()?.follow(Field::TaskFs)?;
    Ok(in_host_mount_namespace()?
        && fs.follow(Field::FsRootDentry)? == hosts.follow(Field::FsRootDentry)?
        && fs.follow(Field::FsRootMnt)? == hosts.follow(Field::FsRootMnt)?)
}

/// Whether a task runs nothing but the daemon's code, under this very seal: see [`Label::vouched`].
#[inline(always)]
pub fn is_vouched(task: Typed) -> bool {
    if !own::is_sealed() {
        return false;
    }
    kernel::task_storage(&LABELS, task, false)
        .is_some_and(|label| label.state == State::Host.code() && label.vouched == own::seal())
}

/// Whether the current task may map nothing but the daemon's code, or is vouched for no longer.
#[inline(always)]
pub fn is_held_to_code() -> bool {
    own::is_sealed() && is_keepers()
}

/// Out of line: nobody else need have the stack for it.
#[inline(never)]
fn is_keepers() -> bool {
    let task = kernel::current();
    own::is_keeper(task) || is_vouched(task)
}

/// What becomes of a task that maps other code than the daemon's: the daemon is refused, others go on and are vouched for no
/// longer.
#[inline(never)]
pub fn leave_code(point: Point) -> i32 {
    let task = kernel::current();
    if let Some(label) = kernel::task_storage(&LABELS, task, false) {
        label.vouched = 0;
    }
    if !own::is_keeper(task) {
        return PASS;
    }
    point.refuse_host(About::memory())
}

/// What a file is to somebody who asks for launchers.
enum Launcher {
    /// One of them.
    Named,
    /// A file that has no name to find it by.
    Nameless,
    /// Something else.
    No,
}

#[inline(always)]
fn launcher_started(file: Typed) -> Result<Launcher, Fault> {
    if !sees_the_host() {
        return Ok(Launcher::No);
    }
    let maps = Maps::in_force();
    // What a host starts, it starts again.
    if cache::is_no_launcher(&maps, file) {
        return Ok(Launcher::No);
    }
    let Some(head) = maps.head(SLOT_LAUNCHERS) else {
        return Ok(Launcher::No);
    };
    let scratch = name::scratch()?;
    let span = name::of_place(Place::of_file(file), false, scratch)?;
    if span.unnamed().is_some() {
        return Ok(Launcher::Nameless);
    }
    let grant = decide::granted(&span.name(scratch), Rights::EXEC, head, &maps)?;
    if grant.rights().contains(Rights::EXEC) {
        return Ok(Launcher::Named);
    }
    cache::remember_no_launcher(&maps, file, scratch);
    Ok(Launcher::No)
}

/// Whether the file at `place` is a launcher, seen from the host.
#[inline(always)]
fn launcher_at<P: Pointer>(maps: &Maps, place: Place<P>, scratch: &mut Scratch) -> Result<bool, Fault> {
    if !sees_the_host() {
        return Ok(false);
    }
    let Some(head) = maps.head(SLOT_LAUNCHERS) else {
        return Ok(false);
    };
    let span = name::of_place(place, false, scratch)?;
    if span.unnamed().is_some() {
        return Ok(false);
    }
    Ok(decide::granted(&span.name(scratch), Rights::EXEC, head, maps)?.rights().contains(Rights::EXEC))
}

/// Whether the current task is in the host's mount namespace.
#[inline(always)]
pub fn in_host_mount_namespace() -> Result<bool, Fault> {
    let ns = kernel::current().follow(Field::TaskNsproxy).follow(Field::NsproxyMnt);
    Ok(ns.raw().get::<u32>(Field::MntNamespaceInum)? == kernel::host_mnt_ns())
}

/// Whether the current task sees files where the host has them: in the host's mount namespace, or in one that a service of
/// the host was given (`PrivateTmp=`). Containers never do.
///
/// Such a namespace can only be changed by whoever could change the host's, and the root of its tree is the very directory
/// that the first process has for its root. A container's is another one; and though a container that was given the host's
/// root for a volume can make it its own root directory (`chroot`), it lies somewhere below the root of the tree then, or in
/// a namespace that is not the task's.
///
/// What cannot be found out is no.
#[inline(always)]
fn sees_the_host() -> bool {
    host_is_seen() != 0
}

/// The same as a number, from a global function like [`adopt`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn host_is_seen() -> u32 {
    u32::from(matches!(try_sees_the_host(), Ok(true)))
}

#[inline(always)]
fn try_sees_the_host() -> Result<bool, Fault> {
    if in_host_mount_namespace()? {
        return Ok(true);
    }
    let task = kernel::current();
    let namespace = task.follow(Field::TaskNsproxy).follow(Field::NsproxyMnt).raw();
    let owner = namespace.follow(Field::MntNamespaceUserNs)?;
    if owner.get::<i32>(Field::UserNamespaceLevel)? != 0 {
        return Ok(false);
    }
    let root = task.follow(Field::TaskFs).raw();
    let hosts = kernel::first_process()?.follow(Field::TaskFs)?.follow(Field::FsRootDentry)?;
    let mount = root.follow(Field::FsRootMnt)?.container(Field::MountVfs);
    // The mount's own root too: another thread may change both halves of the root directory while they are read.
    let is_hosts = root.follow(Field::FsRootDentry)? == hosts && mount.follow(Field::MountRoot)? == hosts;
    Ok(is_hosts && mount.follow(Field::MountNs)? == namespace && is_outermost(mount)?)
}

/// Whether a mount is mounted on the root of its namespace's tree: on the root of the mount above it, and so on.
#[inline(always)]
fn is_outermost(mount: Raw) -> Result<bool, Fault> {
    /// The root file system of the kernel, one that replaced it, and some more.
    const MOST: u32 = 4;
    let mut mount = mount;
    for _ in 0..MOST {
        let parent = mount.follow(Field::MountParent)?;
        if parent == mount {
            return Ok(true);
        }
        if mount.follow(Field::MountMountpoint)? != parent.follow(Field::MountRoot)? {
            return Ok(false);
        }
        mount = parent;
    }
    Ok(false)
}

/// Where the current task's program lies.
#[inline(always)]
pub fn exe_place() -> Result<Place<Raw>, Fault> {
    let mm = kernel::current().raw().follow(Field::TaskMm)?;
    if mm.is_null() {
        return Err(Fault::KernelRead);
    }
    let exe = mm.follow(Field::MmExeFile)?;
    if exe.is_null() {
        return Err(Fault::KernelRead);
    }
    Place::of_raw_file(exe)
}

/// Whether `task` is under the same policy as `subject`. A task that ran before its policy came, and has met no hook
/// since, has no label yet: its cgroup tells what it will be. A launcher is not, wherever it is: nobody judges what it
/// does, so whoever could steer it would be free.
#[inline(always)]
pub fn is_same_workload(subject: &Subject, task: Typed) -> bool {
    if let Some(label) = kernel::task_storage(&LABELS, task, false)
        && (label.state >= State::Entering.code() || label.program & program::RUNS_LAUNCHER != 0)
    {
        return label.state == State::Armed.code()
            && label.slot == subject.slot
            && label.incarnation == subject.incarnation;
    }
    is_bound_alike(subject, task.raw())
}

/// Whether the cgroup that a task is in is bound to the policy of `subject`. For tasks whose label cannot be had.
#[inline(always)]
pub fn is_bound_alike(subject: &Subject, task: Raw) -> bool {
    let cgroup = task.follow(Field::TaskCgroups).and_then(|set| set.follow(Field::CssSetDflCgrp));
    let Ok(id) = cgroup.and_then(id_of) else {
        return false;
    };
    live_binding(&subject.maps, id)
        .is_some_and(|binding| binding.slot == subject.slot && binding.incarnation == subject.incarnation)
}

/// Copies the current task's label to a task that is being born.
///
/// # Errors
/// The child of a labelled task must not live without the label.
#[inline(always)]
pub fn inherit(child: Typed) -> Result<(), Fault> {
    let asker = Asker::current();
    let own = if asker.is_host() || asker.is_labelled() {
        asker.label
    } else {
        // Its cgroup may have been bound since it met a hook, and the child may be born outside (`CLONE_INTO_CGROUP`).
        if adopt(Maps::in_force().generation) == ADOPTED_NOTHING {
            return Err(Fault::TaskStorage);
        }
        kernel::task_storage(&LABELS, asker.task, false)
    };
    let Some(own) = own else { return Ok(()) };
    if own.state < State::Entering.code() {
        // Of a task that was where the child is.
        forget(child);
        let launcher = own.program & program::RUNS_LAUNCHER;
        // Where the child will be is not known yet, so what it is under is left to its first hook. A launcher's child
        // that there is no memory to note it for is under its cgroup's policy at once.
        if launcher != 0
            && let Some(label) = kernel::task_storage(&LABELS, child, true)
        {
            renew(label, UNBOUND, State::Unknown, 0, launcher);
        }
        return Ok(());
    }
    let copy = *own;
    let label = kernel::task_storage(&LABELS, child, true).ok_or(Fault::TaskStorage)?;
    *label = copy;
    label.arming = 0;
    label.content = Content::Any.code();
    keep(child, label)
}

/// Whether the current task carries a policy's label. Does not adopt one.
#[inline(always)]
pub fn is_armed() -> bool {
    kernel::task_storage(&LABELS, kernel::current(), false)
        .map_or(is_kept(kernel::current()), |label| label.state == State::Armed.code())
}

/// Follows an exec past the point of no return: a launcher is what it has started, and a label that was to be armed is.
#[inline(always)]
fn commit(label: &mut Label) {
    if label.state == State::Armed.code() {
        return;
    }
    let starts = label.program & program::STARTS_LAUNCHER;
    let is_keepers = label.program & program::NEXT_KEEPER != 0;
    label.program &= !(program::RUNS_LAUNCHER | program::STARTS_LAUNCHER | program::NEXT_KEEPER);
    label.vouched = if is_keepers && own::is_sealed() { own::seal() } else { 0 };
    if label.state == State::Entering.code() && label.arming != 0 {
        label.state = State::Armed.code();
        label.arming = 0;
        note_start();
        count(Counter::Armed);
    } else {
        label.program |= starts >> LAUNCHER_SHIFT;
    }
}

/// Notes that a program of the container whose cgroup the task is in has started: who enters from now on is not its first.
///
/// In place: the daemon replaces bindings whole, and one that it replaces meanwhile is not marked. Then probes are refused
/// until something else has started.
#[inline(always)]
fn note_start() {
    if let Some(binding) = BINDINGS.get_ptr_mut(kernel::cgroup_id()) {
        // SAFETY: the entry is freed after a grace period; nobody but us changes it in place, and to this value only.
        unsafe {
            if (*binding).origin == Origin::Container.code() {
                (*binding).origin = Origin::Started.code();
            }
        }
    }
}

/// From the bits about launchers that are being started to those about launchers that run.
const LAUNCHER_SHIFT: u32 = 2;
const _: () = assert!(program::STARTS_LAUNCHER >> LAUNCHER_SHIFT == program::RUNS_LAUNCHER);

/// The id of a cgroup.
#[inline(always)]
pub fn id_of(cgroup: Raw) -> Result<u64, Fault> {
    cgroup.follow(Field::CgroupKn)?.get::<u64>(Field::KernfsId)
}
