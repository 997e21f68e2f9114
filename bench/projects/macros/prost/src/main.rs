//! A message that is derived, as what protoc generates is.

use prost::Message;

#[derive(Message)]
struct Point {
    #[prost(uint32, tag = "1")]
    x: u32,
    #[prost(string, tag = "2")]
    name: String,
}

fn main() {
    let point = Point { x: 7, name: include_str!("name.txt").to_owned() };
    println!("{:?}", point.encode_to_vec());
}
