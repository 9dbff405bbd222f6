//! Postgres as a kind of source, which can be asked everything.

use std::sync::Arc;

use async_trait::async_trait;

use super::PostgresSettings;
use super::control::{self, Copying};
use super::{PostgresSource, Tap, read_back, replay, sample, standing};
use crate::config::SourceDatabase;
use crate::error::Result;
use crate::event::Batch;
use crate::meter::SourceMeter;
use crate::source::{
    AdministerSlot, AskedRows, Capability, Claim, Copied, CopyRequest, CopyRows, Fed, FollowCopies, OpenTap, ReadBack,
    SampleRow, Source, SourceKind, Standing, TapStream, WantedRow, Written,
};

#[async_trait]
impl SourceKind for PostgresSettings {
    fn claim(&self, pipeline: &str) -> Result<Option<Claim>> {
        let what = control::slot_of(pipeline, self)?;
        Ok(Some(Claim { what, help: "another `name`, or a `slot` and a `publication` of its own" }))
    }

    fn reads_back(&self, written: &Written<'_>) -> Option<ReadBack> {
        read_back::of_sink(self, written)
    }

    fn reads_state(&self) -> Option<ReadBack> {
        read_back::of_state(self)
    }

    async fn open(&self, pipeline: &str, sinks: Vec<Fed>, meter: Arc<SourceMeter>) -> Result<Box<dyn Source>> {
        Ok(Box::new(Box::pin(PostgresSource::connect_for(pipeline, self, sinks, meter)).await?))
    }

    async fn check(&self, pipeline: &str, sinks: Vec<Fed>) -> Result<()> {
        Box::pin(control::check_for(pipeline, self, sinks)).await
    }

    async fn samples(&self, pipeline: &str) -> Result<Vec<SampleRow>> {
        sample::samples(pipeline, self).await
    }

    fn database(&self) -> Option<SourceDatabase> {
        Some(SourceDatabase {
            url: self.url.clone(),
            password_file: self.password_file.clone(),
            trusted_owners: self.trusted_owners.clone(),
        })
    }

    fn slot(&self) -> Capability<'_, dyn AdministerSlot> {
        Ok(self)
    }

    fn rows(&self) -> Capability<'_, dyn CopyRows> {
        Ok(self)
    }

    fn tap(&self) -> Capability<'_, dyn OpenTap> {
        Ok(self)
    }
}

#[async_trait]
impl AdministerSlot for PostgresSettings {
    async fn set_up(&self, pipeline: &str) -> Result<Vec<String>> {
        control::setup(pipeline, self).await
    }

    async fn accept_sinks(&self, pipeline: &str) -> Result<()> {
        control::accept_sinks(pipeline, self).await
    }

    async fn begin_anew(&self, pipeline: &str) -> Result<Vec<String>> {
        let mut done = control::resnapshot(pipeline, self).await?;
        done.push("the next `pgstream-host run` clears the sinks and copies all rows".to_owned());
        Ok(done)
    }

    async fn standing(&self, pipeline: &str) -> Result<Standing> {
        standing::standing(pipeline, self).await
    }

    async fn tear_down(&self, pipeline: &str) -> Result<Vec<String>> {
        control::teardown(pipeline, self).await
    }
}

#[async_trait]
impl CopyRows for PostgresSettings {
    async fn ask_copy(&self, pipeline: &str, request: &CopyRequest) -> Result<(Vec<i64>, bool)> {
        control::ask_copy(pipeline, self, request).await
    }

    async fn ask_rows(&self, pipeline: &str, wanted: &[WantedRow<'_>]) -> Result<AskedRows> {
        replay::ask_rows(pipeline, self, wanted).await
    }

    async fn follow(&self, pipeline: &str) -> Result<Box<dyn FollowCopies>> {
        Ok(Box::new(Copying::open(pipeline, self).await?))
    }
}

#[async_trait]
impl FollowCopies for Copying {
    async fn look(&mut self, numbers: Option<&[i64]>) -> Result<Vec<Copied>> {
        Copying::look(self, numbers).await
    }
}

#[async_trait]
impl OpenTap for PostgresSettings {
    async fn open_tap(&self, pipeline: &str) -> Result<Box<dyn TapStream>> {
        Ok(Box::new(Tap::open(pipeline, self).await?))
    }
}

#[async_trait]
impl TapStream for Tap {
    fn tables(&self) -> &[String] {
        Tap::tables(self)
    }

    async fn next(&mut self) -> Result<Batch> {
        Tap::next(self).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Tap::close(*self).await
    }
}
