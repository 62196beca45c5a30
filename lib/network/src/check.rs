//! The network's part of `/readyz`: each thing that start made, by name, with what to do when it is missing. Reads only,
//! runs no program, and is cheap enough to be asked often.

use ipnet::Ipv4Net;

use crate::backend::{Backend, BackendError, HostAddress, Setting, gateway_net};
use crate::config::NetworkConfig;
use crate::manager::{StartReport, chain};

const RESTART: &str = "restart the daemon: its start mends bridge, rules and forwarding";

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is: `network`, `bridge`, `nft_table`, `uplink`, `forwarding`.
    pub name: &'static str,
    /// Whether it is as it shall be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do; empty when `ok`.
    pub remedy: &'static str,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), remedy: "" }
    }

    fn bad(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into(), remedy: RESTART }
    }
}

pub(crate) async fn run(config: &NetworkConfig, backend: &dyn Backend, started: Option<&StartReport>) -> Vec<Check> {
    if !backend.is_real() {
        return vec![Check::good("network", "switched off: guests have no link to the host")];
    }
    let Some(started) = started else { return vec![Check::bad("network", "not started")] };
    let outcomes = [
        ("bridge", bridge(config, backend).await),
        ("nft_table", table(config, backend).await),
        ("uplink", uplink(config, backend, started).await),
        ("forwarding", forwarding(config, backend, started).await),
    ];
    let settle = |(name, outcome)| match outcome {
        Ok(Ok(detail)) => Check::good(name, detail),
        Ok(Err(detail)) => Check::bad(name, detail),
        Err(error) => Check::bad(name, chain(&error)),
    };
    outcomes.map(settle).into()
}

/// What was seen, good or bad; or why nothing could be seen.
type Outcome = Result<Result<String, String>, BackendError>;

async fn bridge(config: &NetworkConfig, backend: &dyn Backend) -> Outcome {
    let name = config.bridge.as_str();
    let net = gateway_net(config.plan.gateway(), config.plan.subnet().prefix_len());
    let Some(link) = backend.link(name).await? else { return Ok(Err(format!("{name} does not exist"))) };
    if !link.up {
        return Ok(Err(format!("{name} is down")));
    }
    let has = |address: &HostAddress| address.interface == name && has_address(address.net, net);
    if !backend.addressing().await?.addresses.iter().any(has) {
        return Ok(Err(format!("{name} has not the gateway address {net}")));
    }
    Ok(Ok(format!("{name} is up with {net}")))
}

fn has_address(found: Ipv4Net, wanted: Ipv4Net) -> bool {
    found.addr() == wanted.addr() && found.prefix_len() == wanted.prefix_len()
}

async fn table(config: &NetworkConfig, backend: &dyn Backend) -> Outcome {
    let table = config.table();
    let there = backend.table_exists(&table).await?;
    Ok(if there { Ok(format!("inet {table} is loaded")) } else { Err(format!("inet {table} does not exist")) })
}

async fn uplink(config: &NetworkConfig, backend: &dyn Backend, started: &StartReport) -> Outcome {
    let addressing = backend.addressing().await?;
    let now = addressing.default_interface(&config.bridge);
    let Some(uplink) = &started.uplink else {
        return Ok(match now {
            None => Ok("none: guests reach the gateway only".to_owned()),
            Some(now) => Err(format!("none at start, but there is a default route by {now} now")),
        });
    };
    if backend.link(uplink.as_str()).await?.is_none() {
        return Ok(Err(format!("{uplink} is gone")));
    }
    Ok(match now {
        Some(now) if config.uplink.is_none() && now != uplink.as_str() => {
            Err(format!("{uplink} at start, but the default route is by {now} now"))
        }
        None if config.uplink.is_none() => Err(format!("{uplink} at start, but there is no default route now")),
        Some(_) | None => Ok(format!("guests leave by {uplink}")),
    })
}

async fn forwarding(config: &NetworkConfig, backend: &dyn Backend, started: &StartReport) -> Outcome {
    let Some(uplink) = &started.uplink else { return Ok(Ok("not needed without an uplink".to_owned())) };
    for interface in [&config.bridge, uplink] {
        if !backend.setting(&Setting::Forwarding(interface.clone())).await? {
            return Ok(Err(format!("net.ipv4.conf.{interface}.forwarding is 0")));
        }
    }
    Ok(Ok(format!("between {} and {uplink}", config.bridge)))
}
