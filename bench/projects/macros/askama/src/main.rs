//! Templates that are found, inherited and included at compile time.

use askama::Template;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    name: &'a str,
    lines: &'a [&'a str],
}

fn main() {
    println!("{}", Page { name: "kache", lines: &["one", "two"] });
}
