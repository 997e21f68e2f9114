//! Functions that are exported to other languages by procedural macros, which read this
//! package's manifest for its name.

uniffi::setup_scaffolding!();

#[derive(uniffi::Record)]
pub struct Point {
    pub x: u32,
    pub y: u32,
}

#[uniffi::export]
pub fn sum(point: Point) -> u32 {
    point.x + point.y
}

fn main() {
    println!("{}", sum(Point { x: 1, y: 2 }));
}
