//! Markup that a macro checks and compiles, around a text from a file.

use maud::{DOCTYPE, html};

fn main() {
    let page = html! {
        (DOCTYPE)
        h1 { (include_str!("title.txt")) }
        @for number in 0..3 { p { (number) } }
    };
    println!("{}", page.into_string());
}
