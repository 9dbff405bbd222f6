//! Log lines and errors as JSON, one object a line, with the same names for the same things:
//! `timestamp`, `level`, `message`, and `pipeline` where it is about one. Times are numbers, in
//! seconds, and named so.

use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::error::Error;

/// Writes events; the fields of spans around them stand beside their own.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let about = event.metadata();
        let mut line = head(about.level().as_str());
        line.insert("target".to_owned(), about.target().into());
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|fields| serde_json::from_str(&fields.fields));
            if let Some(Ok(Value::Object(fields))) = fields {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// An error that ends a command, or the pipeline that is named.
pub(super) fn error(pipeline: Option<&str>, error: &Error) -> String {
    let mut line = head("ERROR");
    line.extend(pipeline.map(|pipeline| ("pipeline".to_owned(), pipeline.into())));
    line.insert("message".to_owned(), error.headline().into());
    line.insert("error".to_owned(), error.chain().into());
    line.insert("where".to_owned(), error.places().into());
    line.extend(error.advice().map(|help| ("help".to_owned(), help.into())));
    line.insert("fault".to_owned(), format!("{:?}", error.fault()).to_lowercase().into());
    format!("{}\n", Value::Object(line))
}

/// A line that says what is wrong with a file; `fields` say it.
pub fn error_line(file: &str, fields: Value) -> String {
    let mut line = head("ERROR");
    line.insert("file".to_owned(), file.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    format!("{}\n", Value::Object(line))
}

fn head(level: &str) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("timestamp".to_owned(), jiff::Timestamp::now().to_string().into());
    line.insert("level".to_owned(), level.into());
    line
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
