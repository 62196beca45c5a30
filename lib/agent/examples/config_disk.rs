//! Writes a configuration disk: `config_disk OUT < configuration.json`. For trying a guest by hand.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};

use dataplane_agent::GuestConfig;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: config_disk OUT < configuration.json")?;
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let config: GuestConfig = serde_json::from_str(&json)?;
    File::create(path)?.write_all(&config.to_disk()?)?;
    Ok(())
}
