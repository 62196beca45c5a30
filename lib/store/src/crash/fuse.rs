//! The countdown to the crash. One fuse may be shared with a VMM or a network of a test, so that the death comes
//! between any two of all their steps.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Alarm = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    limit: Option<usize>,
    blown: bool,
    steps: Vec<String>,
    alarm: Option<Alarm>,
}

/// A countdown of steps; once it is over, nothing happens any more. Clones share it.
#[derive(Clone, Default)]
pub struct Fuse(Arc<Mutex<State>>);

impl std::fmt::Debug for Fuse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        formatter.debug_struct("Fuse").field("steps", &state.steps.len()).field("blown", &state.blown).finish()
    }
}

impl Fuse {
    /// A fuse that never blows and only counts.
    #[must_use]
    pub fn endless() -> Self {
        Self::default()
    }

    /// A fuse that lets `steps` steps happen and blows at the next one.
    #[must_use]
    pub fn after(steps: usize) -> Self {
        Self(Arc::new(Mutex::new(State { limit: Some(steps), ..State::default() })))
    }

    /// Lets `steps` more steps happen from now on.
    pub fn set(&self, steps: usize) {
        let mut state = self.state();
        state.limit = Some(state.steps.len() + steps);
    }

    /// Calls this once, at the instant at which the fuse blows, inside the step that is refused: it must not block.
    pub fn on_blow(&self, alarm: impl FnOnce() + Send + 'static) {
        self.state().alarm = Some(Box::new(alarm));
    }

    /// Asks to do a step.
    ///
    /// # Errors
    /// When the fuse blows here or has blown before: the step must not happen.
    pub fn step(&self, what: &str) -> io::Result<()> {
        let alarm = {
            let mut state = self.state();
            if !state.blown && state.limit.is_none_or(|limit| state.steps.len() < limit) {
                state.steps.push(what.to_owned());
                return Ok(());
            }
            state.blown = true;
            state.alarm.take()
        };
        if let Some(alarm) = alarm {
            alarm();
        }
        self.check()
    }

    /// Asks to look at something, which is no step.
    ///
    /// # Errors
    /// When the fuse has blown.
    pub fn check(&self) -> io::Result<()> {
        if self.is_blown() { Err(io::Error::other("the process died before this step")) } else { Ok(()) }
    }

    /// Whether it has blown.
    #[must_use]
    pub fn is_blown(&self) -> bool {
        self.state().blown
    }

    /// The steps that happened, in their order.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        self.state().steps.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
