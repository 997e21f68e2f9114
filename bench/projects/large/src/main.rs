//! Compiles, and touches each of its dependencies; running it is not the point.

use axum::Router;
use axum::routing::get;
use clap::Parser;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Options, so that clap's macros have work.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, env = "LARGE_LISTEN", default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
}

/// A message, so that serde's and prost's have.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Greeting {
    words: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(string, repeated, tag = "1")]
    words: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` greets nobody")]
struct Rude(String);

fn greet(text: &str) -> Result<Greeting, Rude> {
    let word = regex::Regex::new(r"\w+").map_err(|error| Rude(error.to_string()))?;
    let found: Vec<&str> = word.find_iter(text).map(|found| found.as_str()).collect();
    if found.is_empty() {
        return Err(Rude(text.to_owned()));
    }
    Ok(Greeting { words: found.par_iter().map(|word| word.to_uppercase()).collect() })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().init();
    let options = Options::parse();
    let greeting = greet("hello, world")?;
    let wire = Wire { words: greeting.words.clone() };
    tracing::info!(bytes = prost::Message::encoded_len(&wire), code = ?tonic::Code::Ok, "ready");
    let line = ratatui::text::Line::from(serde_json::to_string(&greeting)?);
    tracing::info!(width = line.width(), status = %hyper::StatusCode::OK, "measured");
    let settings: Greeting = toml::from_str("words = []")?;
    let app = Router::new()
        .route("/", get(move || async move { axum::Json(settings) }))
        .layer(tower_http::trace::TraceLayer::new_for_http());
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
