//! The demo's story: fill the table, ask, change two rows, ask again.

use std::time::Instant;

use serde_json::Value;

use super::page::Page;
use super::stage::Stage;
use crate::error::Result;
use crate::sink::Hit;

/// Answered by one row and, once that is deleted, by a piece of a longer one.
const LOFT: &str = "my sleeping bag lost its loft after washing";
const REFUND: &str = "boots too small, can I get a refund";
/// Answered by a row that is then rewritten.
const EVENINGS: &str = "when are the repair evenings in the workshop";

const MOVED: &str = "Repair evenings have moved: the workshop is open to all every Thursday from six to nine.";

/// Points asked for, so that enough documents are left when pieces of one are shown once.
const POINTS: usize = 12;
const SHOWN: usize = 2;

pub(super) async fn tell(stage: &Stage, page: &mut Page) -> Result<()> {
    for (name, what) in stage.parts()? {
        page.fact(name, &what);
    }
    page.gap();
    fill(stage, page).await?;
    page.gap();
    page.text("Ask");
    for question in [LOFT, REFUND, EVENINGS] {
        show(page, question, &documents(stage, question).await?);
    }
    page.gap();
    page.text("Change a row, and ask again");
    update(stage, page).await?;
    page.gap();
    page.text("Delete a row, and ask again");
    delete(stage, page).await
}

async fn fill(stage: &Stage, page: &mut Page) -> Result<()> {
    page.text("Fill the table");
    let began = Instant::now();
    let rows = stage.fill().await?;
    page.done(&format!("{rows} rows committed in"), began.elapsed());
    let began = Instant::now();
    let arrive = async || {
        let arrived = stage.arrived();
        page.progress(&format!("{arrived} of {rows} rows in the store"));
        Ok((arrived >= rows).then_some(()))
    };
    stage.until("bringing every row into the store", arrive).await?;
    page.done(&format!("{rows} rows handled, embedded and searchable after another"), began.elapsed());
    Ok(())
}

async fn update(stage: &Stage, page: &mut Page) -> Result<()> {
    let found = documents(stage, EVENINGS).await?;
    let Some(best) = found.first() else { return Ok(()) };
    page.sql(&format!("UPDATE documents SET content = 'Repair evenings have moved: …' WHERE id = {}", best.id));
    let began = Instant::now();
    stage
        .execute("UPDATE public.documents SET content = $1, updated_at = now() WHERE id = $2", &[&MOVED, &best.id])
        .await?;
    let follows = async || {
        let found = documents(stage, EVENINGS).await?;
        let new = found.iter().any(|document| document.id == best.id && document.words == MOVED);
        Ok(new.then_some(found))
    };
    let found = stage.until("the new text becoming searchable", follows).await?;
    page.done("in the answer", began.elapsed());
    show(page, EVENINGS, &found);
    Ok(())
}

async fn delete(stage: &Stage, page: &mut Page) -> Result<()> {
    let found = documents(stage, LOFT).await?;
    let Some(best) = found.first() else { return Ok(()) };
    page.sql(&format!("DELETE FROM documents WHERE id = {}   -- {}", best.id, best.title));
    let began = Instant::now();
    stage.execute("DELETE FROM public.documents WHERE id = $1", &[&best.id]).await?;
    let follows = async || {
        let found = documents(stage, LOFT).await?;
        Ok(found.iter().all(|document| document.id != best.id).then_some(found))
    };
    let found = stage.until("the deleted row leaving the answers", follows).await?;
    page.done("gone from the answer", began.elapsed());
    show(page, LOFT, &found);
    Ok(())
}

/// A row of the table as a search finds it: by its nearest piece.
struct Document {
    id: i64,
    score: f32,
    title: String,
    words: String,
}

async fn documents(stage: &Stage, question: &str) -> Result<Vec<Document>> {
    let mut found: Vec<Document> = Vec::new();
    for document in stage.search(question, POINTS).await?.iter().filter_map(Document::of) {
        if found.iter().all(|known| known.id != document.id) {
            found.push(document);
        }
    }
    Ok(found)
}

impl Document {
    fn of(hit: &Hit) -> Option<Self> {
        let text = |key: &str| hit.payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            id: hit.payload.get("id")?.as_i64()?,
            score: hit.score,
            title: text("title"),
            words: text("content"),
        })
    }
}

fn show(page: &mut Page, question: &str, documents: &[Document]) {
    page.question(question);
    for document in documents.iter().take(SHOWN) {
        page.hit(document.score, &document.title, &document.words);
    }
}
