//! `tally`: reads a log and counts its lines by level.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::io::{AsyncReadExt, stdin};

/// Counts the lines of a log by level.
#[derive(Debug, Parser)]
struct Options {
    /// The log; by default standard input.
    file: Option<PathBuf>,
    /// The file with the settings, as TOML.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let options = Options::parse();
    let settings = match &options.settings {
        Some(path) => toml::from_str(&read(path).await?).context("failed to read the settings")?,
        None => tally::Settings::default(),
    };
    let text = match &options.file {
        Some(path) => read(path).await?,
        None => {
            let mut text = String::new();
            stdin().read_to_string(&mut text).await?;
            text
        }
    };
    tracing::debug!(bytes = text.len(), "read the log");
    let rows = tally::tally(&text, &settings);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", tally::render(&rows));
    }
    Ok(())
}

async fn read(path: &std::path::Path) -> anyhow::Result<String> {
    tokio::fs::read_to_string(path).await.with_context(|| format!("failed to read `{}`", path.display()))
}
