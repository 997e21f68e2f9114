//! Migrations that become part of the program.

use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

fn main() {
    let found: Vec<Box<dyn Migration<diesel::sqlite::Sqlite>>> =
        MIGRATIONS.migrations().expect("the migrations are sound");
    for migration in found {
        println!("{}", migration.name());
    }
    println!("{:?}", format!("{:?}", std::mem::size_of_val(&MIGRATIONS)));
}
