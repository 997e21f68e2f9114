//! Compiles the C++ side.

fn main() {
    cxx_build::bridge("src/main.rs").file("src/greeting.cc").std("c++14").compile("greeting");
    println!("cargo:rerun-if-changed=src/main.rs");
    println!("cargo:rerun-if-changed=src/greeting.cc");
    println!("cargo:rerun-if-changed=src/greeting.h");
}
