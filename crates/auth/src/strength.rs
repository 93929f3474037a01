//! Estimates how hard a secret is to guess, with a word list and a few kinds of patterns. `zxcvbn`
//! would add 30,000 words and a megabyte, is made for passwords of ten characters, and reads at
//! most a hundred. Here the only question is whether a text of at least 32 bytes came from a
//! generator.

use super::secrets::{from_base64, from_hex};

/// The fewest bits of a secret outside `local`. `openssl rand -hex 16` has 128.
pub(super) const MIN_BITS: f64 = 96.0;
/// How many bytes of a secret are examined. More bytes never reduce the estimate, and a secret that
/// is still weak at this length is refused.
const MAX_BYTES: usize = 256;

/// The shortest part that counts as a repetition, a sequence or a word.
const MIN_PART: usize = 3;
/// The cost of a word in bits: roughly the size of the list, and the spellings.
const WORD_BITS: f64 = 10.0;
/// The cost of a keyboard row.
const ROW_BITS: f64 = 8.0;
/// The cost of the second letter of a frequent pair.
const PAIR_BITS: f64 = 2.0;
/// The cost of the first letter of a word.
const FIRST_BITS: f64 = 4.0;

/// How many bits a guesser needs who knows words, keyboard rows, sequences, repetitions and the
/// structure of words. It is the least over all ways to write the text with these. It also covers
/// the base64 or hexadecimal form of such a text.
pub(super) fn bits(secret: &[u8]) -> f64 {
    let own = bits_of(secret);
    let hidden = [from_hex(secret), from_base64(secret)].into_iter().flatten();
    hidden.filter(|bytes| is_text(bytes)).map(|bytes| bits_of(&bytes) + 1.0).fold(own, f64::min)
}

/// Random bytes are hardly ever all printable.
fn is_text(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\n')
}

fn bits_of(secret: &[u8]) -> f64 {
    let text = secret.get(..MAX_BYTES).unwrap_or(secret);
    let literal = literal_bits(text);
    let folded: Vec<u8> = text.to_ascii_lowercase();
    let plain: Vec<u8> = folded.iter().map(|byte| unleet(*byte)).collect();
    // The fewest bits of each prefix.
    let mut least = vec![f64::INFINITY; text.len() + 1];
    if let Some(first) = least.first_mut() {
        *first = 0.0;
    }
    for at in 0..text.len() {
        let before = least.get(at).copied().unwrap_or(f64::INFINITY);
        let mut offer = |length: usize, cost: f64| {
            if let Some(known) = least.get_mut(at + length) {
                *known = known.min(before + cost);
            }
        };
        let pair = at.checked_sub(1).and_then(|one| text.get(one..=at));
        offer(1, pair.and_then(pair_bits).unwrap_or(literal).min(literal));
        for length in MIN_PART..=repeated(&folded, at) {
            offer(length, log2(at + 1) + log2(length) + 2.0);
        }
        for length in MIN_PART..=sequence(&folded, at) {
            offer(length, literal + log2(length) + 3.0);
        }
        for length in MIN_PART..=row(&folded, at) {
            offer(length, ROW_BITS + log2(length));
        }
        for spelling in [&folded, &plain] {
            for length in words(spelling, at) {
                offer(length, WORD_BITS);
            }
        }
    }
    least.last().copied().unwrap_or_default()
}

fn log2(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX)).log2()
}

/// The cost of an unpredictable character, by the character classes in the text.
fn literal_bits(text: &[u8]) -> f64 {
    let has = |is: fn(&u8) -> bool| text.iter().any(is);
    let mut others: Vec<u8> =
        text.iter().copied().filter(|it| !it.is_ascii_alphanumeric()).collect();
    others.sort_unstable();
    others.dedup();
    let beyond_hex = has(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit());
    let letters = if beyond_hex { 26 } else { 6 };
    let classes = [
        (has(u8::is_ascii_digit), 10),
        (has(u8::is_ascii_lowercase), letters),
        (has(u8::is_ascii_uppercase), letters),
        (true, others.len()),
    ];
    let alphabet: usize =
        classes.iter().filter(|(is_there, _)| *is_there).map(|(_, size)| size).sum();
    log2(alphabet.max(2))
}

fn unleet(byte: u8) -> u8 {
    match byte {
        b'0' => b'o',
        b'1' | b'!' => b'i',
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        other => other,
    }
}

/// How much of the text from a position on repeats an earlier part, overlapping or not.
fn repeated(text: &[u8], at: usize) -> usize {
    (0..at).map(|from| common(text, from, at)).max().unwrap_or_default()
}

fn common(text: &[u8], one: usize, other: usize) -> usize {
    let [one, other] = [one, other].map(|from| text.get(from..).unwrap_or_default());
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The length of a sequence with steps of the same size, such as `abc`, `111`, `8642`.
fn sequence(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let step = |pair: &[u8]| match pair {
        [one, other] => i16::from(*other) - i16::from(*one),
        _ => i16::MAX,
    };
    let mut steps = rest.windows(2).map(step);
    match steps.next() {
        Some(first @ -2..=2) => 2 + steps.take_while(|step| *step == first).count(),
        _ => 1,
    }
}

const ROWS: [&str; 8] = [
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "azertyuiop",
    "qwertzuiop",
    "1234567890",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "!@#$%^&*()",
];

/// The length of the keyboard row that begins at a position, in either direction.
fn row(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let along = |keys: Vec<u8>| {
        let from = rest.first().and_then(|first| keys.iter().position(|key| key == first));
        from.map_or(0, |from| keys.iter().skip(from).zip(rest).take_while(|(a, b)| a == b).count())
    };
    let both = ROWS.iter().flat_map(|keys| [keys.bytes().collect(), keys.bytes().rev().collect()]);
    both.map(along).max().unwrap_or_default()
}

/// The lengths of the listed words that begin at a position.
fn words(text: &[u8], at: usize) -> impl Iterator<Item = usize> {
    let rest = text.get(at..).unwrap_or_default();
    WORDS.split_ascii_whitespace().filter(|word| rest.starts_with(word.as_bytes())).map(str::len)
}

/// The cost of the second character of a frequent pair in phrases: letters of a word, separators of
/// words, and the first letter of the next word.
fn pair_bits(pair: &[u8]) -> Option<f64> {
    let [one, other] = pair else { return None };
    let is_separator = |byte: u8| matches!(byte, b' ' | b'-' | b'_' | b'.' | b',');
    let is_regular = other.is_ascii_lowercase() && one.is_ascii_alphabetic()
        || one.is_ascii_uppercase() && other.is_ascii_uppercase();
    if is_regular {
        let pair = [one.to_ascii_lowercase(), other.to_ascii_lowercase()];
        let is_known = PAIRS.as_bytes().chunks_exact(3).any(|known| known.starts_with(&pair));
        return is_known.then_some(PAIR_BITS);
    }
    if one.is_ascii_lowercase() && is_separator(*other) {
        return Some(PAIR_BITS);
    }
    (is_separator(*one) && other.is_ascii_lowercase()).then_some(FIRST_BITS)
}

/// The pairs of letters that make up nine tenths of English words.
const PAIRS: &str = "th he in er an re nd at on nt ha es st en ed to it ou ea hi is or ti as te et \
ng of al de se le sa si ar ve ra ld ur ro ri io ic ne me li co ma ce om el ll ch be ec ta la no us il \
di ee ss ac un ot tr fo so po ge lo pe ly ie pr wh ho ai wo ow ir ut em mo rs ay ig ns su ca ke do op \
we id sh ct ul ad ev ts ry ab wi pl ni oo mp am im ap tu av ck gh fi ef ff rm bo ci ol fa ag ei pa sp \
ty bl mi fe pp rt up bu if cr sc na cu ex ep gr nc ua rd lf br ga ov ba da ja gu va ew vi ey nk ob au \
qu od rk ak um ub gi gl ip rn rg mb nn mm tt oc hu wa ys fr ft ks ds ms rl lk lt lu pt og do wn yo my \
";

/// Words that people use in secrets.
const WORDS: &str = "about access account action address admin administrator after again agent all and \
another any apache api app application april are audience august auth authentication authorization \
autumn away back backend bad bar base bank bank batman baz bearer because been before best between big \
bird black block blue book border bravo bucket build but call can cat cert certificate chain change \
changed changeit changeme charlie check client cloud cluster code coffee color come common company \
computer config configuration connect console container control correct credential credentials crypto \
customer dark data database day dead december default delta deny deploy deployment dev develop \
development device digital do docker dog domain dont door down dragon dummy earth east easy editor email \
emergency enable encrypt encryption end engine enter enterprise environment error every example fake \
fall father february field file filter fire firefly fireflow firewall first five flow foo football \
for forever forget fort four fox france friday friend from game gate gateway generate generic get github \
global gold good google great green group guard guest guess hacker hand hard has hash have heart hello \
her here hidden high him his hmac home horse host house how hundred identity important insecure inside \
insert internal internet into issuer its january java jazz job joe john july jump june just jwt jwttoken \
keep key keycloak keys king know kubernetes last late lazy left legacy letmein level life light like line \
linux little live load local localhost lock log login long lorem love machine made mail make man manager \
march master may merlin message midnight monday money monkey month moon more morning mother mouse must my \
mysecret mysql name need network never new next night nine nobody none not nothing november now null \
number october office old one only open openid operator ops or orange order other our out over own owner \
packet paper pass passphrase passwd password path people perfect permit person phrase pilot place plain \
platform please policy portal postgres power present prod product production program project protect \
proxy public pw qa question quick quiet random read ready real red region remember remote replace reset \
rest right ring river root router rule rules run safe same sample saturday save school sea second secret \
secrets secure security see send september server service session set seven shadow shared should sign \
signature signed signing silver simple site six sky small some something spring sql staging standard staple \
star start state station stay still storage store street string strong summer sun sunday super superman \
support sure system table take team temp temporary ten test tester testing text than that the their them \
then there these they thing this three thursday time to todo token tokens top toor tree trust tuesday two \
uat under unique unit unknown until upon user username value vault very viewer wait wall want warning was \
water way we web wednesday week welcome well west what when where which white who why will winter with \
without word work workshop world would write wrong xxx year yellow yes yesterday you your zero zone acme corp inc leak 2020 2021 2022 2023 2024 2025 2026 2027 \
2028 2029 2030 ";

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_generators_make_is_strong_enough() {
        for _ in 0..200 {
            let (short, long) = (random::<16>(), random::<32>());
            let uuid = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| hex(&short[part])).join("-");
            // Fewer lowercase letters look like words now and then: 32 of them roughly once in
            // 10,000.
            let letters = long.iter().chain(&short);
            let letters: String = letters.map(|byte| char::from(b'a' + byte % 26)).collect();
            for secret in [
                hex(&short),
                hex(&short).to_uppercase(),
                hex(&long),
                STANDARD.encode(random::<24>()),
                STANDARD.encode(long),
                URL_SAFE_NO_PAD.encode(long),
                uuid,
                letters,
            ] {
                let bits = bits(secret.as_bytes());
                assert!(bits >= MIN_BITS, "{secret} has {bits}");
            }
        }
    }

    #[test]
    fn words_patterns_and_phrases_are_not() {
        let encoded = STANDARD.encode("this is the secret of our production cluster");
        let in_hex = hex(b"correct horse battery staple");
        for secret in [
            "password password password password",
            "passwordpasswordpasswordpassword",
            "P@ssw0rd-P@ssw0rd-P@ssw0rd-P@ssw0rd",
            "changemechangemechangemechangeme",
            "change-me-to-a-long-random-secret!",
            "please-change-this-secret-in-production",
            "your-256-bit-secret-your-256-bit-secret",
            "this is a very long secret for the firewall",
            "my-super-secret-jwt-signing-key-2026",
            "MySuperSecretJwtSigningKeyForProduction",
            "fireflow-production-secret-2026-11-27",
            "correct horse battery staple correct horse",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789ABCDEF0123456789abcdef",
            "12345678901234567890123456789012",
            "qwertyuiopasdfghjklzxcvbnm1234567890",
            "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.",
            "abcabcabcabcabcabcabcabcabcabcabc1",
            "aB3$aB3$aB3$aB3$aB3$aB3$aB3$aB3$aB3$",
            "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
            "-----------------------------------------",
            "lorem ipsum dolor sit amet consectetur",
            "notre secret pour la production de fireflow",
            "it was the best of times it was the worst",
            "the quick brown fox jumps over the dog",
            encoded.as_str(),
            in_hex.as_str(),
        ] {
            let bits = bits(secret.as_bytes());
            assert!(bits < MIN_BITS, "{secret} has {bits}");
        }
    }
}
