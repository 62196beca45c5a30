//! Virtual CPUs that come and go: a guest lets go of one in its own time, and only while it runs. The configuration
//! follows every request at once, and can be wrong for as long.

use std::time::{Duration, Instant};

/// How long a guest takes to let go.
const EJECTION: Duration = Duration::from_millis(50);

/// Those of one VM.
#[derive(Debug, Default)]
pub(crate) struct Processors {
    present: u32,
    going: Option<Going>,
}

#[derive(Debug)]
struct Going {
    /// How many there will be.
    to: u32,
    /// When the guest has let go, unless it is paused.
    at: Option<Instant>,
}

/// An earlier removal has not ended.
#[derive(Debug)]
pub(crate) struct Busy;

impl Processors {
    pub(crate) fn new(present: u32) -> Self {
        Self { present, going: None }
    }

    /// How many there are now.
    pub(crate) fn present(&mut self) -> u32 {
        if let Some(Going { to, at: Some(at) }) = self.going
            && Instant::now() >= at
        {
            self.present = to;
            self.going = None;
        }
        self.present
    }

    /// Asks for a number. For one that is there already the real VMM does nothing at all, even if some are going.
    ///
    /// # Errors
    /// [`Busy`].
    pub(crate) fn ask_for(&mut self, wanted: u32, paused: bool) -> Result<(), Busy> {
        let present = self.present();
        if wanted == present {
            return Ok(());
        }
        if self.going.is_some() {
            return Err(Busy);
        }
        if wanted > present {
            self.present = wanted;
        } else {
            self.going = Some(Going { to: wanted, at: (!paused).then(|| Instant::now() + EJECTION) });
        }
        Ok(())
    }

    /// The guest stands still, and lets go of nothing.
    pub(crate) fn pause(&mut self) {
        self.present();
        if let Some(going) = &mut self.going {
            going.at = None;
        }
    }

    /// The guest runs on.
    pub(crate) fn resume(&mut self) {
        if let Some(going) = &mut self.going {
            going.at = Some(Instant::now() + EJECTION);
        }
    }
}
