//! The error of the whole host: what failed, who must act (`Fault`), where, why, and what to type.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::printable::printable;

/// Bytes of a headline or a cause that are shown. Our own are far shorter.
const LINK_BYTES: usize = 4096;

/// The result of anything that can fail for a reason a person should read.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The party that must act on an error. The host's own reaction depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It will pass: a connection cut, a server restarting, a rate limit. The host retries.
    Transient,
    /// The configuration is wrong: its author must change it.
    Config,
    /// The surroundings are wrong: a server unreachable, a privilege or a table missing. The
    /// operator must act.
    Environment,
    /// The handler did something that it must not: trapped, ran too long, answered nonsense. Its
    /// author must act.
    Handler,
    /// A value that cannot be represented where it has to go.
    Data,
    /// A mistake in this program.
    Bug,
}

impl Fault {
    /// All of them, in their order.
    pub const ALL: [Fault; 6] =
        [Fault::Transient, Fault::Config, Fault::Environment, Fault::Handler, Fault::Data, Fault::Bug];

    /// The word for it, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Transient => "transient",
            Fault::Config => "config",
            Fault::Environment => "environment",
            Fault::Handler => "handler",
            Fault::Data => "data",
            Fault::Bug => "bug",
        }
    }

    /// Tells whether the same may go well later, with nothing changed in what somebody wrote.
    pub fn may_pass(self) -> bool {
        matches!(self, Fault::Transient | Fault::Environment)
    }

    /// The exit code of a command that ends with this fault.
    pub fn exit_code(self) -> u8 {
        match self {
            Fault::Config => 2,
            Fault::Environment => 3,
            Fault::Transient | Fault::Handler | Fault::Data | Fault::Bug => 1,
        }
    }
}

/// The reason for which an event cannot be taken, for machines: its word stands in dead letters. An
/// error that carries one may be the fault of single events of its batch; an error without one is
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The handler refused the event, in its own words.
    Rejected,
    /// It crashed: a panic, an exception that nobody caught, `exit`, no stack left.
    Trap,
    /// It computed for longer than its deadline.
    Deadline,
    /// It waited for answers and alarms for longer than a call may.
    Wait,
    /// It wanted more memory than its limit.
    Memory,
    /// It answered or handed over more than its limit.
    Output,
    /// It asked for more embeddings than a call may.
    Embed,
    /// It answered what the contract forbids: a wrong index, a number that is none, text that is no
    /// JSON.
    Contract,
    /// An embedder refused a text that the handler made of it, and takes others.
    Text,
    /// A sink refused what the handler made of it.
    Sink,
    /// It is a line that could not be read as an event.
    Line,
}

impl Code {
    /// All of them, in their order.
    pub const ALL: [Code; 11] = [
        Code::Rejected,
        Code::Trap,
        Code::Deadline,
        Code::Wait,
        Code::Memory,
        Code::Output,
        Code::Embed,
        Code::Contract,
        Code::Text,
        Code::Sink,
        Code::Line,
    ];

    /// The word for it in dead letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Rejected => "rejected",
            Code::Trap => "trap",
            Code::Deadline => "deadline",
            Code::Wait => "wait",
            Code::Memory => "memory",
            Code::Output => "output",
            Code::Embed => "embed",
            Code::Contract => "contract",
            Code::Text => "text",
            Code::Sink => "sink",
            Code::Line => "line",
        }
    }
}

/// A failure, in words for a person. Never holds a secret or the value of a row.
///
/// Texts are lower case, without a full stop, with names in backticks. A cause is given once,
/// through [`because`](Error::because), and is never repeated in `what`.
pub struct Error(Box<Inner>);

struct Inner {
    fault: Fault,
    what: String,
    place: Vec<String>,
    help: Option<String>,
    code: Option<Code>,
    pause: Option<Duration>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of which `what` is the headline: "slot `docs` is used by another process".
    pub fn new(fault: Fault, what: impl Into<String>) -> Self {
        let (what, place) = (what.into(), Vec::new());
        Self(Box::new(Inner { fault, what, place, help: None, code: None, pause: None, cause: None }))
    }

    /// Adds the error that led to this one.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds where it happened, from the inside out: "table `public.documents`", then "sink
    /// `search`".
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.place.push(place.into());
        self
    }

    /// Says what to do, with the command or the line to type. An earlier, more precise help stays.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Says what kind of misdeed it is, and that a single event can have caused it.
    pub fn code(mut self, code: Code) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Returns the kind of misdeed, if it is one that a single event can have caused.
    pub fn misdeed(&self) -> Option<Code> {
        self.0.code
    }

    /// Says how long another try is in vain, as far as that is known.
    pub fn after(mut self, pause: Duration) -> Self {
        self.0.pause = Some(pause);
        self
    }

    /// Returns the time for which another try is in vain, as far as that is known.
    pub fn pause(&self) -> Option<Duration> {
        self.0.pause
    }

    /// Wraps the error in a wider headline, which is about more than the misdeed of one call.
    /// Fault, place, help and pause stay; the old headline becomes a cause.
    pub fn within(self, what: impl Into<String>) -> Self {
        let Inner { fault, what: inner, place, help, code: _, pause, cause } = *self.0;
        let cause = Some(Box::new(Cause { what: inner, cause }) as Box<dyn StdError + Send + Sync>);
        Self(Box::new(Inner { fault, what: what.into(), place, help, code: None, pause, cause }))
    }

    /// The same error, with somebody else to act.
    pub fn blame(mut self, fault: Fault) -> Self {
        self.0.fault = fault;
        self
    }

    /// Returns the party that must act.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// The advice, if there is one.
    pub fn advice(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The headline alone, fit to be shown.
    pub fn headline(&self) -> String {
        printable(&self.0.what)
    }

    /// Lists the places where it happened, from the inside out, fit to be shown.
    pub fn places(&self) -> Vec<String> {
        self.0.place.iter().map(|place| printable(place)).collect()
    }

    /// The error and its causes on one line, for a log.
    pub fn chain(&self) -> String {
        let mut text = shown(&self.0.what);
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {}", shown(error.to_string().trim_end()));
            cause = error.source();
        }
        text
    }

    /// The whole error over several lines, as the command line prints it.
    pub fn report(&self) -> String {
        let mut text = format!("error: {}\n", shown(&self.0.what));
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!("  caused by: {}\n", shown(error.to_string().trim_end())));
            cause = error.source();
        }
        if !self.0.place.is_empty() {
            text.push_str(&format!("  where: {}\n", printable(&self.0.place.join(", "))));
        }
        if let Some(help) = &self.0.help {
            let lines: Vec<String> = help.trim_end().lines().map(printable).collect();
            text.push_str(&format!("  help: {}\n", lines.join("\n        ")));
        }
        text
    }
}

/// One link of the chain, fit to be shown. Servers that others chose write causes, and choose how
/// long.
fn shown(text: &str) -> String {
    let cut = text.floor_char_boundary(LINK_BYTES);
    match text.split_at_checked(cut) {
        Some((start, rest)) if !rest.is_empty() => format!("{}… ({} bytes more)", printable(start), rest.len()),
        _ => printable(text),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {}", self.0.fault, self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn StdError + 'static))
    }
}

/// A former headline, kept as a link of the chain by [`Error::within`].
#[derive(Debug)]
struct Cause {
    what: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_why_where_and_what_to_type() {
        let error = Error::new(Fault::Handler, "handler `embed` exceeded its deadline")
            .because(std::io::Error::other("the call ran 1.02 s, the limit is 1 s\n\u{1b}[31mforged"))
            .at("event 17 of 40")
            .at("table `public.documents`")
            .help("raise `transforms.embed.limits.deadline`")
            .help("a later, vaguer help")
            .within("pipeline `documents` stopped");
        assert_eq!(
            error.report(),
            "error: pipeline `documents` stopped\n  \
             caused by: handler `embed` exceeded its deadline\n  \
             caused by: the call ran 1.02 s, the limit is 1 s \u{FFFD}[31mforged\n  \
             where: event 17 of 40, table `public.documents`\n  \
             help: raise `transforms.embed.limits.deadline`\n"
        );
        assert_eq!(error.fault().exit_code(), 1);
        assert!(
            error.chain().starts_with("pipeline `documents` stopped: handler `embed` exceeded its deadline: the call")
        );
        assert_eq!(error.chain().lines().count(), 1);
    }

    #[test]
    fn what_somebody_else_made_long_is_cut() {
        let long = "ä".repeat(1 << 20);
        let error = Error::new(Fault::Environment, long.clone()).because(std::io::Error::other(long));
        assert!(error.chain().len() < 9000 && error.report().len() < 9000);
        assert!(error.chain().ends_with("… (2093056 bytes more)"), "{:?}", error.chain().len());
    }

    #[test]
    fn no_part_of_it_can_drive_the_terminal() {
        let hostile = "a\u{1b}[2J\u{202e}b\nerror: forged";
        let error = Error::new(Fault::Config, hostile).because(hostile).at(hostile).help(format!("x\n{hostile}"));
        let (report, chain) = (error.report(), error.chain());
        assert!(
            !report.replace('\n', "").chars().chain(chain.chars()).any(crate::printable::acts),
            "{report:?} {chain:?}"
        );
        assert!(!report.lines().skip(1).any(|line| line.starts_with("error")), "{report}");
    }
}
