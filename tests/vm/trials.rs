//! What is tried, one line a trial, by as many machines at once as there are processors.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::image::Image;
use crate::machine::Vm;

/// What helps to understand what went wrong.
const STATE: &str = "cat /run/lab.watch; systemctl list-jobs; systemctl --failed --no-pager -q; agent status; \
                     ps -e -o pid,ppid,stat,args --sort pid; journalctl -b -q --no-pager -o short-monotonic -n 200";

type Try = Box<dyn Fn(&mut Vm<'_>) -> anyhow::Result<String> + Send>;

/// Something that is tried on a machine that is at rest; it leaves it so if it doesn't spoil it.
pub(crate) struct Trial {
    name: String,
    cpus: u32,
    spoils: bool,
    of: Try,
}

impl Trial {
    /// On a machine with so many processors.
    pub(crate) fn new(
        name: String,
        cpus: u32,
        of: impl Fn(&mut Vm<'_>) -> anyhow::Result<String> + Send + 'static,
    ) -> Self {
        Self { name, cpus, spoils: false, of: Box::new(of) }
    }

    /// The next one gets a new machine.
    pub(crate) fn spoils(self) -> Self {
        Self { spoils: true, ..self }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its name has all of these words.
    pub(crate) fn has(&self, words: &[String]) -> bool {
        words.iter().all(|word| self.name.split(' ').any(|part| part == word))
    }
}

/// How many were right, and how many were wrong.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Count {
    /// As it must be.
    pub(crate) right: u32,
    /// Not so.
    pub(crate) wrong: u32,
}

/// Tries all of them.
pub(crate) fn run(image: &Image, trials: Vec<Trial>, machines: usize) -> Count {
    let (queue, count) = (Mutex::new(VecDeque::from(trials)), Mutex::new(Count::default()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut machine: Option<Vm<'_>> = None;
        while let Some(trial) = next() {
            let start = Instant::now();
            let result = on(image, &mut machine, &trial);
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            let (word, said) = match result {
                Ok(said) => {
                    count.right += 1;
                    ("ok   ", said)
                }
                Err(e) => {
                    count.wrong += 1;
                    ("WRONG", format!("{e:#}"))
                }
            };
            println!("{word} {:4} s  {}: {said}", start.elapsed().as_secs(), trial.name);
        }
    };
    std::thread::scope(|scope| (0..machines).for_each(|_| drop(scope.spawn(work))));
    count.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Tries one on the machine that the last one has left at rest, else on a new one.
fn on<'a>(image: &'a Image, machine: &mut Option<Vm<'a>>, trial: &Trial) -> anyhow::Result<String> {
    let mut vm = match machine.take().filter(|vm| vm.cpus() == trial.cpus) {
        Some(vm) => vm,
        None => Vm::boot(image, trial.cpus)?,
    };
    let said = match (trial.of)(&mut vm) {
        Ok(said) => said,
        Err(e) => {
            let state = vm.sh(STATE).map_or_else(|e| format!("{e:#}"), |said| said.text);
            let log = image.cache.join(format!("wrong-{}.log", trial.name.replace(' ', "-")));
            std::fs::write(&log, format!("{e:#}\n\n{state}\n"))?;
            return Err(e.context(format!("(all in {})", log.display())));
        }
    };
    *machine = Some(vm).filter(|_| !trial.spoils);
    Ok(said)
}
