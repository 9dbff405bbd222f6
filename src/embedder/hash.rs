<<<<<<< HEAD
//! `hash`: feature hashing of words and character n-grams. Offline and deterministic; finds shared words, not meaning.
=======
//! The embedder `hash`: words and parts of words, hashed into a vector. Finds shared words, knows nothing of meaning.
//!
//! What a text becomes never changes: stored vectors must stay comparable with those of a later version. So the
//! hash is written out here (FNV-1a, then a finalizer that spreads its bits), and there is no logarithm or
//! anything else that machines round differently.
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)

use async_trait::async_trait;

use super::{Embedder, Vectors};
<<<<<<< HEAD
use crate::config::model::HashEmbedder;
use crate::error::Result;

/// The hashing trick with a sign from the hash, so that collisions cancel out on average.
///
/// Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009. The vectors are stored
/// by users: they must never change between versions or machines, which a test pins.
=======
use crate::error::Result;

/// Feature hashing with signs into vectors of length one.
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
pub(super) struct Hash {
    dimension: usize,
}

<<<<<<< HEAD
/// A word says more than its parts.
const WORD: f32 = 1.0;
/// Parts of words, with their ends marked, make `tents` near `tent`.
const PART: f32 = 0.25;
/// Words that stand in every English text say next to nothing.
const STOP_WORD: f32 = 0.05;
/// Lengths of the parts, in characters.
const PARTS: std::ops::RangeInclusive<usize> = 3..=5;

const STOP_WORDS: [&str; 40] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "how", "i", "if", "in",
    "is", "it", "my", "not", "of", "on", "or", "so", "that", "the", "their", "then", "there", "this", "to", "was",
    "we", "what", "when", "which", "with", "you",
];

impl Hash {
    pub(super) fn new(settings: &HashEmbedder) -> Self {
        Self { dimension: settings.dimension.max(1) }
    }

    /// Adds the text's vector, of length one, to `data`. A text without a letter or digit gets the first axis,
    /// because a vector of zeros has no direction that cosine could compare.
    fn embed_one(&self, text: &str, word: &mut Vec<char>, data: &mut Vec<f32>) {
        let start = data.len();
        data.resize(start + self.dimension, 0.0);
        let Some(row) = data.get_mut(start..) else { return };
        for token in text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty()) {
            word.clear();
            word.push('<');
            word.extend(token.chars().flat_map(char::to_lowercase));
            word.push('>');
            if is_stop_word(word) {
                add(row, word, STOP_WORD);
                continue;
            }
            add(row, word, WORD);
            for length in PARTS {
                word.windows(length).for_each(|part| add(row, part, PART));
            }
        }
        // The root dampens repetition, as sublinear term frequency does, without a table of counts.
        row.iter_mut().for_each(|x| *x = x.abs().sqrt().copysign(*x));
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x /= norm);
        } else if let Some(first) = row.first_mut() {
            *first = 1.0;
        }
=======
/// Lengths of the parts of a word that count, in characters.
const PARTS: std::ops::RangeInclusive<usize> = 3..=5;

/// Where words are not set off by spaces, single characters and pairs carry meaning too.
const DENSE_PARTS: std::ops::RangeInclusive<usize> = 1..=3;

/// A long word has dozens of parts: at this weight they count about twice what the word itself does.
const PART_WEIGHT: f32 = 0.25;

/// Enough to tell a text of nothing but these from another, too little to make two texts alike.
const STOP_WEIGHT: f32 = 0.1;

const STOP_WORDS: [&str; 52] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "had", "has", "have",
    "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "not", "of", "on", "or", "our", "so", "than",
    "that", "the", "their", "then", "there", "this", "to", "was", "we", "were", "what", "when", "which", "who", "why",
    "will", "with", "you",
];

impl Hash {
    pub(super) fn new(dimension: usize) -> Self {
        Self { dimension: dimension.max(1) }
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
    }
}

#[async_trait]
impl Embedder for Hash {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
<<<<<<< HEAD
        let mut data = Vec::with_capacity(texts.len() * self.dimension);
        let mut word = Vec::new();
        for text in texts {
            self.embed_one(text, &mut word, &mut data);
=======
        let mut data = vec![0.0; texts.len() * self.dimension];
        let mut features = Features::default();
        for (text, row) in texts.iter().zip(data.chunks_exact_mut(self.dimension)) {
            features.collect(text);
            features.project(row);
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
        }
        Ok(Vectors { dimension: self.dimension, data })
    }
}

<<<<<<< HEAD
fn add(row: &mut [f32], feature: &[char], weight: f32) {
    let hash = fnv1a(feature);
    // The sign comes from a bit that the bucket does not depend on.
    let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
    let bucket = (hash & (u64::MAX >> 1)) % row.len().max(1) as u64;
    if let Some(x) = row.get_mut(bucket as usize) {
        *x += sign * weight;
    }
}

/// FNV-1a, 64 bits, over the characters' little-endian bytes, with a final mix (MurmurHash3's) because FNV's high
/// bits, which the sign is taken from, are weak for short input.
fn fnv1a(feature: &[char]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in feature.iter().flat_map(|c| u32::from(*c).to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

/// Whether `word`, between its marks, is one of the stop words.
fn is_stop_word(word: &[char]) -> bool {
    let letters = word.get(1..word.len().saturating_sub(1)).unwrap_or_default();
    STOP_WORDS.iter().any(|stop| stop.len() == letters.len() && stop.chars().eq(letters.iter().copied()))
=======
/// The features of one text; the buffers are used again for the next.
#[derive(Default)]
struct Features {
    hashes: Vec<(u64, f32)>,
    word: String,
    starts: Vec<usize>,
}

impl Features {
    fn collect(&mut self, text: &str) {
        self.hashes.clear();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            self.word.clear();
            self.word.push('<');
            self.word.extend(word.chars().flat_map(char::to_lowercase));
            self.word.push('>');
            let bare = &self.word[1..self.word.len() - 1];
            if STOP_WORDS.contains(&bare) {
                self.hashes.push((fnv1a(WORD, bare), STOP_WEIGHT));
                continue;
            }
            self.hashes.push((fnv1a(WORD, bare), 1.0));
            self.parts();
        }
    }

    /// The parts of `self.word`, its bounds included, so that a beginning differs from a middle.
    fn parts(&mut self) {
        self.starts.clear();
        self.starts.extend(self.word.char_indices().map(|(at, _)| at));
        self.starts.push(self.word.len());
        let dense = self.word.chars().any(|c| matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{3040}'..='\u{9FFF}'));
        for length in if dense { DENSE_PARTS } else { PARTS } {
            for bounds in self.starts.windows(length + 1) {
                let part = bounds.first().zip(bounds.last()).and_then(|(start, end)| self.word.get(*start..*end));
                self.hashes.push((fnv1a(PART, part.unwrap_or_default()), PART_WEIGHT));
            }
        }
    }

    /// Adds up the features, each with the square root of how often it occurs, and scales to length one.
    ///
    /// A text without a word becomes the first axis: cosine knows no zero vector, and a row with an empty
    /// column still needs its point.
    fn project(&mut self, row: &mut [f32]) {
        self.hashes.sort_unstable_by_key(|(hash, _)| *hash);
        for same in self.hashes.chunk_by(|one, other| one.0 == other.0) {
            let Some((hash, weight)) = same.first() else { continue };
            let index = (u128::from(*hash) * row.len() as u128) >> 64;
            let sign = if hash & 1 == 0 { 1.0 } else { -1.0 };
            if let Some(cell) = row.get_mut(index as usize) {
                *cell += sign * weight * (same.len() as f32).sqrt();
            }
        }
        let length = row.iter().map(|cell| cell * cell).sum::<f32>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|cell| *cell /= length);
        } else if let Some(first) = row.first_mut() {
            *first = 1.0;
        }
    }
}

const WORD: u8 = b'w';
const PART: u8 = b'p';

/// 64-bit FNV-1a of `kind` and `text`, and the finalizer of MurmurHash3, as the high bits choose the cell.
fn fnv1a(kind: u8, text: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = std::iter::once(kind).chain(text.bytes());
    let mut hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
}

#[cfg(test)]
mod tests {
<<<<<<< HEAD
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn embed(dimension: usize, texts: &[&str]) -> Vec<Vec<f32>> {
        let hash = Hash::new(&HashEmbedder { dimension });
        let vectors = hash.embed(texts).now_or_never().unwrap().unwrap();
        vectors.rows().map(<[f32]>::to_vec).collect()
    }

    fn similarity(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn shared_words_are_near_and_inflections_nearer_than_strangers() {
        let texts = ["How do I dry a wet tent?", "Drying tents after rain", "Invoices are sent by e-mail"];
        let vectors = embed(384, &texts);
        assert!(similarity(&vectors[0], &vectors[1]) > similarity(&vectors[0], &vectors[2]) + 0.1);
    }

    #[test]
    fn stored_vectors_stay_valid_from_version_to_version() {
        let vectors = embed(8, &["Postgres"]);
        let rounded: Vec<i32> = vectors[0].iter().map(|x| (x * 1000.0).round() as i32).collect();
        assert_eq!(rounded, PINNED);
    }
    const PINNED: [i32; 8] = [-302, 302, 0, 522, 522, 302, -302, -302];

    #[test]
    fn case_and_punctuation_do_not_count() {
        let vectors = embed(64, &["Hello, World!", "hello world"]);
        assert_eq!(vectors[0], vectors[1]);
=======
    use super::*;
    use proptest::prelude::*;

    fn embed(dimension: usize, text: &str) -> Vec<f32> {
        let mut features = Features::default();
        let mut row = vec![0.0; dimension];
        features.collect(text);
        features.project(&mut row);
        row
    }

    fn cosine(one: &str, other: &str) -> f32 {
        embed(384, one).iter().zip(embed(384, other)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn vectors_never_change() {
        // Reckoned by a second implementation, in double precision.
        assert_eq!(fnv1a(WORD, "postgres"), 0xd41a_5e92_8e52_a8c9);
        for (text, expected) in [
            ("Postgres, postgres!", [0.0, 0.301_511_35, 0.301_511_35, -0.904_534_04]),
            ("Übergröße 数据库", [-0.381_000_4, 0.508_000_5, -0.762_000_8, 0.127_000_13]),
        ] {
            let near = embed(4, text).iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
            assert!(near, "{:?}", embed(4, text));
        }
    }

    #[test]
    fn shared_words_are_near_and_others_are_not() {
        let texts = [
            "How do I rotate the password of a replication role?",
            "Passwords of replication roles are rotated with ALTER ROLE.",
            "The oven must be preheated to 220 degrees before the bread goes in.",
            "How do I bake the bread of a village?",
        ];
        assert!(cosine(texts[0], texts[1]) > 0.3, "{}", cosine(texts[0], texts[1]));
        assert!(cosine(texts[0], texts[2]) < 0.15);
        assert!(cosine(texts[0], texts[3]) < cosine(texts[0], texts[1]) / 2.0, "stop words must not decide");
        assert!(cosine("数据库的复制", "复制数据库") > 0.3);
        assert!((cosine("Écoute", "ÉCOUTE") - 1.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_becomes_the_first_axis() {
        for text in ["", "  \n", "!?", "🙂"] {
            assert_eq!(embed(3, text), [1.0, 0.0, 0.0], "{text:?}");
        }
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
    }

    proptest! {
        #[test]
<<<<<<< HEAD
        fn every_text_becomes_a_vector_of_length_one(text in ".{0,200}", dimension in 1..400usize) {
            let vectors = embed(dimension, &[&text]);
            prop_assert_eq!(vectors[0].len(), dimension);
            let norm = similarity(&vectors[0], &vectors[0]);
            prop_assert!((norm - 1.0).abs() < 1e-3, "{}", norm);
=======
        fn every_text_has_a_vector_of_length_one(text in "(?s).{0,200}", dimension in 1usize..2000) {
            let row = embed(dimension, &text);
            let length: f32 = row.iter().map(|cell| cell * cell).sum();
            prop_assert!((length - 1.0).abs() < 1e-4, "{length}");
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
        }
    }
}
