//! The secret of a local service, created at the first start in a file that only its owner can
//! read.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fireflow_auth::{Secret, file_text, secret_lines};

const FOLDER: &str = ".fireflow";
const FILE: &str = "jwt-secret";
const BYTES: usize = 32;

/// The generated secret of a local service.
pub(super) struct LocalSecret {
    /// The secret.
    pub(super) secret: Secret,
    /// Its file, as an absolute path.
    pub(super) file: PathBuf,
    /// Whether it was generated just now: then no running service knows it.
    pub(super) is_new: bool,
}

/// The secret below the current folder; generated if there is none.
pub(super) fn local() -> anyhow::Result<LocalSecret> {
    let folder = Path::new(FOLDER);
    let (secret, is_new) = in_folder(folder)?;
    let file = folder.join(FILE);
    let file = fs::canonicalize(&file).unwrap_or(file);
    Ok(LocalSecret { secret: Secret::new(secret), file, is_new })
}

/// The secret of a folder, and whether it is new.
fn in_folder(folder: &Path) -> anyhow::Result<(Vec<u8>, bool)> {
    let path = folder.join(FILE);
    if let Some(secret) = existing(&path)? {
        return Ok((secret, false));
    }
    make_folder(folder).with_context(|| folder.display().to_string())?;
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system returned no random numbers: {error}"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Written under another name first, so that a reader sees the whole secret or none. Linked, not
    // renamed: if two services start at once, the second uses the first one's secret.
    let draft = folder.join(format!("{FILE}.{}", std::process::id()));
    write_private(&draft, &text).with_context(|| draft.display().to_string())?;
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft).with_context(|| draft.display().to_string())?;
    match linked {
        Ok(()) => Ok((text.into_bytes(), true)),
        // Once: if it is gone again, something else is at work here.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let secret = existing(&path)?.with_context(|| {
                format!("{} was created and deleted repeatedly; start again", path.display())
            })?;
            Ok((secret, false))
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Reads the existing secret; `None` if no file has its name.
fn existing(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(link) if link.is_symlink() && fs::metadata(path).is_err() => bail!(
            "{shown} is a link to an unreachable file; delete it, and the next start creates a \
             secret"
        ),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| shown.to_string()),
    }
    let text = file_text(path).map_err(anyhow::Error::msg)?;
    check_mode(path)?;
    let secret = text.trim_ascii();
    if secret.len() < BYTES {
        bail!("{shown} is too short; delete it, and the next start creates another");
    }
    let lines = secret_lines(secret.as_bytes(), true);
    if let Some(fault) = lines.faults.first() {
        bail!("{shown}: {fault}; delete it, and the next start creates another");
    }
    if secret.contains('\n') {
        bail!(
            "{shown} has several lines but must have one secret; delete it, and the next start \
               creates another"
        );
    }
    Ok(Some(secret.as_bytes().to_vec()))
}

/// Refuses a secret that others can write, and warns about one that others can read.
#[cfg(unix)]
fn check_mode(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let mode = fs::metadata(path).with_context(|| shown.to_string())?.permissions().mode();
    if mode & 0o022 != 0 {
        bail!(
            "{shown} can be written by others (mode {:o}), who can then know it; delete it, and \
             the next start creates another, or run `chmod 600` if nobody else ever could",
            mode & 0o777
        );
    }
    if mode & 0o044 != 0 {
        tracing::warn!("{shown} can be read by others (mode {:o}): `chmod 600` it", mode & 0o777);
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> anyhow::Result<()> {
    Ok(())
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
        let (first, is_new) = in_folder(&folder).unwrap();
        assert_eq!((first.len(), is_new), (2 * BYTES, true));
        assert_eq!(in_folder(&folder).unwrap(), (first, false));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_a_secret_is_refused_and_never_waited_for() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let good = "6f1c0f4b9a52e7d83c41b7a0f95e26d8c3b47a19e05f82d6417c9be8a3d05f72";
        let at = |make: &dyn Fn(&Path)| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE);
            make(&path);
            let read = in_folder(folder.path()).map_err(|error| format!("{error:#}"));
            read.map(|(secret, _)| secret)
        };
        let write = |path: &Path, text: &str, mode: u32| {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (make, word) in
            [(&|path: &Path| symlink("nowhere", path).unwrap()) as &dyn Fn(&Path), &|path| {
                symlink(FILE, path).unwrap()
            }]
            .map(|make| (make, "a link to an unreachable file"))
            .into_iter()
            .chain(
                [(&|path: &Path| fs::create_dir(path).unwrap()) as &dyn Fn(&Path), &|path| {
                    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
                    assert!(made.success());
                }]
                .map(|make| (make, "not a regular file")),
            )
            .chain(
                [(&|path: &Path| write(path, good, 0o666)) as &dyn Fn(&Path), &|path| {
                    write(path, good, 0o620)
                }]
                .map(|make| (make, "can be written by others")),
            )
        {
            let fault = at(make).unwrap_err();
            assert!(fault.contains(word) && fault.contains(FILE), "{fault}");
        }
        for (text, word) in [
            ("short", "too short"),
            ("", "too short"),
            ("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", "in PEM"),
            ("# a comment of more than thirty-two bytes, but no secret", "no secret"),
        ] {
            let fault = at(&|path| write(path, text, 0o600)).unwrap_err();
            assert!(fault.contains(word), "{fault}");
        }
        // A secret that others can only read is accepted with a warning. So is a link to a secret.
        let is_good = Ok(good.as_bytes().to_vec());
        assert_eq!(at(&|path| write(path, good, 0o644)), is_good);
        let linked = at(&|path| {
            let elsewhere = path.with_file_name("elsewhere");
            write(&elsewhere, good, 0o600);
            symlink(&elsewhere, path).unwrap();
        });
        assert_eq!(linked, is_good);
    }

    #[test]
    fn many_that_start_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(FOLDER);
        let secrets: Vec<Vec<u8>> = std::thread::scope(|scope| {
            // Drafts are named by process; one thread makes it while the others read.
            let first = scope.spawn(|| in_folder(&folder).unwrap().0);
            let first = first.join().unwrap();
            let others: Vec<_> =
                (0..8).map(|_| scope.spawn(|| in_folder(&folder).unwrap().0)).collect();
            let mut all = vec![first];
            all.extend(others.into_iter().map(|other| other.join().unwrap()));
            all
        });
        assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
