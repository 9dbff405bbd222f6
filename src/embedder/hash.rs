//! `hash`: feature hashing of words and character n-grams. Offline and deterministic; finds shared
//! words, not meaning.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Account, Budgeted, Embedder, EmbedderKind, Vectors};
use crate::config::{ComponentKind, Problems, Resource};
use crate::error::Result;
use crate::meter::EmbedderMeter;

/// Hashes words and character n-grams into a vector. Finds shared words, knows nothing of meaning.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashEmbedder {
    /// Length of the vectors.
    #[schemars(range(min = 1, max = 65_535))]
    pub dimension: usize,
}

impl ComponentKind for HashEmbedder {
    const TYPE: &'static str = "hash";

    fn review(&self, _problems: &mut Problems<'_, '_>) {}

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { dimension: _ } = self;
        Vec::new()
    }
}

impl EmbedderKind for HashEmbedder {
    fn open(&self, name: &str, account: Option<Account>) -> Result<Arc<dyn Embedder>> {
        let hash = Hash::new(name, self);
        Ok(match account {
            Some(account) => Arc::new(Budgeted::new(hash, account)),
            None => Arc::new(hash),
        })
    }

    fn dimension(&self) -> Option<usize> {
        Some(self.dimension)
    }

    fn is_offline(&self) -> bool {
        true
    }
}

/// The hashing trick with a sign from the hash, so that collisions cancel out on average.
///
/// Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009. The vectors
/// are stored by users: they must never change between versions or machines, which a test pins.
pub(super) struct Hash {
    dimension: usize,
    meter: Arc<EmbedderMeter>,
}

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

/// Buffers that are kept from word to word, so that their memory is used again.
#[derive(Default)]
struct Scratch {
    word: Vec<char>,
    /// The hash of the part that begins with each character.
    parts: Vec<u64>,
}

impl Hash {
    pub(super) fn new(name: &str, settings: &HashEmbedder) -> Self {
        Self { dimension: settings.dimension.max(1), meter: Arc::new(EmbedderMeter::new(name)) }
    }

    /// Adds the text's vector, of length one, to `data`. A text without a letter or digit gets the
    /// first axis, because a vector of zeros has no direction that cosine could compare.
    fn embed_one(&self, text: &str, Scratch { word, parts }: &mut Scratch, data: &mut Vec<f32>) {
        let start = data.len();
        data.resize(start + self.dimension, 0.0);
        let Some(row) = data.get_mut(start..) else { return };
        for token in text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty()) {
            word.clear();
            word.push('<');
            word.extend(token.chars().flat_map(char::to_lowercase));
            word.push('>');
            let whole = word.iter().fold(BASIS, |hash, &c| fnv1a(hash, c));
            if is_stop_word(word) {
                add(row, whole, STOP_WORD);
                continue;
            }
            add(row, whole, WORD);
            // A part is the shorter one that begins with it and one character more.
            parts.clear();
            parts.resize(word.len(), BASIS);
            for length in 1..=*PARTS.end() {
                let lasts = word.get(length - 1..).unwrap_or_default();
                parts.truncate(lasts.len());
                parts.iter_mut().zip(lasts).for_each(|(part, &last)| *part = fnv1a(*part, last));
                if PARTS.contains(&length) {
                    parts.iter().for_each(|&part| add(row, part, PART));
                }
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
    }
}

#[async_trait]
impl Embedder for Hash {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        let mut data = Vec::with_capacity(texts.len() * self.dimension);
        let mut scratch = Scratch::default();
        for text in texts {
            self.embed_one(text, &mut scratch, &mut data);
        }
        self.meter.texts.add(texts.len() as u64);
        self.meter.text_bytes.add(texts.iter().map(|text| text.len() as u64).sum());
        Ok(Vectors { dimension: self.dimension, data })
    }

    fn meter(&self) -> Option<Arc<EmbedderMeter>> {
        Some(Arc::clone(&self.meter))
    }

    fn model(&self) -> String {
        format!("hash, {} numbers", self.dimension)
    }

    async fn dimension(&self) -> Result<usize> {
        Ok(self.dimension)
    }
}

fn add(row: &mut [f32], hash: u64, weight: f32) {
    let hash = mix(hash);
    // The sign comes from a bit that the bucket does not depend on.
    let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
    let bucket = (hash & (u64::MAX >> 1)) % row.len().max(1) as u64;
    if let Some(x) = row.get_mut(bucket as usize) {
        *x += sign * weight;
    }
}

/// FNV-1a, 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over the character's four little-endian bytes. A byte of zero only multiplies: most
/// characters take one step.
fn fnv1a(hash: u64, c: char) -> u64 {
    let code = u64::from(c);
    if code <= 0xff {
        return (hash ^ code).wrapping_mul(const { PRIME.wrapping_pow(4) });
    }
    u32::from(c).to_le_bytes().iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// MurmurHash3's final mix, because FNV's high bits, which the sign is taken from, are weak for
/// short input.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

/// Tells if `word`, between its marks, is one of the stop words.
fn is_stop_word(word: &[char]) -> bool {
    let letters = word.get(1..word.len().saturating_sub(1)).unwrap_or_default();
    STOP_WORDS.iter().any(|stop| stop.len() == letters.len() && stop.chars().eq(letters.iter().copied()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn embed(dimension: usize, texts: &[&str]) -> Vec<Vec<f32>> {
        let hash = Hash::new("words", &HashEmbedder { dimension });
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
    }

    /// Computes the sums of a text as they are defined: FNV-1a byte by byte, over the word and each
    /// part by itself. The root and the scaling to length one are still to come.
    fn by_definition(dimension: usize, text: &str) -> Vec<f32> {
        let mut row = vec![0.0; dimension];
        let mut feature = |chars: &[char], weight| {
            let bytes = chars.iter().flat_map(|&c| u32::from(c).to_le_bytes());
            add(&mut row, bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)), weight);
        };
        for token in text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty()) {
            let word: Vec<char> = format!("<{}>", token.to_lowercase()).chars().collect();
            let stop_word = is_stop_word(&word);
            feature(&word, if stop_word { STOP_WORD } else { WORD });
            PARTS.filter(|_| !stop_word).for_each(|length| word.windows(length).for_each(|part| feature(part, PART)));
        }
        row
    }

    proptest! {
        #[test]
        fn words_and_their_parts_are_hashed_as_if_each_stood_alone(text in "[a-cé日𝄞 ]{0,20}|the tent|\\PC{0,60}") {
            // Without sigmas, whose lower case depends on their neighbours.
            prop_assume!(!text.contains('Σ'));
            let vector = &embed(97, &[&text])[0];
            let row = by_definition(97, &text);
            let dampened: Vec<f32> = row.iter().map(|x| x.abs().sqrt().copysign(*x)).collect();
            let norm = dampened.iter().map(|x| x * x).sum::<f32>().sqrt();
            if norm > 0.0 {
                prop_assert_eq!(vector, &dampened.iter().map(|x| x / norm).collect::<Vec<_>>());
            }
        }

        #[test]
        fn every_text_becomes_a_vector_of_length_one(text in ".{0,200}", dimension in 1..400usize) {
            let vectors = embed(dimension, &[&text]);
            prop_assert_eq!(vectors[0].len(), dimension);
            let norm = similarity(&vectors[0], &vectors[0]);
            prop_assert!((norm - 1.0).abs() < 1e-3, "{}", norm);
        }
    }
}
