//! Users and groups by name: looked up in the system's files, else by `getent`, which knows directories
//! on the network too.

use std::process::Command;

/// Why nobody can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OwnerError {
    /// No such user.
    #[error("no user of this system has the name `{0}`")]
    NoUser(String),
    /// No such group.
    #[error("no group of this system has the name `{0}`")]
    NoGroup(String),
    /// A group without a user.
    #[error("a group needs a `user` beside it")]
    GroupAlone,
}

/// The numbers of a user and a group; the user's first group where none is named. `None` if neither
/// is.
///
/// # Errors
/// One of them is not there.
pub(crate) fn find(
    user: Option<&str>,
    group: Option<&str>,
) -> Result<Option<(u32, u32)>, OwnerError> {
    let Some(user) = user else {
        return match group {
            None => Ok(None),
            Some(_) => Err(OwnerError::GroupAlone),
        };
    };
    let no_user = || OwnerError::NoUser(user.to_owned());
    let entry = entry("passwd", "/etc/passwd", user);
    let fields: Vec<&str> = entry.iter().flat_map(|line| line.split(':')).collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let uid = number(2)
        .or_else(|| user.parse().ok())
        .ok_or_else(no_user)?;
    let gid = match group {
        None => number(3).ok_or_else(no_user)?,
        Some(group) => gid(group)?,
    };
    Ok(Some((uid, gid)))
}

fn gid(group: &str) -> Result<u32, OwnerError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let entry = entry("group", "/etc/group", group);
    let number = entry.and_then(|line| line.split(':').nth(2)?.parse().ok());
    number.ok_or_else(|| OwnerError::NoGroup(group.to_owned()))
}

/// The line of a name, or of a number in the third field.
fn entry(database: &str, file: &str, wanted: &str) -> Option<String> {
    let of = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(wanted) || fields.nth(1) == Some(wanted)
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    if let Some(line) = text.lines().find(of) {
        return Some(line.to_owned());
    }
    if wanted.starts_with('-') {
        return None;
    }
    let asked = Command::new("getent").args([database, wanted]).output();
    let text = String::from_utf8(asked.ok()?.stdout).ok()?;
    text.lines().find(of).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        assert_eq!(find(None, None), Ok(None));
        assert_eq!(find(Some("root"), None), Ok(Some((0, 0))));
        assert_eq!(find(Some("0"), None), Ok(Some((0, 0))));
        assert_eq!(find(Some("root"), Some("root")), Ok(Some((0, 0))));
        assert_eq!(find(Some("root"), Some("77")), Ok(Some((0, 77))));
        assert_eq!(find(Some("4242"), Some("77")), Ok(Some((4242, 77))));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let nobody = "no-such-one";
        assert_eq!(
            find(Some(nobody), None),
            Err(OwnerError::NoUser(nobody.to_owned()))
        );
        assert_eq!(
            find(Some("root"), Some(nobody)),
            Err(OwnerError::NoGroup(nobody.to_owned()))
        );
        assert_eq!(find(None, Some("root")), Err(OwnerError::GroupAlone));
    }
}
