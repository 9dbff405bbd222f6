//! The kind of sink `dead-letters`, as the host asks for it.

use async_trait::async_trait;

use super::settings::DeadLettersSettings;
use super::{DeadLetters, Filter, Letters};
use crate::config::{Accepts, Problems, SourceDatabase};
use crate::error::Result;
use crate::postgres::Url;
use crate::sink::{Leftover, Look, Sink, SinkKind};

#[async_trait]
impl SinkKind for DeadLettersSettings {
    fn accepts() -> Accepts {
        Accepts::Rejected
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(DeadLetters::open(pipeline, self).await?))
    }

    async fn look(&self) -> Result<Look> {
        DeadLetters::look(self).await.map(|()| Look::default())
    }

    fn leftover(&self, purged: bool) -> Option<Leftover> {
        let how = "`--purge`, or `pgstream-host dlq drop`".to_owned();
        (!purged).then(|| Leftover { what: "the pipeline's dead letters".to_owned(), how })
    }

    fn parse(&self) -> Result<()> {
        self.url.as_ref().map_or(Ok(()), |url| Url::parse(url, self.password_file.clone()).map(drop))
    }

    fn complete(&mut self, source: Option<&SourceDatabase>, problems: &mut Problems<'_, '_>) {
        if self.url.is_none() {
            let Some(source) = source else {
                let help = "add `url: postgres://…`; or let a sink of `type: file` take them";
                problems.at(&[], "the source has no database that could keep dead letters", help);
                return;
            };
            self.url = Some(source.url.clone());
            if self.trusted_owners.is_empty() {
                self.trusted_owners.clone_from(&source.trusted_owners);
            }
            self.password_file = self.password_file.take().or_else(|| source.password_file.clone());
        }
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn purge(&self, pipeline: &str, _name: &str) -> Result<Vec<String>> {
        let letters = Letters::open(pipeline, self).await?.drop(&Filter::default()).await?;
        Ok(vec![format!("{letters} dead letters are removed")])
    }
}
