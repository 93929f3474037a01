//! Runs the stored inputs of the fuzz targets through the checks of those targets.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use fireflow_domain::testing::corpus::faults;
use fireflow_domain::testing::fuzz::{Reader, TARGETS, Target};

#[test]
fn stored_inputs_keep_every_promise_and_are_what_their_names_say() {
    let faults = faults(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"), &TARGETS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Accepts digits, and breaks its promise at the number 7.
const DIGITS: Target = Target {
    name: "digits",
    readers: &[Reader {
        name: "digit",
        check: |text| {
            assert_ne!(text, "7");
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
        },
    }],
};

/// A folder without faults.
fn sound(name: &str) -> PathBuf {
    let fuzz = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus").join(name);
    if fuzz.exists() {
        fs::remove_dir_all(&fuzz).unwrap();
    }
    for (file, text) in [
        ("fuzz_targets/digits.rs", ""),
        ("seeds/digits/digit-good-one", "1"),
        ("seeds/digits/digit-bad-letter", "a"),
        ("regressions/digits/two", "2"),
    ] {
        write(&fuzz, file, text);
    }
    assert_eq!(faults(&fuzz, &[DIGITS]), Vec::<String>::new());
    fuzz
}

fn write(fuzz: &Path, file: &str, text: impl AsRef<[u8]>) {
    let path = fuzz.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_corpus_that_checks_nothing_is_refused() {
    for (folder, expected) in [
        ("seeds/digits", "seeds/digits: nothing is in it"),
        ("seeds", "seeds/digits: targets have one each"),
        ("regressions/digits", "regressions/digits: nothing is in it"),
        ("regressions", "regressions/digits: targets have one each"),
        ("fuzz_targets", "fuzz_targets/digits.rs: targets have one each"),
    ] {
        let fuzz = sound(&format!("without-{}", folder.replace('/', "-")));
        fs::remove_dir_all(fuzz.join(folder)).unwrap();
        if folder.contains('/') {
            fs::create_dir(fuzz.join(folder)).unwrap();
        }
        let faults = faults(&fuzz, &[DIGITS]);
        assert!(faults.iter().any(|it| it.starts_with(expected)), "{folder}: {faults:?}");
    }
    let fuzz = sound("without-bad-ones");
    fs::remove_file(fuzz.join("seeds/digits/digit-bad-letter")).unwrap();
    assert_eq!(faults(&fuzz, &[DIGITS]), ["seeds/digits: no seed is named `digit-bad-…`"]);
}

#[test]
fn an_input_that_fails_or_is_misnamed_is_told() {
    for (file, text, expected) in [
        ("regressions/digits/seven", "7", "`digit` panicked; the panic is logged above"),
        ("seeds/digits/digit-good-seven", "7", "`digit` panicked; the panic is logged above"),
        ("seeds/digits/digit-good-b", "b", "`digit` refuses it"),
        ("seeds/digits/digit-bad-3", "3", "`digit` takes it"),
        ("seeds/digits/digit-good-", "4", "it is not named `reader-good-…` or `reader-bad-…`"),
        ("seeds/digits/letter-good-b", "b", "it is not named `reader-good-…` or `reader-bad-…`"),
        ("seeds/digits/README", "b", "it is not named `reader-good-…` or `reader-bad-…`"),
        ("regressions/digits/one", "1", "it is the same as seeds/digits/digit-good-one"),
    ] {
        let fuzz = sound("one-more");
        write(&fuzz, file, text);
        assert_eq!(faults(&fuzz, &[DIGITS]), [format!("{file}: {expected}")]);
    }
    let fuzz = sound("bytes");
    write(&fuzz, "regressions/digits/bytes", b"\xff");
    assert_eq!(faults(&fuzz, &[DIGITS]), ["regressions/digits/bytes: it is no text in UTF-8"]);
    write(&fuzz, "seeds/letters/a", "a");
    assert!(faults(&fuzz, &[DIGITS]).iter().any(|it| it.starts_with("seeds/letters: targets")));
}
