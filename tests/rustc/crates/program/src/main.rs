//! Uses each of the crates, and prints a line for each; always the same lines.

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use grep::searcher::{Searcher, sinks};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tower::ServiceExt as _;

bitflags::bitflags! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Rights: u8 {
        const READ = 1;
        const WRITE = 2;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is no number")]
struct NoNumber(String);

#[derive(clap::Parser)]
struct Options {
    #[arg(long, default_value = "nobody")]
    name: String,
}

#[derive(describe::Describe, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

fn main() -> Result<()> {
    let options = Options::parse_from(["program", "--name", "somebody"]);
    println!("clap: {}", options.name);
    println!("bitflags: {:?}", Rights::READ | Rights::WRITE);
    println!("syn, quote: {}", Point::DESCRIPTION);
    let text = serde_json::to_string(&Point { x: 1, y: 2 })?;
    ensure!(serde_json::from_str::<Point>(&text)? == Point { x: 1, y: 2 }, "it came back otherwise");
    println!("serde: {text}");
    println!("thiserror: {}", NoNumber("x".to_owned()));
    println!("anyhow: {}", anyhow::anyhow!("inner").context("outer"));
    println!("rayon: {}", (0..10_000_u64).into_par_iter().map(|n| n * n).sum::<u64>());
    let dates = regex::Regex::new(r"(\d{4})-(\d\d)")?;
    println!("regex: {}", dates.replace_all("2001-09 and 2011-12", "$2/$1"));
    println!("ring: {}", digest("abc"));
    println!("rusqlite: {}", database()?);
    println!("image: {}", picture()?);
    println!("ripgrep: {}", search("lines of\ntext, and of\nnothing", "of$")?);
    println!("ignore: {}", is_ignored()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    println!("tokio: {}", runtime.block_on(tasks())?);
    println!("axum: {}", runtime.block_on(answer())?);
    Ok(())
}

fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn database() -> Result<i64> {
    let database = rusqlite::Connection::open_in_memory()?;
    database.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (20), (22);")?;
    Ok(database.query_row("SELECT sum(n) FROM t", [], |row| row.get(0))?)
}

fn picture() -> Result<String> {
    let picture = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8, y as u8, 7]));
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png)?;
    let again = image::load_from_memory(png.get_ref())?.to_rgb8();
    ensure!(again == picture, "it came back otherwise");
    Ok(format!("{} pixels as they were", again.pixels().len()))
}

fn search(text: &str, pattern: &str) -> Result<String> {
    let mut found = Vec::new();
    let matcher = grep::regex::RegexMatcherBuilder::new().multi_line(true).build(pattern)?;
    let each = sinks::UTF8(|line, text| {
        found.push(format!("{line}: {}", text.trim_end()));
        Ok(true)
    });
    Searcher::new().search_slice(&matcher, text.as_bytes(), each)?;
    Ok(found.join("; "))
}

fn is_ignored() -> Result<String> {
    let mut rules = ignore::gitignore::GitignoreBuilder::new("/somewhere");
    rules.add_line(None, "target/")?.add_line(None, "!target/kept")?;
    let rules = rules.build()?;
    let is_ignored = |path| rules.matched(path, true).is_ignore();
    Ok(format!("{} {}", is_ignored("target"), is_ignored("src")))
}

async fn tasks() -> Result<u32> {
    let tasks: Vec<_> = (0..8).map(|n| tokio::spawn(async move { n * n })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += tokio::time::timeout(std::time::Duration::from_secs(60), task).await??;
    }
    Ok(sum)
}

async fn answer() -> Result<String> {
    let router =
        axum::Router::new().route("/", axum::routing::get(|| async { axum::Json(Point { x: 3, y: 4 }) }));
    let request = axum::http::Request::get("/").body(axum::body::Body::empty())?;
    let answer = router.oneshot(request).await?;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 10).await.context("the body")?;
    Ok(format!("{status} {}", String::from_utf8(body.to_vec())?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_digest_is_known() {
        assert!(super::digest("abc").starts_with("ba7816bf"));
    }
}
