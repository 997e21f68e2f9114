//! A bridge to C++.

#[cxx::bridge]
mod ffi {
    unsafe extern "C++" {
        include!("with-cxx/src/greeting.h");

        fn greeting(number: u32) -> String;
    }
}

fn main() {
    println!("{}", ffi::greeting(7));
}
