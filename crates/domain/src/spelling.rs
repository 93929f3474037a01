//! Suggestions for misspelt words.

use strsim::levenshtein;

/// The longest word that is compared, in characters: the search is quadratic.
const MAX_CHARS: usize = 64;

/// The known word nearest to a misspelt one; none if no known word is near enough. Known words must
/// be in lower case. A word of more than 64 characters is near to none.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let chars = word.chars().count();
    if chars > MAX_CHARS {
        return None;
    }
    let word = word.to_lowercase();
    // A short word may differ in one letter only: `dst` does not mean `at`.
    let far = if chars <= 3 { 1 } else { chars / 3 + 1 };
    known
        .map(|candidate| (levenshtein(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_words_are_told_the_nearest() {
        let known = ["protocols", "sources", "ports", "enabled"];
        let nearest = |word| nearest(word, known.into_iter());
        assert_eq!(nearest("protocl"), Some("protocols"));
        assert_eq!(nearest("Sources"), Some("sources"));
        assert_eq!(nearest("port"), Some("ports"));
        assert_eq!(nearest("negate_sources"), None);
        assert_eq!(super::nearest("dst", ["at", "dsts"].into_iter()), Some("dsts"));
        assert_eq!(super::nearest("dst", ["at"].into_iter()), None);
        assert_eq!(nearest(&"x".repeat(1_000)), None);
    }
}
