//! The secret of a local service: made at the first start, kept where only its owner reads it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;

const FOLDER: &str = ".fireflow";
const FILE: &str = "jwt-secret";
const BYTES: usize = 32;

/// The secret below the current folder; made where there is none.
pub(super) fn local() -> anyhow::Result<Vec<u8>> {
    in_folder(Path::new(FOLDER))
}

fn in_folder(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(secret) if secret.trim_ascii().len() >= BYTES => {
            return Ok(secret.trim_ascii().to_vec());
        }
        Ok(_) => anyhow::bail!("{} is too short; delete it, and another is made", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    make_folder(folder).with_context(|| folder.display().to_string())?;
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Under a name of its own first: who reads meanwhile sees all of it or nothing. Linked, not
    // renamed: of two that start at once the second takes the first one's.
    let draft = folder.join(format!("{FILE}.{}", std::process::id()));
    write_private(&draft, &text).with_context(|| draft.display().to_string())?;
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft).with_context(|| draft.display().to_string())?;
    match linked {
        Ok(()) => Ok(text.into_bytes()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => in_folder(folder),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(FOLDER);
        let first = in_folder(&folder).unwrap();
        assert_eq!(first.len(), 2 * BYTES);
        assert_eq!(in_folder(&folder).unwrap(), first);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn many_that_start_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(FOLDER);
        let secrets: Vec<Vec<u8>> = std::thread::scope(|scope| {
            // Drafts are named by process; one thread makes it while the others read.
            let first = scope.spawn(|| in_folder(&folder).unwrap());
            let first = first.join().unwrap();
            let others: Vec<_> =
                (0..8).map(|_| scope.spawn(|| in_folder(&folder).unwrap())).collect();
            let mut all = vec![first];
            all.extend(others.into_iter().map(|other| other.join().unwrap()));
            all
        });
        assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
