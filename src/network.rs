//! `dataplane network`: what the daemon does to the host's network, by hand: made beforehand, looked at, removed. It
//! works on what a daemon with the same configuration would, and changes nothing beside one that runs.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Subcommand;
use dataplane_network::{Backend, Kernel, Network, NetworkConfig, NetworkError, NetworkStatus};
use dataplane_store::{Layout, Store};
use uuid::Uuid;

use crate::config::{ConfigError, NetworkOptions, RawNetwork};
use crate::startup::{StartError, open_data_directory, read_owner};

/// What is to be done.
#[derive(Debug, Clone, Subcommand)]
pub enum NetworkCommand {
    /// Show what is there of bridge, TAPs and rules, and what is wrong with it
    Status(Box<RawNetwork>),
    /// Make or mend bridge, rules and settings, as the daemon does at its start
    Up(Box<RawNetwork>),
    /// Remove all of it: instances that run lose their network
    Teardown(Box<RawNetwork>),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkCommandError {
    /// A variable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The host.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Standard output.
    #[error("write to standard output")]
    Print(#[from] io::Error),
}

/// Does it.
///
/// # Errors
/// [`NetworkCommandError`].
pub async fn run(command: NetworkCommand) -> Result<(), NetworkCommandError> {
    let mut out = io::stdout();
    match command {
        NetworkCommand::Status(raw) => {
            let options = raw.check()?;
            let owner = read_owner(&store(&options)?)?.unwrap_or_default();
            show(&mut out, &options, &network(&options, owner)?.status().await?)?;
        }
        NetworkCommand::Up(raw) => {
            let options = raw.check()?;
            let (_lock, owner) = open_data_directory(&store(&options)?)?;
            let report = network(&options, owner)?.start().await?;
            let way = report.uplink.map_or_else(
                || "there is no uplink: guests reach the gateway only".to_owned(),
                |uplink| format!("guests leave by {uplink}"),
            );
            writeln!(out, "{} is up, {way}", options.bridge)?;
        }
        NetworkCommand::Teardown(raw) => {
            let options = raw.check()?;
            let store = store(&options)?;
            // Without a data directory no daemon of it can have made anything.
            let Some(owner) = read_owner(&store)? else {
                writeln!(out, "nothing is there: {} holds no data directory", options.data_dir.display())?;
                return Ok(());
            };
            let _lock = open_data_directory(&store)?;
            network(&options, owner)?.teardown().await?;
            writeln!(out, "bridge, TAPs and rules of {} are removed", options.bridge)?;
        }
    }
    Ok(())
}

fn store(options: &NetworkOptions) -> Result<Store, StartError> {
    Ok(Store::new(Layout::new(options.data_dir.clone(), options.runtime_dir.clone())?))
}

fn network(options: &NetworkOptions, owner: Uuid) -> Result<Network, StartError> {
    let NetworkOptions { bridge, plan, uplink, dns_server, .. } = options.clone();
    let kernel: Arc<dyn Backend> = Arc::new(Kernel::start().map_err(StartError::Netlink)?);
    Ok(Network::new(NetworkConfig { bridge, plan, uplink, dns_server, owner }, kernel))
}

fn show(out: &mut impl Write, options: &NetworkOptions, status: &NetworkStatus) -> io::Result<()> {
    let whose = match (&status.bridge, status.is_ours) {
        (None, _) => "does not exist".to_owned(),
        (Some(_), true) => "is ours".to_owned(),
        (Some(link), false) => format!("is not ours (alias {:?})", link.alias.as_deref().unwrap_or_default()),
    };
    writeln!(out, "bridge {} {whose}", options.bridge)?;
    for tap in &status.taps {
        let instance = tap.alias.as_deref().and_then(|alias| alias.split_once(':')).map_or("", |(_, id)| id);
        writeln!(out, "tap {} of instance {instance}", tap.name)?;
    }
    for (family, name) in &status.tables {
        writeln!(out, "table {family} {name}")?;
    }
    for check in &status.checks {
        let verdict = if check.ok { "ok" } else { "WRONG" };
        writeln!(out, "{verdict:<5} {}: {}", check.name, check.detail)?;
        if !check.ok {
            writeln!(out, "      {}", check.remedy)?;
        }
    }
    Ok(())
}
