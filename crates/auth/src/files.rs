//! The files that the service's trust is read from, and how their contents are applied.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Key, Revocations, Secret, TokenRules, Trust, public_keys, secret_lines};

/// The largest size of such a file, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// How long the keys and secrets of a file stay trusted after the file becomes unreadable or proves
/// nothing. The grace period is long enough to fix whatever writes the file, and short enough that
/// a leaked key does not stay trusted because of it.
pub const UNPROVEN_GRACE: Duration = Duration::from_secs(300);

/// The files and rules that trust is read from.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    /// HS256 secrets. If there is a file of secrets, its contents when the settings were read.
    pub secrets: Vec<Secret>,
    /// The file of HS256 secrets, one per line.
    pub secret_file: Option<PathBuf>,
    /// The file of public keys.
    pub public_keys: Option<PathBuf>,
    /// The file of revocations.
    pub revoked: Option<PathBuf>,
    /// The rules that tokens must fulfill.
    pub rules: TokenRules,
    /// Whether guessable secrets are accepted, with a warning.
    pub takes_weak_secrets: bool,
    /// How long the keys and secrets of a file stay trusted after the file becomes unreadable or
    /// proves nothing.
    pub grace: Duration,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFile {
    /// HS256 secrets.
    Secrets,
    /// Public keys.
    PublicKeys,
    /// Refused tokens.
    Revocations,
}

impl KeyFile {
    /// All files.
    pub const ALL: [Self; 3] = [Self::Secrets, Self::PublicKeys, Self::Revocations];

    /// The setting that names the file.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Secrets => "FIREFLOW_JWT_SECRET_FILE",
            Self::PublicKeys => "FIREFLOW_JWT__PUBLIC_KEYS",
            Self::Revocations => "FIREFLOW_JWT__REVOKED_FILE",
        }
    }

    /// The file's name in health and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::PublicKeys => "public_keys",
            Self::Revocations => "revocations",
        }
    }
}

/// The contents of the files that are in force.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) secrets: Vec<Secret>,
    pub(super) public: Vec<Key>,
    pub(super) revoked: Revocations,
}

impl Parts {
    /// How many entries of a file are in force.
    pub(super) fn count(&self, file: KeyFile) -> usize {
        match file {
            KeyFile::Secrets => self.secrets.len(),
            KeyFile::PublicKeys => self.public.len(),
            KeyFile::Revocations => self.revoked.len(),
        }
    }
}

/// Problems with a file that was accepted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Entries that cannot be used.
    pub(super) faults: Vec<String>,
    /// Entries that can be used but should be changed, and entries that are left out on purpose.
    pub(super) warnings: Vec<String>,
}

impl KeyFiles {
    /// Reads all files.
    ///
    /// # Errors
    /// Returns the first fault, with the setting's name but never a key.
    pub fn read(&self) -> Result<Trust, String> {
        let mut parts = Parts {
            secrets: if self.secret_file.is_some() { Vec::new() } else { self.secrets.clone() },
            public: Vec::new(),
            revoked: Revocations::default(),
        };
        for file in KeyFile::ALL {
            let Some(path) = self.path(file) else { continue };
            let setting = file.setting();
            let taken = content(path).and_then(|content| {
                let mut notes = self.take(file, &content.bytes, &mut parts)?;
                notes.warnings.extend(content.warning);
                if file == KeyFile::Revocations && content.bytes.trim_ascii().is_empty() {
                    let why = "is empty, so nothing is revoked: if this is intended, add a line `# \
                               none`";
                    notes.warnings.push(why.to_owned());
                }
                Ok(notes)
            });
            let Notes { faults, warnings } = taken.map_err(|why| format!("{setting}: {why}"))?;
            if let Some(fault) = faults.first() {
                return Err(format!("{setting}: {fault}"));
            }
            for warning in warnings {
                tracing::warn!(setting, "{warning}");
            }
        }
        Ok(self.trust(&parts))
    }

    /// The path of a file, if it is set.
    pub(super) fn path(&self, file: KeyFile) -> Option<&Path> {
        match file {
            KeyFile::Secrets => self.secret_file.as_deref(),
            KeyFile::PublicKeys => self.public_keys.as_deref(),
            KeyFile::Revocations => self.revoked.as_deref(),
        }
    }

    /// Replaces what is in force of a file with what its text proves. Returns an error if the text
    /// proves nothing. A file of secrets always proves something: a secret that it does not contain
    /// is no longer trusted.
    pub(super) fn take(
        &self,
        file: KeyFile,
        bytes: &[u8],
        parts: &mut Parts,
    ) -> Result<Notes, String> {
        match file {
            KeyFile::Secrets => {
                let lines = secret_lines(bytes, self.takes_weak_secrets);
                parts.secrets = lines.secrets;
                Ok(Notes { faults: lines.faults, warnings: lines.warnings })
            }
            KeyFile::PublicKeys => {
                let read = public_keys(text(bytes)?)?;
                parts.public = read.keys;
                let left_out = read.left_out.into_iter().map(|why| format!("{why}; it is ignored"));
                Ok(Notes { faults: read.faults, warnings: left_out.collect() })
            }
            KeyFile::Revocations => {
                let (revoked, faults) = Revocations::read(text(bytes)?);
                parts.revoked = revoked;
                Ok(Notes { faults, warnings: Vec::new() })
            }
        }
    }

    pub(super) fn trust(&self, parts: &Parts) -> Trust {
        let Parts { secrets, public, revoked } = parts.clone();
        Trust::new(secrets, public, self.rules.clone(), revoked)
    }
}

/// A file's bytes as text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16: save it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The text of a small file, without a byte order mark. Unlike reading a pipe, this never waits for
/// a writer.
///
/// # Errors
/// Returns the reason if the file cannot be read.
pub fn file_text(path: &Path) -> Result<String, String> {
    let content = content(path)?;
    text(&content.bytes).map(str::to_owned).map_err(|why| format!("{} {why}", path.display()))
}

/// The text of a file or pipe, without a byte order mark.
///
/// # Errors
/// Returns the reason if it cannot be read.
pub fn piped_text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    text(&bytes).map(str::to_owned).map_err(|why| format!("{shown} {why}"))
}

/// The contents of a file.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) warning: Option<String>,
}

/// Reads a file. Unlike reading a pipe, this never waits for a writer.
pub(super) fn content(path: &Path) -> Result<Content, String> {
    let shown = path.display();
    let fault = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let metadata = std::fs::metadata(path).map_err(fault)?;
    if !metadata.is_file() {
        return Err(format!("{shown} cannot be read: it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fault)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(format!("{shown} is larger than {MAX_BYTES} bytes"));
    }
    let warning = is_writable_by_others(&metadata)
        .then(|| format!("{shown} can be written by everyone: run `chmod o-w` on it"));
    Ok(Content { bytes, warning })
}

#[cfg(unix)]
fn is_writable_by_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o002 != 0
}

#[cfg(not(unix))]
fn is_writable_by_others(_metadata: &std::fs::Metadata) -> bool {
    false
}
