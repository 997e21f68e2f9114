//! A directory of files that becomes part of the program.

use rust_embed::Embed;

#[derive(Embed)]
#[folder = "$CARGO_MANIFEST_DIR/assets"]
struct Assets;

fn main() {
    for name in Assets::iter() {
        let file = Assets::get(&name).expect("what is listed is there");
        let sum = file.metadata.sha256_hash();
        println!("{name}: {} bytes, {:02x}{:02x}", file.data.len(), sum[0], sum[1]);
    }
}
