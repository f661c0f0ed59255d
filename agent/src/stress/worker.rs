//! The workers: threads of this process, so that nothing is left whatever ends it.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, futex, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::aside::Aside;
use super::control::STEPS_A_SECOND;
use super::curve::Curve;
use super::pacing::Pacer;
use super::plan::{Aim, Plan, Priority};
use super::pool::{GRANT, Pool};
use crate::sys::clock::since_boot;
use crate::sys::memory::address_space_left;
use crate::sys::{sched, thread};

/// A worker calls nothing that needs more; 4096 of them stay small.
const STACK_BYTES: usize = 64 << 10;
/// What a thread takes of the address space beside its stack (guard page), and what is kept for everything else.
const GUARD_BYTES: u64 = 8 << 10;
const KEPT_BYTES: u64 = 16 << 20;
/// By how much of a step the workers wake after the pool is filled for it.
const FILLED: f64 = 0.05;
/// Up to so many burn at once when they start; more wait until all are there, as those that burn would leave the one
/// thread that starts the others ever less of a CPU.
const AT_ONCE: u32 = 64;

/// All workers of a run.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    aside: Arc<Aside>,
    cpus: Vec<usize>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// Zero: wait.
    go: AtomicU32,
    stop: AtomicBool,
    /// By which each of them ends by itself, whatever becomes of the thread that ends the run: nanoseconds since boot.
    deadline: AtomicU64,
    priority: Priority,
    task: Task,
    /// The workers' thread ids, zero until they run.
    tids: Vec<AtomicI32>,
}

#[derive(Debug)]
enum Task {
    Own(Curve),
    Together(Pool),
}

impl Crew {
    /// Starts the workers of `plan`: they burn at once, or where there are many from [`Crew::go`] on. `cpus` are those
    /// we may use.
    ///
    /// # Errors
    /// When the system gives no more threads; those that were started end.
    pub(super) fn start(
        plan: &Plan,
        cpus: &[usize],
        deadline: Option<Duration>,
        aside: &Arc<Aside>,
    ) -> io::Result<Self> {
        let need = u64::from(plan.workers) * (STACK_BYTES as u64 + GUARD_BYTES) + KEPT_BYTES;
        if address_space_left().is_some_and(|left| left < need) {
            return Err(io::Error::other("their stacks don't fit into the address space"));
        }
        let task = match &plan.aim {
            Aim::Load(curve) => Task::Own(curve.clone()),
            Aim::Target(_) => Task::Together(Pool::default()),
        };
        let (start, stop) = (Instant::now(), AtomicBool::new(false));
        let tids = (0..plan.workers).map(|_| AtomicI32::new(0)).collect();
        let go = AtomicU32::new(u32::from(plan.workers <= AT_ONCE));
        let deadline = AtomicU64::new(nanos(deadline));
        let shared = Arc::new(Shared { start, go, stop, deadline, priority: plan.priority, task, tids });
        let crew = Self { shared, aside: Arc::clone(aside), cpus: cpus.to_vec() };
        for index in 0..plan.workers {
            let (shared, workers) = (Arc::clone(&crew.shared), plan.workers);
            let set = place(index, workers, cpus);
            let spawned = thread::spawn(STACK_BYTES, Box::new(move || work(&shared, index, workers, &set)));
            if let Err(error) = spawned {
                crew.stop();
                return Err(error);
            }
        }
        Ok(crew)
    }

    /// Changes when they end.
    pub(super) fn end_at(&self, deadline: Option<Duration>) {
        self.shared.deadline.store(nanos(deadline), Ordering::Relaxed);
    }

    /// Their thread ids. Waits for those that haven't run yet, a second at most.
    pub(super) fn tids(&self) -> Vec<i32> {
        let end = Instant::now() + Duration::from_secs(1);
        let seen = |tid: &AtomicI32| loop {
            match tid.load(Ordering::Relaxed) {
                0 if Instant::now() < end => std::thread::yield_now(),
                tid => return tid,
            }
        };
        self.shared.tids.iter().map(seen).filter(|tid| *tid != 0).collect()
    }

    /// Puts the threads `tids` back on their CPUs: a change of cpuset may have moved them.
    pub(super) fn pin_again(&self, tids: &[i32]) {
        for (index, tid) in (0_u32..).zip(tids) {
            let set = place(index, self.shared.tids.len() as u32, &self.cpus);
            let _ = sched_setaffinity(rustix::thread::Pid::from_raw(*tid), &set);
        }
    }

    /// When they started.
    pub(super) fn started(&self) -> Instant {
        self.shared.start
    }

    /// The CPU seconds that all of them have used, by the kernel's clocks: the process without its main thread, from
    /// which this must be called, and without those that stand aside.
    pub(super) fn cpu_secs(&self) -> f64 {
        let others = seconds(ClockId::ThreadCPUTime) + self.aside.secs();
        (seconds(ClockId::ProcessCPUTime) - others).max(0.0)
    }

    /// The pool they draw from, with a target.
    pub(super) fn pool(&self) -> Option<&Pool> {
        match &self.shared.task {
            Task::Own(_) => None,
            Task::Together(pool) => Some(pool),
        }
    }

    /// Makes all of them burn that still wait.
    pub(super) fn go(&self) {
        if self.shared.go.swap(1, Ordering::Relaxed) == 0 {
            let _ = futex::wake(&self.shared.go, futex::Flags::PRIVATE, i32::MAX.unsigned_abs());
        }
    }

    /// Tells them to end: who burns does so within a fraction of a millisecond of its CPU time, who sleeps at the end
    /// of its frame, if the process is still there. Waking thousands would only take the CPU from who ends the run.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.go();
    }
}

/// The CPUs for a worker: with one or more for each CPU they are pinned in turn, so that every CPU has its load; fewer
/// are left to the scheduler, which moves them where others aren't.
fn place(index: u32, workers: u32, cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    match cpus.get(index as usize % cpus.len().max(1)) {
        Some(cpu) if workers as usize >= cpus.len() => set.set(*cpu),
        _ => cpus.iter().for_each(|cpu| set.set(*cpu)),
    }
    set
}

fn work(shared: &Shared, index: u32, workers: u32, set: &CpuSet) {
    let _ = rustix::thread::set_name(c"stress");
    if let Some(tid) = shared.tids.get(index as usize) {
        tid.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }
    match shared.priority {
        Priority::Idle => drop(sched::set_current_thread(sched::Policy::Idle)),
        // What was inherited (`chrt -i`) is not what was asked for.
        Priority::Normal => drop(sched::set_current_thread(sched::Policy::Normal)),
    }
    let _ = sched_setaffinity(None, set);
    while shared.go.load(Ordering::Relaxed) == 0 {
        let _ = futex::wait(&shared.go, futex::Flags::PRIVATE, 0, None);
    }
    match &shared.task {
        Task::Own(curve) => alone(shared, Pacer::new(index, workers), curve),
        Task::Together(pool) => together(shared, pool),
    }
    // Whoever ended by its own deadline stays there, asleep: a thread that is just ending keeps its cgroup in use.
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Burns its own share of one CPU.
fn alone(shared: &Shared, mut pacer: Pacer, curve: &Curve) {
    while shared.goes_on() {
        let frame = pacer.frame(curve, shared.now(), used());
        while used() < frame.cpu && shared.now() < frame.end && shared.goes_on() {
            burn();
        }
        shared.sleep_until(frame.end);
    }
}

/// Burns what the pool grants: a worker on a CPU that others use gets to draw little, and the others draw the rest.
fn together(shared: &Shared, pool: &Pool) {
    let mut due = used();
    while shared.goes_on() {
        let step = (shared.now() * STEPS_A_SECOND - FILLED + 1e-6).floor() + 1.0;
        let end = (step + FILLED) / STEPS_A_SECOND;
        while shared.now() < end && shared.goes_on() {
            if used() < due {
                burn();
            } else if pool.draw() {
                due += GRANT;
            } else {
                break;
            }
        }
        shared.sleep_until(end);
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
            && nanos(Some(since_boot())) < self.deadline.load(Ordering::Relaxed)
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn sleep_until(&self, end: f64) {
        loop {
            let left = end - self.now();
            if left <= 0.0 || !self.goes_on() {
                return;
            }
            std::thread::sleep(Duration::from_secs_f64(left));
        }
    }
}

fn nanos(since_boot: Option<Duration>) -> u64 {
    since_boot.map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// CPU seconds of the calling thread.
fn used() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Some 20 µs of arithmetic: short enough to end a slice on time, long enough that looking at the clock costs little.
fn burn() {
    let mut x = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..10_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_for_each_cpu_is_pinned_and_fewer_are_not() {
        let on = |index, workers, cpus: &[usize]| {
            let set = place(index, workers, cpus);
            (0..8).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>()
        };
        let cpus = [0, 2, 3];
        assert_eq!([0, 1, 2, 3, 4].map(|i| on(i, 5, &cpus)), [0, 2, 3, 0, 2].map(|cpu| vec![cpu]));
        assert_eq!(on(0, 2, &cpus), cpus);
        assert_eq!(on(0, 1, &[]), [0; 0]);
    }
}
