//! The role map, which assigns roles to an identity provider's groups, in three spellings.

use std::fmt;

use fireflow_domain::actor::Role;
use fireflow_domain::text::excerpt;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::RoleMap;

/// The most groups in a map.
const MAX_GROUPS: usize = 1_000;

/// Reads a role map such as `fw-admins=admin,fw-operators=editor`. For names with commas it is a
/// JSON object: `{"CN=fw, admins": "admin", "CN=ops": ["editor", "health_check"]}`. A table in the
/// configuration file becomes such an object too.
///
/// # Errors
/// Returns the fault of the map, and what would be right.
pub fn role_map(text: &str) -> Result<RoleMap, String> {
    let pairs = if text.starts_with('{') { from_json(text)? } else { from_list(text)? };
    if pairs.is_empty() {
        return Err("names no group, so nobody would have a role".to_owned());
    }
    if pairs.len() > MAX_GROUPS {
        return Err(format!("names {} groups; at most {MAX_GROUPS} are allowed", pairs.len()));
    }
    let mut known = Vec::with_capacity(pairs.len());
    for (group, role) in pairs {
        if group.is_empty() {
            return Err("names a group without a name".to_owned());
        }
        let role = Role::parse(&role)
            .ok_or_else(|| format!("`{}` is not a role of FireFlow", excerpt(&role)))?;
        known.push((group, role));
    }
    Ok(known.into_iter().collect())
}

fn from_list(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |word: &str| {
        // A group's name may contain `=`, as names in directories do; a role's name does not.
        let (group, role) = word.rsplit_once('=').ok_or(
            "must be `GROUP=ROLE` pairs, separated by commas (`fw-admins=admin`), or JSON if names \
             contain commas: `{\"CN=fw, admins\": \"admin\"}`",
        )?;
        Ok((group.trim().to_owned(), role.trim().to_owned()))
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(pair).collect()
}

fn from_json(text: &str) -> Result<Vec<(String, String)>, String> {
    let Groups(groups) = serde_json::from_str(text).map_err(|error| {
        format!("must be an object of groups, each with its role or roles: {error}")
    })?;
    let mut names: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    }) {
        return Err(format!("names the group `{}` twice", excerpt(twice)));
    }
    let flat = groups
        .into_iter()
        .flat_map(|(name, Roles(roles))| roles.into_iter().map(move |role| (name.clone(), role)));
    Ok(flat.collect())
}

/// An object's members in their order, so that duplicates can be detected.
struct Groups(Vec<(String, Roles)>);

/// One role or several.
struct Roles(Vec<String>);

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Groups;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Groups, A::Error> {
                let mut groups = Vec::new();
                while let Some(member) = members.next_entry()? {
                    groups.push(member);
                }
                Ok(Groups(groups))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "a role must be a text, and several roles an array of texts")]
        enum Spelling {
            One(String),
            Several(Vec<String>),
        }
        Ok(Self(match Spelling::deserialize(deserializer)? {
            Spelling::One(role) => vec![role],
            Spelling::Several(roles) => roles,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, Role)]) -> RoleMap {
        pairs.iter().map(|(group, role)| ((*group).to_owned(), *role)).collect()
    }

    #[test]
    fn groups_stand_for_roles() {
        let fault = role_map("fw-admins=admin, cn=ops,ou=x=editor").unwrap_err();
        assert!(fault.contains("`ops` is not a role"), "{fault}");
        let read = role_map("fw-admins=admin, cn=ops=editor,").unwrap();
        assert_eq!(read, map(&[("fw-admins", Role::Admin), ("cn=ops", Role::Editor)]));
        assert_eq!(read.group_of(Role::Editor), Some("cn=ops"));
        let both = role_map("ops=editor,ops=health_check").unwrap();
        assert_eq!(both.roles_of("ops"), [Role::Editor, Role::HealthCheck]);
        for bad in ["admin", ",", "=admin", " = admin", "{}", "a=root"] {
            assert!(role_map(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_with_commas_and_equals_signs_are_written_in_json() {
        let read = role_map(
            r#"{"CN=fw, admins,OU=x": "admin", "a=b": ["editor", "health_check"], "C N": "viewer"}"#,
        );
        let read = read.unwrap();
        assert_eq!(read.roles_of("CN=fw, admins,OU=x"), [Role::Admin]);
        assert_eq!(read.roles_of("a=b"), [Role::Editor, Role::HealthCheck]);
        assert_eq!(read.roles_of("C N"), [Role::Viewer]);
        assert!(read.roles_of("CN=fw").is_empty() && read.roles_of("admin").is_empty());
        for (bad, word) in [
            (r#"{"a": "admin", "a": "viewer"}"#, "the group `a` twice"),
            (r#"{"a": "root"}"#, "`root` is not a role"),
            (r#"{"a": 1}"#, "a role must be a text"),
            (r#"{"": "admin"}"#, "without a name"),
            (r#"{"a": "admin""#, "must be an object"),
            (r#"{"a": []}"#, "names no group"),
        ] {
            let fault = role_map(bad).unwrap_err();
            assert!(fault.contains(word), "{fault}");
        }
    }
}
