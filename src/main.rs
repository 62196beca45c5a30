//! The daemon's program: flags and environment, log, runtime, start, and an orderly end.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dataplane::config::{LogFormat, RawConfig};
use dataplane::network::NetworkCommand;
use dataplane::{Backends, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs container images as virtual machines.
#[derive(Debug, Parser)]
#[command(name = "dataplane", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: RawConfig,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API (the default)
    Serve(Box<RawConfig>),
    /// Look at the host's network as the daemon has it, make it, or remove it
    #[command(subcommand)]
    Network(NetworkCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Serve(raw)) => run(*raw),
        Some(Command::Network(command)) => run_network(command),
        None => run(cli.config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with every cause: readable at once, whatever the log's format.
            eprintln!("dataplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_network(command: NetworkCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    Ok(runtime.block_on(dataplane::network::run(command))?)
}

fn run(raw: RawConfig) -> anyhow::Result<()> {
    log_to_standard_error(raw.log_format(std::io::stderr().is_terminal())?)?;
    let config = raw.check()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?config, "starting");
    allow_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let backends = Backends::of_host(&config)?;
        let app = start(config, backends).await?;
        // Both arms are cancel-safe: signal streams.
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        app.stop().await;
        Ok(())
    })
}

/// Each instance takes five descriptors (process, API socket, agent, event file, its watch), each follower of a log one,
/// and shells allow 1,024 for the sake of programs that use `select`. As many as may be are allowed; VMMs inherit that,
/// and use `poll`.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    match raised {
        Ok(()) => tracing::debug!(open_files = limit.maximum, "limits"),
        Err(error) => tracing::warn!(open_files = limit.current, error = %error, "raise the limit of open files"),
    }
}

fn log_to_standard_error(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .with_context(|| format!("RUST_LOG={text:?} is not valid: a filter such as info or dataplane=debug"))?,
        _ => EnvFilter::new("info"),
    };
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_target(false).init(),
    }
    Ok(())
}
