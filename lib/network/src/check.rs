//! The network's part of `/readyz`: each thing that start made, by name, with what to do when it is missing. Reads only,
//! runs no program, and is cheap enough to be asked often.

use ipnet::Ipv4Net;

use crate::backend::{Backend, BackendError, HostAddress, Setting, gateway_net};
use crate::config::NetworkConfig;
use crate::element::Family;
use crate::manager::{StartReport, chain};

const RESTART: &str = "restart the daemon: its start mends bridge, rules and forwarding";

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is: `network`, `bridge`, `nft_table`, `uplink`, `forwarding`, `publishing`, `forward_policy`.
    pub name: &'static str,
    /// Whether it is as it shall be.
    pub ok: bool,
    /// Whether the daemon is of no use without it.
    pub required: bool,
    /// What was seen.
    pub detail: String,
    /// What to do; empty when `ok`.
    pub remedy: String,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, required: true, detail: detail.into(), remedy: String::new() }
    }

    fn bad(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: false, required: true, detail: detail.into(), remedy: RESTART.to_owned() }
    }

    /// One without which instances still serve.
    fn optional(self) -> Self {
        Self { required: false, ..self }
    }
}

pub(crate) async fn run(config: &NetworkConfig, backend: &dyn Backend, started: Option<&StartReport>) -> Vec<Check> {
    if !backend.is_real() {
        return vec![Check::good("network", "switched off: guests have no link to the host")];
    }
    let Some(started) = started else { return vec![Check::bad("network", "not started")] };
    vec![
        settle("bridge", bridge(config, backend).await),
        settle("nft_table", table(config, backend).await),
        // Without an uplink guests still reach the gateway, and are reached: legal, and reported.
        settle("uplink", uplink(config, backend, started).await).optional(),
        settle("forwarding", forwarding(config, backend, started).await),
        settle("publishing", publishing(config, backend).await).optional(),
        forward_policy(config, backend).await,
    ]
}

fn settle(name: &'static str, outcome: Outcome) -> Check {
    match outcome {
        Ok(Ok(detail)) => Check::good(name, detail),
        Ok(Err(detail)) => Check::bad(name, detail),
        Err(error) => Check::bad(name, chain(&error)),
    }
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
    for family in [Family::Inet, Family::Bridge] {
        if !backend.table_exists(family, &table).await? {
            return Ok(Err(format!("{family} {table} does not exist")));
        }
    }
    Ok(Ok(format!("inet {table} and bridge {table} are loaded")))
}

async fn publishing(config: &NetworkConfig, backend: &dyn Backend) -> Outcome {
    let bridge = &config.bridge;
    let on = backend.setting(&Setting::RouteLocalnet(bridge.clone())).await?;
    Ok(if on {
        Ok("published ports are reached by the host's loopback too".to_owned())
    } else {
        Err(format!("net.ipv4.conf.{bridge}.route_localnet is 0: published ports are not reached by 127.0.0.1"))
    })
}

/// Chains of others that drop what they do not accept: a container engine makes the host's `FORWARD` such a one. An
/// accepting verdict of ours is only ours; theirs decides too.
async fn forward_policy(config: &NetworkConfig, backend: &dyn Backend) -> Check {
    const NAME: &str = "forward_policy";
    let bridge = config.bridge.as_str();
    let chains = match backend.dropping_chains(&config.table(), bridge).await {
        Ok(chains) => chains,
        Err(error) => return Check::bad(NAME, chain(&error)).optional(),
    };
    let in_the_way: Vec<_> = chains.into_iter().filter(|chain| !chain.lets_through).map(|chain| chain.name).collect();
    if in_the_way.is_empty() {
        return Check::good(NAME, "no foreign chain drops what is forwarded").optional();
    }
    let detail = format!("{} drops what it does not accept, and nothing there accepts {bridge}", in_the_way.join(", "));
    let remedy = format!(
        "accept both ways in it: `iptables -I FORWARD -i {bridge} -j ACCEPT; iptables -I FORWARD -o {bridge} -j ACCEPT` \
         (with Docker in DOCKER-USER in place of FORWARD), or the same with nft"
    );
    Check { remedy, ..Check::bad(NAME, detail).optional() }
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
    for interface in [Some(&config.bridge), started.uplink.as_ref()].into_iter().flatten() {
        if !backend.setting(&Setting::Forwarding(interface.clone())).await? {
            return Ok(Err(format!("net.ipv4.conf.{interface}.forwarding is 0")));
        }
    }
    Ok(Ok(match &started.uplink {
        Some(uplink) => format!("between {} and {uplink}", config.bridge),
        None => format!("of {} only: there is no uplink", config.bridge),
    }))
}
