//! The source of a file: a path or the standard input, compressed or not.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// The size of the read buffer, in bytes.
const BUFFER_BYTES: usize = 128 * 1024;
/// The most bytes that are read ahead to detect a format.
const MAX_FIRST_BYTES: usize = 64 * 1024;
/// The first bytes of a gzip member (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An opened file, decompressed, without a byte order mark.
pub struct Source {
    /// The whole content, from its first byte.
    pub reader: Box<dyn BufRead + Send>,
    /// The beginning of the content, which `reader` also yields: up to the end of the first line
    /// that is not a comment, or 64 KiB, or the whole content. For [`sniff`](crate::sniff) and
    /// [`FlowLog::with_columns`](crate::FlowLog::with_columns).
    pub first: Vec<u8>,
    /// The number of bytes read so far from the file as it is stored, compressed or not.
    pub read: Arc<AtomicU64>,
    /// The size of the stored file in bytes; none if it is unknown, as for the standard input or a
    /// pipe.
    pub total: Option<u64>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("read", &self.read)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

/// Opens a file; `-` is the standard input. Content that begins with the magic number of gzip is
/// decompressed, including all further members.
///
/// # Errors
/// Returns an error if the file cannot be opened or its beginning cannot be read.
pub fn open(path: &Path) -> io::Result<Source> {
    if path.as_os_str() == "-" {
        return source(io::stdin(), None);
    }
    let file = File::open(path)?;
    let about = file.metadata()?;
    let total = about.is_file().then_some(about.len());
    source(file, total)
}

fn source(input: impl Read + Send + 'static, total: Option<u64>) -> io::Result<Source> {
    let read = Arc::new(AtomicU64::new(0));
    let mut input = Counted { input, read: Arc::clone(&read) };
    let mut magic = Vec::new();
    input.by_ref().take(2).read_to_end(&mut magic)?;
    let is_compressed = magic == GZIP_MAGIC;
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(input));
    let mut rest: Box<dyn BufRead + Send> = if is_compressed {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
    } else {
        Box::new(whole)
    };
    let mut first = Vec::new();
    while first.len() < MAX_FIRST_BYTES && !has_first_line(&first) {
        let chunk = match rest.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            break;
        }
        let wanted = chunk.len().min(MAX_FIRST_BYTES - first.len());
        first.extend(chunk.iter().take(wanted));
        rest.consume(wanted);
    }
    if first.starts_with(BYTE_ORDER_MARK) {
        first.drain(..BYTE_ORDER_MARK.len());
    }
    let reader = Box::new(Cursor::new(first.clone()).chain(rest));
    Ok(Source { reader, first, read, total })
}

/// Whether the text contains a whole line that is neither blank nor a comment.
fn has_first_line(first: &[u8]) -> bool {
    let mut lines = first.split(|byte| *byte == b'\n');
    // The text after the last line feed is not a whole line.
    lines.next_back();
    lines.any(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"#"))
}

/// Counts the bytes that are read.
struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn compressed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn opened(content: &[u8]) -> Source {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        open(file.path()).unwrap()
    }

    fn all_of(mut source: Source) -> Vec<u8> {
        let mut all = Vec::new();
        source.reader.read_to_end(&mut all).unwrap();
        assert_eq!(source.total, Some(source.read.load(Ordering::Relaxed)));
        all
    }

    #[test]
    fn a_file_is_read_as_it_is_or_decompressed() {
        let text = b"first\nsecond\n".repeat(100_000);
        assert_eq!(all_of(opened(&text)), text);
        assert_eq!(all_of(opened(&compressed(&text))), text);
        assert_eq!(all_of(opened(b"")), b"");
        assert_eq!(all_of(opened(b"\x1f")), b"\x1f");
    }

    #[test]
    fn all_members_of_a_compressed_file_are_read() {
        let both = [compressed(b"one\n"), compressed(b"two\n")].concat();
        assert_eq!(all_of(opened(&both)), b"one\ntwo\n");
    }

    #[test]
    fn a_file_that_ends_within_its_compression_is_an_error() {
        let mut cut = compressed(&b"some line\n".repeat(50_000));
        cut.truncate(cut.len() - 20);
        let mut source = opened(&cut);
        let error = source.reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_beginning_is_there_to_look_at_without_its_byte_order_mark() {
        let source = opened(b"\xef\xbb\xbfa,b\n1,2\n");
        assert!(source.first.starts_with(b"a,b\n"));
        assert_eq!(all_of(source), b"a,b\n1,2\n");
        let long = opened(&b"x".repeat(MAX_FIRST_BYTES * 3));
        assert_eq!(long.first.len(), MAX_FIRST_BYTES);
    }

    #[test]
    fn a_beginning_is_known_with_its_first_line_that_is_no_comment() {
        assert!(!has_first_line(b""));
        assert!(!has_first_line(b"\n#separator \\x09\n#fields"));
        assert!(!has_first_line(b"#fields\n1.0"));
        assert!(has_first_line(b"#fields\n1.0\n"));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(open(folder.path()).is_err());
    }
}
