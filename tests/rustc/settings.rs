//! Settings of a user: KEY-20 to KEY-22, and switches.

use std::fs;

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::unit::Unit;

#[test]
fn key_20_a_salt_changes_every_key() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/salted.rs", "fn main() { println!(\"salted\") }");
    let unit = Unit::bin(&home, &tree, "salted");
    let key = |unit: &Unit<'_>| unit.compare().0.action;
    let without = key(&unit);
    assert_eq!(key(&unit.clone().env("KACHE_KEY_SALT", "")), without);
    let salted = key(&unit.clone().env("KACHE_KEY_SALT", "pepper"));
    assert!(!without.is_empty() && !salted.is_empty() && salted != without);
    unit.hits();
    unit.clone().env("KACHE_KEY_SALT", "").hits();
    unit.clone().env("KACHE_KEY_SALT", "pepper").hits();
    unit.env("KACHE_KEY_SALT", "more pepper").misses();
}

#[test]
fn key_21_declarations_only_add() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/declares.rs", "fn main() { println!(\"{}\", include_str!(\"in.txt\")) }");
    tree.write("src/in.txt", "in").write("data/a.sql", "1");
    let unit = Unit::bin(&home, &tree, "declares").env("CARGO_MANIFEST_DIR", tree.text());
    unit.misses();
    tree.write("kache.toml", "extra_inputs = [\"data/*.sql\"]\nkey_env_vars = [\"MY_*\"]\n");
    let call = |unit: &Unit<'_>| unit.kache().ok().only_call().result.clone();
    let result = |unit: &Unit<'_>, expected: &str| assert_eq!(call(unit), expected);
    result(&unit, "miss");
    result(&unit, "local_hit");
    tree.write("data/a.sql", "2");
    result(&unit, "miss");
    tree.write("data/b.sql", "1");
    result(&unit, "miss");
    // Inputs that are not declared still count.
    tree.write("src/in.txt", "IN");
    result(&unit, "miss");
    assert_eq!(tree.prints("target/debug/deps/declares-01234567"), "IN");
    result(&unit.clone().env("MY_OWN", "1"), "miss");
    result(&unit.clone().env("MY_OWN", ""), "miss");
    result(&unit.clone().env("MY_OWN", "1"), "local_hit");
    tree.remove("data/b.sql").write("data/a.sql", "1").write("src/in.txt", "in");
    result(&unit, "local_hit");
    // A declaration that cannot be read makes the package uncacheable (KEY-04).
    tree.write("kache.toml", "extra_inputs = 5\n");
    result(&unit, "passthrough");
}

#[test]
fn key_21_variables_of_the_configuration_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/env.rs", "fn main() {}");
    let unit = Unit::bin(&home, &tree, "env");
    unit.misses();
    let unit = unit.env("KACHE_KEY_ENV_VARS", "BUILD_ID");
    unit.compare();
    unit.clone().env("BUILD_ID", "1").misses();
    unit.clone().env("BUILD_ID", "").misses();
    unit.clone().env("BUILD_ID", "1").hits();
    unit.hits();
}

#[test]
fn key_22_the_same_inputs_give_the_same_digests() {
    let one = Home::new();
    let two = Home::new();
    let digests = |home: &Home, order: [usize; 3]| {
        let tree = home.tree("ws");
        let files = [
            ("src/z.rs", "pub const Z: u8 = 1;"),
            ("src/y.rs", "pub const Y: u8 = 1;"),
            ("src/det.rs", "mod z; mod y; pub fn f() -> u8 { z::Z + y::Y }"),
        ];
        for index in order {
            tree.write(files[index].0, files[index].1);
        }
        let unit = Unit::lib(home, &tree, "det").env("A", "1").env("B", "2");
        let call = unit.kache().ok().only_call().clone();
        (call.query, call.action)
    };
    let first = digests(&one, [0, 1, 2]);
    assert!(!first.0.is_empty() && !first.1.is_empty());
    assert_eq!(digests(&two, [2, 1, 0]), first, "another store, another daemon, another place");
    one.stop();
    one.start();
    assert_eq!(digests(&one, [1, 2, 0]), first, "another daemon");
}

#[test]
fn dmn_03_when_disabled_kache_only_removes_incremental() {
    for (name, value) in [("KACHE_DISABLED", "1"), ("KACHE_DAEMON", "never")] {
        let home = Home::new().with(name, value);
        let tree = project::mini(&home, "a");
        home.cargo(&tree, &["build"]).ok();
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        let left = fs::read_dir(tree.join("target/debug/incremental")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{name}: results of an incremental compile never repeat");
        home.cargo(&tree, &["build"]).ok().expect_silent();
    }
}
