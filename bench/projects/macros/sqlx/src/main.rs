//! Queries that are checked at compile time against what `.sqlx` has of the database, and
//! migrations that become part of the program.

use sqlx::sqlite::SqlitePoolOptions;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), sqlx::Error> {
    for migration in MIGRATIONS.iter() {
        println!("{} {} {}", migration.version, migration.description, migration.sql);
    }
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    MIGRATIONS.run(&pool).await?;
    let people = sqlx::query_file!("queries/people.sql", 0).fetch_all(&pool).await?;
    println!("{}", people.iter().map(|person| format!("{} {}", person.id, person.name)).collect::<String>());
    let count = sqlx::query!("SELECT count(*) AS count FROM person").fetch_one(&pool).await?;
    println!("{}", count.count);
    Ok(())
}
