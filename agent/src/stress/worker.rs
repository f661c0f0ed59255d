//! The workers: threads of this process, so that nothing is left whatever ends it.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::control::STEPS_A_SECOND;
use super::curve::Curve;
use super::pacing::Pacer;
use super::plan::{Aim, Plan, Priority};
use super::pool::{GRANT, Pool};
use crate::sys::sched;

/// A worker calls nothing that needs more; 4096 of them stay small.
const STACK_BYTES: usize = 64 << 10;
/// By how much of a step the workers wake after the pool is filled for it.
const FILLED: f64 = 0.05;
/// Up to so many burn at once when they start; more wait until all are there, as those that burn would leave the one
/// thread that starts the others ever less of a CPU.
const AT_ONCE: u32 = 64;

/// All workers of a run.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    cpus: Vec<usize>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    go: AtomicBool,
    stop: AtomicBool,
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
    pub(super) fn start(plan: &Plan, cpus: &[usize]) -> io::Result<Self> {
        let task = match &plan.aim {
            Aim::Load(curve) => Task::Own(curve.clone()),
            Aim::Target(_) => Task::Together(Pool::default()),
        };
        let (start, stop) = (Instant::now(), AtomicBool::new(false));
        let tids = (0..plan.workers).map(|_| AtomicI32::new(0)).collect();
        let go = AtomicBool::new(plan.workers <= AT_ONCE);
        let shared = Arc::new(Shared { start, go, stop, priority: plan.priority, task, tids });
        let mut crew = Self { shared, threads: Vec::new(), cpus: cpus.to_vec() };
        for index in 0..plan.workers {
            let (shared, workers) = (Arc::clone(&crew.shared), plan.workers);
            let set = place(index, workers, cpus);
            let spawned = thread::Builder::new()
                .name("stress".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || work(&shared, index, workers, &set));
            match spawned {
                Ok(handle) => crew.threads.push(handle.thread().clone()),
                Err(error) => {
                    crew.stop();
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    /// Their thread ids. Waits for those that haven't run yet, a second at most.
    pub(super) fn tids(&self) -> Vec<i32> {
        let end = Instant::now() + Duration::from_secs(1);
        let seen = |tid: &AtomicI32| loop {
            match tid.load(Ordering::Relaxed) {
                0 if Instant::now() < end => thread::yield_now(),
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
    /// which this must be called.
    pub(super) fn cpu_secs(&self) -> f64 {
        (seconds(ClockId::ProcessCPUTime) - seconds(ClockId::ThreadCPUTime)).max(0.0)
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
        if !self.shared.go.swap(true, Ordering::Relaxed) {
            self.threads.iter().for_each(Thread::unpark);
        }
    }

    /// Tells them to end: who burns does so within a fraction of a millisecond of its CPU time, who sleeps at the end
    /// of its frame, if the process is still there. Waking thousands would only take the CPU from who ends the run.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.go.store(true, Ordering::Relaxed);
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
    if let Some(tid) = shared.tids.get(index as usize) {
        tid.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }
    if shared.priority == Priority::Idle {
        let _ = sched::set_current_thread(sched::Policy::Idle);
    }
    let _ = sched_setaffinity(None, set);
    while !shared.go.load(Ordering::Relaxed) {
        thread::park();
    }
    match &shared.task {
        Task::Own(curve) => alone(shared, Pacer::new(index, workers), curve),
        Task::Together(pool) => together(shared, pool),
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
            thread::park_timeout(Duration::from_secs_f64(left));
        }
    }
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
