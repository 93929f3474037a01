/// Defines a test of an async function for each database: `name::sqlite` and `name::postgres`.
///
/// Its [`TestDatabase`](crate::testing::TestDatabase) is rolled back at the end: all units of work
/// run in savepoints of one transaction, one after the other.
///
/// ```ignore
/// db_test! {
///     async fn a_deleted_name_can_be_used_again(db: TestDatabase) { … }
/// }
/// ```
///
/// A test that needs more gets a database of its own, and states why:
///
/// ```ignore
/// db_test! {
///     committed("several writers at once")
///     async fn of_many_that_want_one_name_one_gets_it(db: TestDatabase) { … }
/// }
/// ```
///
/// Any other type creates what it needs in `new(kind)`.
#[macro_export]
macro_rules! db_test {
    (
        $(#[$attribute:meta])*
        async fn $name:ident($db:ident: TestDatabase) $body:block
    ) => {
        $crate::db_test!(@both $(#[$attribute])* $name, $db, TestDatabase, rolled_back, $body);
    };
    (
        committed($why:literal)
        $(#[$attribute:meta])*
        async fn $name:ident($db:ident: TestDatabase) $body:block
    ) => {
        $crate::db_test!(@both $(#[$attribute])* $name, $db, TestDatabase, new, $body);
    };
    (
        $(#[$attribute:meta])*
        async fn $name:ident($db:ident: $ty:ty) $body:block
    ) => {
        $crate::db_test!(@both $(#[$attribute])* $name, $db, $ty, new, $body);
    };
    (
        @both $(#[$attribute:meta])*
        $name:ident, $db:ident, $ty:ty, $new:ident, $body:block
    ) => {
        mod $name {
            #[allow(unused_imports, clippy::allow_attributes, reason = "what the test needs")]
            use super::*;

            async fn run($db: $ty) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(<$ty>::$new($crate::DatabaseKind::Sqlite).await).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run(<$ty>::$new($crate::DatabaseKind::Postgres).await).await;
            }
        }
    };
}
