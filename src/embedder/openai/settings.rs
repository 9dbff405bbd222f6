//! The settings of an embedder of type `openai`, and what the host asks of them.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OpenAi;
use crate::config::{ComponentKind, Problems, Resource, Secret, Span};
use crate::embedder::paid::Paid;
use crate::embedder::{Account, Embedder, EmbedderKind};
use crate::error::Result;

/// Any endpoint that speaks OpenAI's `/embeddings`: OpenAI, Ollama, vLLM, TEI.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenAiEmbedder {
    /// Base URL up to and without `/embeddings`, such as `https://api.openai.com/v1`.
    pub url: String,
    /// The model's name.
    #[schemars(length(min = 1))]
    pub model: String,
    /// Sent as bearer token; leave out for servers without one.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Asks the model for vectors of this length (`dimensions`); leave out for the model's own.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default)]
    pub dimension: Option<usize>,
    /// Texts in one request.
    #[schemars(range(min = 1, max = 2048))]
    #[serde(default = "OpenAiEmbedder::default_max_texts")]
    pub max_texts: usize,
    /// Requests in flight at once.
    #[schemars(range(min = 1, max = 256))]
    #[serde(default = "OpenAiEmbedder::default_concurrency")]
    pub concurrency: usize,
    /// The time that one request may take.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    #[serde(default = "OpenAiEmbedder::default_timeout")]
    pub timeout: Span,
    /// The price of the provider's tokens, for `pgstream_host_embedder_cost_total`. Default: nothing is said of money.
    #[serde(default)]
    pub price: Option<TokenPrice>,
}

/// The price of an embedding model.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenPrice {
    /// Of a million tokens, such as `0.02`.
    #[schemars(range(min = 0))]
    pub million_tokens: f64,
    /// The currency's three letters, such as `USD`.
    #[schemars(length(min = 3, max = 3))]
    pub currency: String,
}

impl OpenAiEmbedder {
    fn default_max_texts() -> usize {
        128 // below every provider's limit; larger requests gain little
    }
    fn default_concurrency() -> usize {
        4
    }
    fn default_timeout() -> Span {
        Span(Duration::from_secs(30))
    }
}

impl ComponentKind for OpenAiEmbedder {
    const TYPE: &'static str = "openai";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        problems.http_url(&["url"], &self.url, "https://api.openai.com/v1");
        if self.url.trim_end_matches('/').ends_with("/embeddings") {
            let message = "`url` is the base, without `/embeddings`";
            problems.at(&["url"], message, "the host adds `/embeddings` itself");
        }
        let Some(TokenPrice { million_tokens, currency }) = &self.price else { return };
        if !million_tokens.is_finite() || *million_tokens < 0.0 {
            let message = "expected a price of zero or more";
            problems.at(
                &["price", "million_tokens"],
                message,
                "what the provider asks for a million tokens, such as `0.02`",
            );
        }
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            problems.at(&["price", "currency"], "expected the three letters of a currency", "such as `USD` or `EUR`");
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { url, model: _, api_key: _, dimension: _, max_texts: _, concurrency: _, timeout: _, price: _ } = self;
        vec![Resource::HttpUrl { key: "url", url }]
    }
}

impl EmbedderKind for OpenAiEmbedder {
    fn open(&self, name: &str, account: Option<Account>) -> Result<Arc<dyn Embedder>> {
        Ok(Arc::new(Paid::new(OpenAi::open(name, self)?, account)))
    }

    fn dimension(&self) -> Option<usize> {
        self.dimension
    }
}
