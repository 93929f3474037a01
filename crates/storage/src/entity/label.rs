//! `firewall_label`, `policy_label`, `rule_label`: the labels of live resources, for searching.
//! They are derived, and never read for an answer.

macro_rules! label_table {
    ($module:ident, $table:literal) => {
        pub(crate) mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub(crate) struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub(crate) owner_id: i64,
                #[sea_orm(primary_key, auto_increment = false)]
                pub(crate) key: String,
                pub(crate) firewall_id: i64,
                pub(crate) value: String,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub(crate) enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

label_table!(of_firewall, "firewall_label");
label_table!(of_policy, "policy_label");
label_table!(of_rule, "rule_label");
