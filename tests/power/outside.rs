//! The outside: boots, chooses the instants, keeps the journal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::host::{Life, Machine};
use crate::journal::{Guests, Journal, Line, Orders};
use crate::model::Op;
use crate::random::Random;

/// How long a boot may take, and everything at the end: emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

impl Guests {
    /// How long an operation is waited for before the power is cut all the same.
    fn otherwise(self) -> Duration {
        match self {
            Self::Simulated => Duration::from_secs(30),
            Self::Real => Duration::from_secs(150),
        }
    }

    /// How many milliseconds after an operation was asked for the power is cut at the latest.
    fn latest(self) -> u64 {
        match self {
            Self::Simulated => 600,
            Self::Real => 6000,
        }
    }
}

/// How many milliseconds after the boot, where the recovery is to be hit.
const RECOVERY_MS: u64 = 2500;

/// When the power is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// While the daemon recovers from the cut before.
    InRecovery,
    /// Soon after this was asked for.
    After(Op),
}

/// What there is to hit, each in turn.
const CUTS: &[Cut] = &[
    Cut::After(Op::Create),
    Cut::After(Op::Standby),
    Cut::After(Op::Restore),
    Cut::InRecovery,
    Cut::After(Op::Standby),
    Cut::After(Op::Delete),
    Cut::After(Op::Restore),
    Cut::After(Op::Stop),
    Cut::After(Op::Standby),
    Cut::After(Op::Restore),
    Cut::InRecovery,
    Cut::After(Op::Start),
];

pub(crate) fn run(cuts: u64, seed: u64, guests: Guests) -> Result<String, String> {
    let machine = Machine::new();
    let mut random = Random::new(seed);
    let mut journal = Journal::default();
    let mut interrupted: BTreeMap<&str, u64> = BTreeMap::new();
    let begin = Instant::now();
    for number in 0..cuts {
        // Nothing to recover from yet, and an image still to be imported.
        let kind =
            if number == 0 { Cut::After(Op::Create) } else { CUTS[usize::try_from(number).unwrap() % CUTS.len()] };
        let booted = Instant::now();
        let orders = Orders { known: journal.clone(), seed: random.next(), guests, last: false };
        let mut life = machine.boot(&orders);
        let lived = live(&mut life, (guests, kind), &mut random, &mut journal);
        lived.map_err(|what| story(&machine, &life, &journal, number, &what))?;
        println!("cut {number}, {kind:?}, {:.0?} after the boot, during {:?}", booted.elapsed(), journal.open);
        for op in journal.open.values().flatten() {
            *interrupted.entry(op.verb()).or_default() += 1;
        }
        journal.cut();
        let complaints = machine.complaints();
        if !complaints.is_empty() {
            return Err(format!("boot {number} complains: {complaints:#?}"));
        }
    }
    let mut life = machine.boot(&Orders { known: journal.clone(), seed: random.next(), guests, last: true });
    let done = finish(&mut life).map_err(|what| story(&machine, &life, &journal, cuts, &what))?;
    life.end(PATIENCE)?;
    machine.check_disk()?;
    Ok(format!("{cuts} power cuts in {:.0?}; interrupted: {interrupted:?}; {done}", begin.elapsed()))
}

/// Until the power is cut.
fn live(
    life: &mut Life,
    (guests, kind): (Guests, Cut),
    random: &mut Random,
    journal: &mut Journal,
) -> Result<(), String> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut chosen = false;
    // Not always the first.
    let mut skip = if guests == Guests::Real { 0 } else { random.below(6) };
    while let Some(line) = life.next(deadline)? {
        let soon = |millis: u64| Instant::now() + Duration::from_millis(millis);
        match (&line, kind) {
            (Line::Booted, Cut::InRecovery) => (chosen, deadline) = (true, soon(random.below(RECOVERY_MS))),
            (Line::Up, Cut::After(_)) => (chosen, deadline) = (true, Instant::now() + guests.otherwise()),
            (Line::Asked(_, op), Cut::After(wanted)) if *op == wanted && skip == 0 => {
                (skip, deadline) = (u64::MAX, soon(random.below(guests.latest())));
            }
            (Line::Asked(_, op), Cut::After(wanted)) if *op == wanted => skip = skip.saturating_sub(1),
            _ => {}
        }
        note(line, journal)?;
    }
    if !chosen {
        return Err(format!("it is not up within {PATIENCE:?}"));
    }
    life.cut().into_iter().try_for_each(|line| note(line, journal))
}

fn note(line: Line, journal: &mut Journal) -> Result<(), String> {
    match line {
        Line::Asked(id, op) => journal.asked(&id, op),
        Line::Is(id, known) => journal.is(&id, known),
        Line::Booted | Line::Up => {}
        Line::Violation(what) => return Err(what),
        Line::Done(_) => return Err("it has ended too early".into()),
    }
    Ok(())
}

/// The last boot: everything is looked at and deleted.
fn finish(life: &mut Life) -> Result<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match life.next(deadline)? {
            Some(Line::Done(what)) => return Ok(what),
            Some(Line::Violation(what)) => return Err(what),
            Some(_) => {}
            None => return Err(format!("it is not done within {PATIENCE:?}")),
        }
    }
}

fn story(machine: &Machine, life: &Life, journal: &Journal, number: u64, what: &str) -> String {
    let (said, trouble, known) = (life.said.join("\n"), machine.trouble(), journal.to_json());
    format!("{trouble}{said}\n--- boot {number}: {what}\nknown outside: {known:#}\n{:?}", machine.complaints())
}
