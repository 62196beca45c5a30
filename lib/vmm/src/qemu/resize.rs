//! Processors and memory of a machine that runs.
//!
//! Invariant: processors are plugged in ascending order under ids of their own and leave in reverse, so that those with
//! which the machine booted always stay, and a restored machine can be given the same ones again. Memory grows inside
//! one device that is part of the machine from the start: how much of it the guest has is the device's own state.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::command_line::Accelerator;
use super::qmp::{Command, Monitor};
use crate::{VmSpec, VmmError};

const HOTPLUGGABLE: Command = Command::new("query-hotpluggable-cpus", 5);
const PLUG: Command = Command::new("device_add", 10);
const UNPLUG: Command = Command::new("device_del", 10);
const SET: Command = Command::new("qom-set", 10);

/// The id of the memory that can grow.
pub(super) const MEMORY_DEVICE: &str = "memory";
/// What that memory grows by, in MiB: the smallest piece that a Linux guest takes.
pub(super) const MEMORY_BLOCK: u64 = 4;
/// A guest uses only whole blocks of its own of what may ever be there; Linux has blocks of this many MiB.
const GUEST_BLOCK: u64 = 128;

/// Room for memory that may come, in MiB.
pub(super) fn room(spec: &VmSpec) -> u64 {
    spec.max.memory.0.saturating_sub(spec.boot.memory.0).next_multiple_of(GUEST_BLOCK)
}

/// A place for a processor, and the processor in it.
#[derive(Debug, Deserialize)]
struct Place {
    #[serde(rename = "type")]
    kind: String,
    props: Map<String, Value>,
    #[serde(rename = "qom-path")]
    processor: Option<String>,
}

impl Place {
    /// The machine has one socket and one thread a core: the core is the place's number.
    fn number(&self) -> u64 {
        self.props.get("core-id").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Whether the processor in it was plugged in here, and not made with the machine.
    fn is_plugged(&self) -> bool {
        self.processor.as_deref().is_some_and(|path| path.starts_with("/machine/peripheral/"))
    }

    fn id(&self) -> String {
        format!("cpu{}", self.number())
    }

    async fn plug(&self, monitor: &Monitor) -> Result<(), VmmError> {
        let mut arguments = self.props.clone();
        arguments.insert("driver".into(), json!(self.kind));
        arguments.insert("id".into(), json!(self.id()));
        monitor.execute(PLUG, Value::Object(arguments)).await.map(drop)
    }
}

async fn places(monitor: &Monitor) -> Result<Vec<Place>, VmmError> {
    let mut places: Vec<Place> = monitor.query(HOTPLUGGABLE).await?;
    places.sort_by_key(Place::number);
    Ok(places)
}

/// The places of the processors that were plugged in.
pub(super) async fn plugged(monitor: &Monitor) -> Result<Vec<u64>, VmmError> {
    Ok(places(monitor).await?.iter().filter(|place| place.is_plugged()).map(Place::number).collect())
}

/// Plugs processors into these places.
pub(super) async fn plug(monitor: &Monitor, numbers: &[u64]) -> Result<(), VmmError> {
    for place in places(monitor).await?.iter().filter(|place| place.processor.is_none()) {
        if numbers.contains(&place.number()) {
            place.plug(monitor).await?;
        }
    }
    Ok(())
}

/// Plugs processors in, or asks the guest to let go of some, until there are this many. An emulated processor cannot be
/// taken back: QEMU's migration would wait for it for ever, at least up to version 7.2.
///
/// # Errors
/// [`VmmError::Unsupported`] for fewer emulated processors than there are; nothing is changed then.
pub(super) async fn set_processors(monitor: &Monitor, accelerator: Accelerator, wanted: usize) -> Result<(), VmmError> {
    let places = places(monitor).await?;
    let present = places.iter().filter(|place| place.processor.is_some()).count();
    if wanted < present && accelerator == Accelerator::Tcg {
        return Err(VmmError::Unsupported("take back processors that it emulates: it could take no snapshot any more"));
    }
    for place in places.iter().filter(|place| place.processor.is_none()).take(wanted.saturating_sub(present)) {
        place.plug(monitor).await?;
    }
    let removable = places.iter().rev().filter(|place| place.is_plugged());
    for place in removable.take(present.saturating_sub(wanted)) {
        monitor.execute(UNPLUG, json!({"id": place.id()})).await?;
    }
    Ok(())
}

/// Asks the guest to take, or keep, this many MiB beyond those that it booted with.
pub(super) async fn set_growth(monitor: &Monitor, mebibytes: u64) -> Result<(), VmmError> {
    let bytes = mebibytes.next_multiple_of(MEMORY_BLOCK) << 20;
    let path = format!("/machine/peripheral/{MEMORY_DEVICE}");
    monitor.execute(SET, json!({"path": path, "property": "requested-size", "value": bytes})).await.map(drop)
}
